//! Where the engine commits: each list by what it is for. A world counts at which of them its engines died, before the
//! commit was on disk or right after.
//!
//! Deaths at random rarely hit a rare commit, so each world passes three times: once to see which commits there are, and
//! twice more to die at one of them. Some commits hardly come up by themselves: `incident.rs` brings them about.

use std::collections::BTreeMap;

use stepwell::rules::family::INVOKED;
use stepwell::rules::recovery::POISON_REASON;
use stepwell::rules::row::Recorded;
use stepwell::rules::{Ending, Expect, Gate, Kind, List, Outcome, Resolution, RunState, What, Write};

use super::dice::Dice;
use super::plan::{Death, Moment, Plan, Way};

/// Declares the sites, all of them in one list, roughly from the rare ones to the common ones.
macro_rules! sites {
    ($($(#[doc = $doc:literal])* $site:ident,)+) => {
        /// A place in the engine that commits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Site {
            $($(#[doc = $doc])* $site,)+
        }

        /// All of them, in this order.
        pub const ALL: &[Site] = &[$(Site::$site,)+];
    };
}

sites! {
    /// A race is decided, and what its other branches wait for is given up, ...
    Leave,
    /// ... or there is nothing to give up.
    Race,
    /// Versions of handlers that nobody needs are deleted.
    OldSources,
    /// A drain puts a run back into the queue.
    Requeue,
    /// A child of a run that is cancelled is, too.
    Orphan,
    /// The wait for an invoked run takes too long, and the run is cancelled.
    GiveUp,
    RetryNow,
    /// A run takes the place of another one.
    Replace,
    /// A run whose function is gone is parked.
    Gone,
    /// Another version of the handler takes a run over.
    Adopt,
    /// What a wait came to is recorded.
    Waited,
    CancelOn,
    Pause,
    /// An event that is skipped.
    Skip,
    Debounce,
    Batch,
    /// One that a rate limit counts.
    Count,
    /// A start with a throttle.
    Throttle,
    /// A function's place in its schedule is noted as an engine starts or goes over to another edition, which lists do not tell apart, ...
    Position,
    /// ... or the clock starts it.
    Tick,
    /// A run is done again.
    Replay,
    /// Somebody outside invokes a function.
    Call,
    /// The sources of the handlers of a reload are stored.
    NewSources,
    /// A run that killed the engine is parked.
    Poison,
    StartTimeout,
    FinishTimeout,
    /// A run starts in a slot of another one, whose end is on its way.
    PassedOn,
    /// Somebody cancels.
    Cancel,
    /// A step's result, with the values that it keeps under keys.
    Keep,
    Signal,
    Send,
    /// A wait is opened, with the run that it is for.
    Invoke,
    /// The time of a wait is over, ...
    TimeOut,
    /// ... or an event resolves it: one that comes, from outside or from a script, or that is found by looking back. The list is the same.
    Resolve,
    /// The run is suspended in it.
    Wait,
    /// A wait is opened.
    Open,
    /// Nothing, behind what another lane holds, or what was handed over before.
    Barrier,
    /// It is noted that an event came again.
    Repeat,
    Sweep,
    /// A step has used its attempts up.
    StepFailed,
    Fail,
    /// A value that nobody can foresee, before the step that sees it.
    Tiny,
    /// A start puts a run that was running back into the queue.
    Recover,
    Sleep,
    /// An attempt failed, and another one follows.
    BackOff,
    Sources,
    Complete,
    /// A step has its result.
    Record,
    /// An event with its runs.
    Accept,
    Start,
    // What incidents come to.
    /// The end of a run, with the runs that are told of it.
    Tell,
    /// Somebody takes a run to the newest version of its handler.
    Migrate,
    /// Lines of a log, before a step.
    Lines,
    /// A reload stores how far the throttles are, by their new rules.
    Rethrottle,
    /// A run that could never begin is cancelled.
    Deadlock,
    /// A signal that somebody outside sends resolves a wait.
    Hear,
    /// The clock leaves out times that were missed.
    Missed,
}

/// So many of them are drawn among for the deaths of a world: those that came later shift no draw.
pub const DRAWN: usize = 55;

/// How many commits of each site there were.
pub type Met = BTreeMap<Site, u64>;

/// How often the engines died at each site: before its commit, and after.
pub type Cuts = BTreeMap<(Site, &'static str), u32>;

pub const BEFORE: &str = "before";
pub const AFTER: &str = "after";

/// Whether a write is of some kind.
type Is = fn(&Write) -> bool;

fn is_line(write: &Write) -> bool {
    matches!(write, Write::Log { .. })
}

fn is_count(write: &Write) -> bool {
    matches!(write, Write::PutWindow(_) | Write::RaiseWindow(_))
}

fn is_value(write: &Write) -> bool {
    matches!(write, Write::PutValue(_) | Write::DropValue(_))
}

impl Site {
    /// The site that a list comes from; `recovering` in an engine's first commit of all. None for a list of no site: then this
    /// does not know everything that the engine does.
    pub fn of(list: &List, recovering: bool) -> Option<Site> {
        let has = |what: Is| list.writes.iter().any(what);
        let Some(mut last) = list.writes.iter().rev().find(|write| !is_line(write) && !is_count(write)) else {
            return Some(match list.writes.first() {
                None => Site::Barrier,
                Some(_) if has(is_line) => Site::Lines,
                Some(_) => Site::Rethrottle,
            });
        };
        if has(|write| matches!(write, Write::CreateRun(row) if row.replay_of.is_some())) {
            return Some(Site::Replay);
        }
        if let Some(row) = list.writes.iter().find_map(|write| if let Write::OpenWait(row) = write { Some(row) } else { None }) {
            return Some(if matches!(*row.what, What::Run(_)) { Site::Invoke } else { Site::Open });
        }
        if has(|write| matches!(write, Write::DropWait(_))) {
            return Some(Site::Leave);
        }
        if has(is_value) {
            return Some(Site::Keep);
        }
        let is_skip: Is = |write| {
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
        let is_event = has(|write| matches!(write, Write::InsertEvent(_)));
        let ends = has(|write| matches!(write, Write::End { .. }));
        if is_event && ends {
            return Some(Site::Tell);
        }
        if is_event && !is_sent {
            if has(|write| matches!(write, Write::InsertEvent(row) if &*row.name == INVOKED)) {
                return Some(Site::Call);
            }
            if let Some((_, site)) = gates.into_iter().find(|(what, _)| has(*what)) {
                return Some(site);
            }
            if has(is_skip) {
                return Some(Site::Skip);
            }
        }
        if has(|write| matches!(write, Write::Start { .. })) && has(is_count) {
            return Some(Site::Throttle);
        }
        let sends = |write: &&Write| matches!(write, Write::Append { record, .. } if record.kind == Kind::Send);
        if let Some(Write::Append { record, .. }) = list.writes.iter().find(sends) {
            return Some(if record.key.contains("signal") { Site::Signal } else { Site::Send });
        }
        let others = list.writes.iter().filter(|write| matches!(write, Write::IfOpen { .. })).count();
        if others > 0 && has(|write| matches!(write, Write::ResolveWait { with: Resolution::TimedOut, .. })) {
            return Some(Site::GiveUp);
        }
        if others > 0 && has(|write| matches!(write, Write::ResolveWait { with: Resolution::Failed(_), .. })) {
            return Some(Site::Deadlock);
        }
        if others > 1 {
            return Some(Site::Orphan);
        }
        let adopts = has(|write| matches!(write, Write::Adopt { .. }));
        let migrates = |write: &Write| matches!(write, Write::PutSource(_) | Write::Adopt { .. } | Write::RetryNow { .. });
        if adopts && list.writes.iter().all(migrates) {
            return Some(Site::Migrate);
        }
        if let Write::IfOpen { writes, .. } = last {
            last = writes.iter().find(|write| matches!(write, Write::End { .. }))?;
        }
        // What follows from an end comes with it.
        last = list.writes.iter().find(|write| matches!(write, Write::End { .. })).unwrap_or(last);
        Some(match last {
            Write::NoteOutcome { .. } if !is_event => Site::Repeat,
            Write::InsertEvent(_)
            | Write::NoteOutcome { .. }
            | Write::CreateRun(_)
            | Write::TakeEventKey { .. }
            | Write::TakeIdempotency { .. } => Site::Accept,
            Write::Start { .. } if list.expect.iter().any(|expect| matches!(expect, Expect::RunOver(_))) => Site::PassedOn,
            Write::Start { .. } => Site::Start,
            _ if adopts => Site::Adopt,
            Write::Append { record, .. } => match (record.kind, &record.result) {
                (Kind::Step, Recorded::Failed(_)) => Site::StepFailed,
                (Kind::Step, _) => Site::Record,
                (Kind::Sleep, _) => Site::Sleep,
                (Kind::Wait | Kind::Invoke, _) => Site::Waited,
                (Kind::Race, _) => Site::Race,
                _ => Site::Tiny,
            },
            Write::Suspend { state: RunState::Sleeping, .. } => Site::Sleep,
            Write::Suspend { state: RunState::Waiting, .. } => Site::Wait,
            Write::RecordWait(_) => Site::Waited,
            Write::ResolveWait { with: Resolution::TimedOut, .. } => Site::TimeOut,
            Write::ResolveWait { with: Resolution::Value(_), .. } => Site::Hear,
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
            Write::PutCron(_) if list.expect.iter().any(|expect| matches!(expect, Expect::CronAt { .. })) => Site::Missed,
            Write::PutCron(_) | Write::DropCron(_) => Site::Position,
            Write::Park { reason, .. } if &**reason == POISON_REASON => Site::Poison,
            Write::Park { .. } => Site::Gone,
            Write::PutSource(_) if recovering => Site::Sources,
            Write::PutSource(_) => Site::NewSources,
            Write::DropSource(_) => Site::OldSources,
            Write::Sweep { .. } => Site::Sweep,
            // Never what a list is about: they come with something else, which is asked for before, or are left out of `last`.
            Write::Retarget { .. } | Write::AddEvent { .. } | Write::OpenWait(_) | Write::DropWait(_) | Write::DropWaits(_) => {
                return None;
            }
            Write::PutWindow(_) | Write::RaiseWindow(_) | Write::Adopt { .. } | Write::Log { .. } | Write::IfOpen { .. } => return None,
            Write::PutValue(_) | Write::DropValue(_) => return None,
        })
    }
}

/// The plan with another death: at a commit that the world has made, before it is on disk and right after. Half of the
/// time it is the rarest there is, or one of the rarest; where the one of the world's incident is there, always that.
pub fn aimed(plan: &Plan, met: &[Met], incident: Option<Site>, dice: &mut Dice) -> Option<[Plan; 2]> {
    let made: Vec<Site> = ALL.iter().copied().filter(|site| met.iter().any(|met| met.contains_key(site))).collect();
    let among = match dice.below(20) {
        0..9 => 1,
        9..13 => 4,
        _ => made.len(),
    };
    let drawn = *made.get(dice.below(among.min(made.len()).max(1)))?;
    let site = incident.filter(|site| made.contains(site)).unwrap_or(drawn);
    let lives: Vec<(usize, u64)> = met.iter().enumerate().filter_map(|(life, met)| Some((life, *met.get(&site)?))).collect();
    let (life, count) = *dice.pick(&lives);
    let number = dice.between(0, count as i64 - 1) as u64;
    Some([Moment::Before, Moment::After].map(|moment| {
        let mut plan = plan.clone();
        let calm =
            Death { way: Way::Time { ms: i64::MAX / 4 }, end: Ending::Killed, down_ms: 1_000, jump_ms: 0, edited: false, power: false };
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
