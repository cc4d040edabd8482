//! Where the engine commits: each list by what it is for. A world counts at which of them its engines died, before the
//! commit was on disk or right after.
//!
//! Deaths at random rarely hit a rare commit, so each world passes three times: once to see which commits there are, and
//! twice more to die at one of them.

use std::collections::BTreeMap;

use stepwell::rules::recovery::POISON_REASON;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Ending, Gate, Kind, List, Outcome, Resolution, RunState, What, Write};

use super::dice::Dice;
use super::plan::{Death, Moment, Plan, Way};

/// A place in the engine that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// An event with its runs.
    Accept,
    Start,
    /// A step has its result.
    Record,
    /// A step has used its attempts up.
    StepFailed,
    /// A value that nobody can foresee, before the step that sees it.
    Tiny,
    /// Another version of the handler takes a run over.
    Adopt,
    Sleep,
    /// An attempt failed, and another one follows.
    BackOff,
    Complete,
    Fail,
    /// Somebody cancels.
    Cancel,
    StartTimeout,
    FinishTimeout,
    /// A drain puts a run back into the queue.
    Requeue,
    /// A start puts a run that was running back into the queue.
    Recover,
    /// A run that killed the engine is parked.
    Poison,
    /// A run whose function is gone is parked.
    Gone,
    Sources,
    Sweep,
    /// A wait is opened, ...
    Open,
    /// ... with the run that it is for.
    Invoke,
    /// The run is suspended in it.
    Wait,
    /// An event or a signal resolves it, or the time is over.
    Resolve,
    TimeOut,
    /// What it came to is recorded.
    Waited,
    /// A child of a run that is cancelled is, too.
    Orphan,
    Send,
    Signal,
    // Gates.
    /// An event that is skipped.
    Skip,
    /// One that a rate limit counts.
    Count,
    /// A run takes the place of another one.
    Replace,
    Debounce,
    Batch,
    CancelOn,
    /// A start with a throttle.
    Throttle,
    /// The clock starts a function, ...
    Tick,
    /// ... or a function's place in its schedule is noted.
    Position,
    Pause,
    RetryNow,
}

/// All of them, roughly from the rare ones to the common ones.
pub const ALL: [Site; 39] = [
    Site::Requeue,
    Site::Orphan,
    Site::RetryNow,
    Site::Replace,
    Site::CancelOn,
    Site::Pause,
    Site::Skip,
    Site::Debounce,
    Site::Batch,
    Site::Count,
    Site::Throttle,
    Site::Position,
    Site::Tick,
    Site::Poison,
    Site::Gone,
    Site::StartTimeout,
    Site::FinishTimeout,
    Site::Cancel,
    Site::Adopt,
    Site::Signal,
    Site::Send,
    Site::Invoke,
    Site::TimeOut,
    Site::Resolve,
    Site::Waited,
    Site::Wait,
    Site::Open,
    Site::Sweep,
    Site::StepFailed,
    Site::Fail,
    Site::Tiny,
    Site::Recover,
    Site::Sleep,
    Site::BackOff,
    Site::Sources,
    Site::Complete,
    Site::Record,
    Site::Accept,
    Site::Start,
];

/// How many commits of each site there were.
pub type Met = BTreeMap<Site, u64>;

/// How often the engines died at each site: before its commit, and after.
pub type Cuts = BTreeMap<(Site, &'static str), u32>;

pub const BEFORE: &str = "before";
pub const AFTER: &str = "after";

/// Whether a write is of some kind.
type Is = fn(&Write) -> bool;

impl Site {
    /// The site that a list comes from; `recovering` in an engine's first commit of all.
    pub fn of(list: &List, recovering: bool) -> Option<Site> {
        let mut last =
            list.writes.iter().rev().find(|write| !matches!(write, Write::Log { .. } | Write::PutWindow(_) | Write::RaiseWindow(_)))?;
        if let Some(row) = list.writes.iter().find_map(|write| if let Write::OpenWait(row) = write { Some(row) } else { None }) {
            return Some(if matches!(*row.what, What::Run(_)) { Site::Invoke } else { Site::Open });
        }
        let has = |what: fn(&Write) -> bool| list.writes.iter().any(what);
        let is_skip = |write: &Write| {
            let Write::NoteOutcome { outcome, .. } = write else { return false };
            matches!(outcome, Outcome::RateLimited { .. } | Outcome::SingletonSkipped(_))
        };
        let gates: [(Is, Site); 5] = [
            (|write| matches!(write, Write::PutCron(_)), Site::Tick),
            (|write| matches!(write, Write::Retarget { .. }), Site::Debounce),
            (|write| matches!(write, Write::AddEvent { .. }), Site::Batch),
            (|write| matches!(write, Write::IfOpen { .. }), Site::Replace),
            (|write| matches!(write, Write::PutWindow(row) if row.window.gate == Gate::RateLimit), Site::Count),
        ];
        let is_sent = has(|write| matches!(write, Write::Append { .. }));
        if has(|write| matches!(write, Write::InsertEvent(_))) && !is_sent {
            if let Some((_, site)) = gates.into_iter().find(|(what, _)| has(*what)) {
                return Some(site);
            }
            if has(is_skip) {
                return Some(Site::Skip);
            }
        }
        if has(|write| matches!(write, Write::Start { .. })) && has(|write| matches!(write, Write::PutWindow(_) | Write::RaiseWindow(_))) {
            return Some(Site::Throttle);
        }
        let sends = |write: &&Write| matches!(write, Write::Append { record, .. } if record.kind == Kind::Send);
        if let Some(Write::Append { record, .. }) = list.writes.iter().find(sends) {
            return Some(if record.key.contains("signal") { Site::Signal } else { Site::Send });
        }
        if list.writes.iter().filter(|write| matches!(write, Write::IfOpen { .. })).count() > 1 {
            return Some(Site::Orphan);
        }
        if let Write::IfOpen { writes, .. } = last {
            last = writes.iter().find(|write| matches!(write, Write::End { .. }))?;
        }
        // What follows from an end comes with it.
        last = list.writes.iter().find(|write| matches!(write, Write::End { .. })).unwrap_or(last);
        let adopts = list.writes.iter().any(|write| matches!(write, Write::Adopt { .. }));
        Some(match last {
            Write::InsertEvent(_)
            | Write::NoteOutcome { .. }
            | Write::CreateRun(_)
            | Write::TakeEventKey { .. }
            | Write::TakeIdempotency { .. } => Site::Accept,
            Write::Start { .. } => Site::Start,
            _ if adopts => Site::Adopt,
            Write::Append { record, .. } => match (record.kind, &record.result) {
                (Kind::Step, Recorded::Failed(_)) => Site::StepFailed,
                (Kind::Step, _) => Site::Record,
                (Kind::Sleep, _) => Site::Sleep,
                (Kind::Wait | Kind::Invoke, _) => Site::Waited,
                _ => Site::Tiny,
            },
            Write::Suspend { state: RunState::Sleeping, .. } => Site::Sleep,
            Write::Suspend { state: RunState::Waiting, .. } => Site::Wait,
            Write::RecordWait(_) => Site::Waited,
            Write::ResolveWait { with: Resolution::TimedOut, .. } => Site::TimeOut,
            Write::ResolveWait { .. } => Site::Resolve,
            Write::Suspend { .. } | Write::Attempt { .. } => Site::BackOff,
            Write::End { state: RunState::Completed, .. } => Site::Complete,
            Write::End { state: RunState::Failed, .. } => Site::Fail,
            Write::End { reason, .. } => match reason.as_deref().unwrap_or_default() {
                reason if reason.starts_with("timeouts.start") => Site::StartTimeout,
                reason if reason.starts_with("timeouts.finish") => Site::FinishTimeout,
                reason if reason.starts_with("cancel_on") => Site::CancelOn,
                _ => Site::Cancel,
            },
            Write::Requeue { .. } if recovering => Site::Recover,
            Write::Requeue { .. } => Site::Requeue,
            Write::RetryNow { .. } => Site::RetryNow,
            Write::Pause(_) => Site::Pause,
            Write::PutCron(_) | Write::DropCron(_) => Site::Position,
            Write::Park { reason, .. } if &**reason == POISON_REASON => Site::Poison,
            Write::Park { .. } => Site::Gone,
            Write::PutSource(_) | Write::DropSource(_) => Site::Sources,
            Write::Sweep { .. } => Site::Sweep,
            Write::Retarget { .. } | Write::AddEvent { .. } => return None,
            Write::OpenWait(_) | Write::DropWaits(_) => return None,
            Write::PutWindow(_) | Write::RaiseWindow(_) | Write::Adopt { .. } | Write::Log { .. } | Write::IfOpen { .. } => return None,
            Write::PutValue(_) | Write::DropValue(_) => return None,
        })
    }
}

/// The plan with another death: at a commit that the world has made, before it is on disk and right after. Half of the
/// time it is one of the rarest there is.
pub fn aimed(plan: &Plan, met: &[Met], dice: &mut Dice) -> Option<[Plan; 2]> {
    let made: Vec<Site> = ALL.into_iter().filter(|site| met.iter().any(|met| met.contains_key(site))).collect();
    let site = if dice.chance(50) { *made.first()? } else { *made.get(dice.below(made.len().max(1)))? };
    let lives: Vec<(usize, u64)> = met.iter().enumerate().filter_map(|(life, met)| Some((life, *met.get(&site)?))).collect();
    let (life, count) = *dice.pick(&lives);
    let number = dice.between(0, count as i64 - 1) as u64;
    Some([Moment::Before, Moment::After].map(|moment| {
        let mut plan = plan.clone();
        let calm = Death { way: Way::Time { ms: i64::MAX / 4 }, end: Ending::Killed, down_ms: 1_000, jump_ms: 0, edited: false };
        let old = plan.deaths.get(life).copied().unwrap_or(calm);
        let drain_ms = match old.way {
            Way::Drain { ms } => Some(ms),
            _ => None,
        };
        let death = Death { way: Way::Site { site, number, moment, drain_ms }, ..old };
        match plan.deaths.get_mut(life) {
            Some(place) => *place = death,
            None => plan.deaths.push(death),
        }
        plan
    }))
}
