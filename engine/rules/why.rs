//! Why a run is not moving, and when it will: sentences made of its rows.

use std::sync::Arc;

use crate::base::{Millis, Span};

use super::gates::Collect;
use super::policy::Timeouts;
use super::queue::{AHEAD_MOST, Blocked};
use super::race::Races;
use super::row::{AttemptRow, Failure, Record, Recorded, RunRow, RunState};
use super::waits::{WaitRow, WaitState, What};

/// What a run's row alone tells; none where it is under way, has ended, stands in line, or waits for something from outside.
pub fn row(run: &RunRow, now: Millis) -> Option<String> {
    match run.state {
        RunState::Parked => Some(format!("parked: {}", run.reason.as_deref().unwrap_or("no reason was recorded"))),
        RunState::Sleeping => Some(format!("sleeping; goes on {}", due(run.wake, now))),
        RunState::BackingOff => {
            let (error, next) = match &run.error {
                // The code between steps counts its attempts in the run's row, which is one ahead by now.
                Some(error) => (error.message.as_str(), following(error, error.attempts.unwrap_or(run.attempt.saturating_sub(1)))),
                None => ("an attempt failed", "the next one".to_owned()),
            };
            let asked = run.error.as_ref().map_or("", |error| error.asked_words());
            Some(format!("backing off after a failed attempt ({error}); {next} comes {}{asked}", due(run.wake, now)))
        }
        RunState::Queued if run.enter > now && run.started.is_none() => {
            let starts = due(Some(run.enter), now);
            Some(match run.collects() {
                // How it does so, its function says: that one has changed since.
                Some(_) => format!("its function collects no events any more; starts {starts}, with those that it has"),
                None => format!("its event's time has not come; starts {starts}"),
            })
        }
        _ => None,
    }
}

/// Why a run that collects events has not started, and when it will; none where its time has come. `events` are those that it has.
pub fn collecting(run: &RunRow, how: Collect, events: usize, now: Millis) -> Option<String> {
    if run.enter <= now || run.started.is_some() {
        return None;
    }
    let when = due(Some(run.enter), now);
    Some(match how {
        Collect::Debounce { period, timeout } => {
            let latest = timeout.map(|timeout| format!(", {} after the first one at the latest", timeout)).unwrap_or_default();
            format!("debounced: it waits until no event of its key has come for {period}; starts {when} unless another one comes{latest}")
        }
        Collect::Batch { size, .. } => format!("collects a batch: {events} of {size} events; starts {when}, or when it is full"),
    })
}

/// The attempt that follows a failed one, with its number where it is known of how many.
fn following(error: &Failure, failed: u32) -> String {
    error.allowed.map_or_else(|| "the next one".to_owned(), |allowed| format!("attempt {} of {allowed}", failed + 1))
}

/// Whether a run stands in line: it is queued, or its time to go on has come.
pub fn is_in_line(run: &RunRow, now: Millis) -> bool {
    match run.state {
        RunState::Queued => run.started.is_some() || run.enter <= now,
        RunState::Sleeping | RunState::BackingOff | RunState::Waiting => run.wake.is_some_and(|wake| wake <= now),
        _ => false,
    }
}

/// What a run of `function` that stands in line waits for.
pub fn blocked(function: &str, blocked: &Blocked, now: Millis) -> String {
    match blocked {
        Blocked::Limit { scope, key, limit, holder } => {
            let holder = holder.map(|run| format!("; run {run} has {}", if *limit == 1 { "it" } else { "one" })).unwrap_or_default();
            format!("waits for a slot: {}{holder}", allows(scope, key, *limit))
        }
        Blocked::Throttle { key, rule, ahead, at } => {
            let (line, starts) = match *ahead {
                0 => ("it is the next one".to_owned(), "starts"),
                1 => ("1 run stands before it".to_owned(), "starts"),
                AHEAD_MOST => (format!("{AHEAD_MOST} runs or more stand before it"), "starts later than"),
                ahead => (format!("{ahead} runs stand before it"), "starts"),
            };
            let rule = format!("{} per {}{}", plural(rule.limit, "start"), rule.period, of(key));
            format!("throttled: {function} allows {rule}; {line}, {starts} {}", due(Some(*at), now))
        }
    }
}

/// What a limit with this scope, as `Want` has it, allows for a key: "charge allows 2 runs at a time for key 7".
pub fn allows(scope: &str, key: &str, limit: u32) -> String {
    format!("{} allows {} at a time{}", scope.split('#').next().unwrap_or_default(), plural(limit, "run"), of(key))
}

fn of(key: &str) -> String {
    if key == "null" { String::new() } else { format!(" for key {key}") }
}

fn plural(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What a run that a worker has is at work on: a step, the number of its attempt, and since when; none between the steps.
pub fn running(step: Option<(Arc<str>, u32, Millis)>, now: Millis) -> String {
    match step {
        Some((step, 1, since)) => format!("step {step} is under way, for {}", now.since(since)),
        Some((step, attempt, since)) => format!("attempt {attempt} of step {step} is under way, for {}", now.since(since)),
        None => "its handler is at work between its steps".to_owned(),
    }
}

/// What an open wait is for, and when it is given up. `child` is the run that it waits for, if it waits for one.
pub fn wait(row: &WaitRow, child: Option<&RunRow>, now: Millis) -> String {
    let what = match &*row.what {
        What::Run(id) => match child {
            Some(child) => format!("run {id} of `{}`, which is {}", child.function, child.state.word()),
            None => row.what.words(),
        },
        what => what.words(),
    };
    let until = match row.until {
        Some(until) if until > now => format!("gives up {}", due(Some(until), now)),
        Some(_) => "its time is over".to_owned(),
        None => "without a time-out of its own".to_owned(),
    };
    format!("waits for {what}; {until}")
}

/// When a run is given up by its function's time-outs, whatever it waits for; none where neither counts for it. `resumed` is when its
/// function was resumed last.
pub fn ends(run: &RunRow, timeouts: Timeouts, resumed: Option<Millis>, now: Millis) -> Option<String> {
    if run.state.rests() {
        return None;
    }
    let (option, at, unless) = match run.started {
        Some(started) => ("finish", timeouts.latest_end(started)?, ""),
        None => ("start", timeouts.latest_start(run.enter, resumed)?, " unless it has begun by then"),
    };
    let when = if at > now { due(Some(at), now) } else { "at any moment".to_owned() };
    Some(format!("ends by timeouts.{option} {when}{unless}"))
}

/// When a branch of a waiting run goes on, as far as its row tells: none where nothing does before the first of its `open` waits is
/// given up.
pub fn branch(run: &RunRow, open: &[WaitRow], now: Millis) -> Option<String> {
    let given_up = open.iter().filter_map(|wait| wait.until).min();
    let wake = run.wake.filter(|wake| *wake > now && given_up.is_none_or(|given_up| *wake < given_up))?;
    Some(format!("a branch goes on {}", due(Some(wake), now)))
}

/// What each branch of a suspended run waits for, with the key of its step; empty where it is one thing alone, which `row`
/// or `wait` tells. `open` has the sentence of each open wait. What a race has left behind waits for nothing.
pub fn branches(records: &[Record], attempts: &[AttemptRow], open: &[(WaitRow, String)], now: Millis) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let races = Races::of(records);
    for record in records {
        if let Recorded::Until(until) = record.result
            && until > now
            && races.cut_off(record).is_none()
        {
            parts.push(format!("`{}` sleeps; goes on {}", record.key, due(Some(until), now)));
        }
    }
    for (at, attempt) in attempts.iter().enumerate() {
        let is_last = !attempts[at + 1..].iter().any(|later| later.key == attempt.key);
        if let Some(next) = attempt.next.filter(|next| is_last && *next > now)
            && !attempt.key.is_empty()
            && !races.gave_up(attempt)
        {
            let (error, following) = (&attempt.error.message, following(&attempt.error, attempt.attempt));
            let (due, asked) = (due(Some(next), now), attempt.error.asked_words());
            parts.push(format!("`{}` backs off after a failed attempt ({error}); {following} comes {due}{asked}", attempt.key));
        }
    }
    parts.extend(open.iter().filter(|(row, _)| row.state == WaitState::Open).map(|(row, text)| format!("`{}` {text}", row.wait.key)));
    if parts.len() > 1 { parts } else { Vec::new() }
}

/// When something goes on, seen from now.
pub fn due(at: Option<Millis>, now: Millis) -> String {
    match at {
        Some(at) if at > now => format!("in {}", Span(at.since(now).0.max(1000) / 1000 * 1000)),
        _ => "as soon as it gets its turn".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Id;
    use crate::rules::row::AskedBy;
    use crate::rules::{GateKeys, Kind, WaitKey};

    const NOW: Millis = Millis(100_000);

    fn run(state: RunState, wake: Option<i64>) -> RunRow {
        RunRow { state, wake: wake.map(Millis), started: Some(Millis(1)), ..RunRow::queued(Id(1), "pay", Id(2), Millis(0)) }
    }

    #[test]
    fn a_suspended_run_says_when_it_goes_on() {
        let failure = Arc::new(Failure { message: "no money".into(), ..Failure::default() });
        let backing_off = RunRow { error: Some(failure), ..run(RunState::BackingOff, Some(190_500)) };
        assert_eq!(row(&backing_off, NOW).as_deref(), Some("backing off after a failed attempt (no money); the next one comes in 1m30s"));
        // Of a step's attempts it knows the number, of those of the code between steps the run does.
        let of_step = Failure { message: "busy".into(), attempts: Some(2), allowed: Some(6), ..Failure::default() };
        let between = Failure { attempts: None, ..of_step.clone() };
        for (failure, attempt, next) in [(of_step, 1, "attempt 3 of 6"), (between, 2, "attempt 2 of 6")] {
            let backing_off = RunRow { error: Some(Arc::new(failure)), attempt, ..run(RunState::BackingOff, Some(190_500)) };
            let wanted = format!("backing off after a failed attempt (busy); {next} comes in 1m30s");
            assert_eq!(row(&backing_off, NOW), Some(wanted));
        }
        let asked = Failure { message: "busy".into(), asked: Some(AskedBy::Server), ..Failure::default() };
        let backing_off = RunRow { error: Some(Arc::new(asked)), ..run(RunState::BackingOff, Some(190_500)) };
        let wanted = "backing off after a failed attempt (busy); the next one comes in 1m30s (asked by server)";
        assert_eq!(row(&backing_off, NOW).as_deref(), Some(wanted));
        assert_eq!(row(&run(RunState::Sleeping, Some(100_200)), NOW).as_deref(), Some("sleeping; goes on in 1s"));
        assert_eq!(row(&run(RunState::Sleeping, Some(100_000)), NOW).as_deref(), Some("sleeping; goes on as soon as it gets its turn"));
        let later = RunRow { enter: Millis(160_000), started: None, ..run(RunState::Queued, None) };
        assert_eq!(row(&later, NOW).as_deref(), Some("its event's time has not come; starts in 1m"));
        let collecting = RunRow { gates: Some(Arc::new(GateKeys { collect: Some("1".into()), ..GateKeys::default() })), ..later.clone() };
        assert_eq!(
            row(&collecting, NOW).as_deref(),
            Some("its function collects no events any more; starts in 1m, with those that it has")
        );
        assert!(!is_in_line(&later, NOW) && is_in_line(&run(RunState::Queued, None), NOW));
        assert!(is_in_line(&run(RunState::Waiting, Some(100_000)), NOW) && !is_in_line(&run(RunState::Waiting, None), NOW));
        for state in [RunState::Running, RunState::Completed, RunState::Failed, RunState::Cancelled] {
            assert_eq!(row(&run(state, None), NOW), None);
        }
    }

    #[test]
    fn a_run_says_by_which_time_out_it_ends_and_when() {
        let timeouts = |start: Option<i64>, finish: Option<i64>| Timeouts {
            start: start.map(Span::seconds),
            finish: finish.map(Span::seconds),
            step: Span::seconds(300),
        };
        let both = timeouts(Some(600), Some(1_200));
        let begun = RunRow { started: Some(Millis(40_000)), ..run(RunState::Waiting, None) };
        assert_eq!(ends(&begun, both, None, NOW).as_deref(), Some("ends by timeouts.finish in 19m"));
        assert_eq!(ends(&begun, timeouts(Some(600), None), None, NOW), None);
        assert_eq!(ends(&begun, timeouts(None, Some(60)), None, NOW).as_deref(), Some("ends by timeouts.finish at any moment"));
        let queued = RunRow { enter: Millis(40_000), started: None, ..run(RunState::Queued, None) };
        let said = |resumed| ends(&queued, both, resumed, NOW);
        assert_eq!(said(None).as_deref(), Some("ends by timeouts.start in 9m unless it has begun by then"));
        assert_eq!(said(Some(Millis(70_000))).as_deref(), Some("ends by timeouts.start in 9m30s unless it has begun by then"));
        assert_eq!(ends(&queued, timeouts(None, Some(60)), None, NOW), None);
        // One that is parked waits for somebody, however long.
        for state in [RunState::Parked, RunState::Completed] {
            assert_eq!(ends(&RunRow { state, ..begun.clone() }, both, None, NOW), None);
        }
    }

    #[test]
    fn a_run_that_is_at_work_says_on_what() {
        let said = |step: Option<(&str, u32)>| running(step.map(|(step, attempt)| (step.into(), attempt, Millis(10_000))), NOW);
        assert_eq!(said(Some(("charge", 1))), "step charge is under way, for 1m30s");
        assert_eq!(said(Some(("charge", 2))), "attempt 2 of step charge is under way, for 1m30s");
        assert_eq!(said(None), "its handler is at work between its steps");
    }

    #[test]
    fn a_run_that_waits_for_a_slot_says_who_has_it() {
        let limit = |limit, holder| Blocked::Limit { scope: "charge#0".into(), key: "\"u1\"".into(), limit, holder };
        let said = |how| blocked("charge", &how, NOW);
        let one = "waits for a slot: charge allows 1 run at a time for key \"u1\"";
        assert_eq!(said(limit(1, None)), one);
        assert_eq!(said(limit(1, Some(Id(7)))), format!("{one}; run {} has it", Id(7)));
        let two = "waits for a slot: charge allows 2 runs at a time for key \"u1\"";
        assert_eq!(said(limit(2, Some(Id(7)))), format!("{two}; run {} has one", Id(7)));
    }

    #[test]
    fn a_waiting_run_says_when_another_branch_goes_on_before_its_waits_are_given_up() {
        let wait = |until: Option<i64>| WaitRow {
            wait: WaitKey { run: Id(1), kind: Kind::Wait, key: "otp".into() },
            what: Arc::new(What::Signal("otp".into())),
            opened: Millis(0),
            until: until.map(Millis),
            state: WaitState::Open,
            pin: None,
        };
        let said = |wake, open: &[WaitRow]| branch(&run(RunState::Waiting, wake), open, NOW);
        let in_12s = Some("a branch goes on in 12s".to_owned());
        assert_eq!(said(Some(112_000), &[wait(None)]), in_12s);
        assert_eq!(said(Some(112_000), &[wait(Some(180_000)), wait(Some(113_000)), wait(None)]), in_12s);
        assert_eq!(said(Some(112_000), &[wait(Some(180_000)), wait(Some(112_000))]), None, "that is when a wait is given up");
        assert_eq!(said(Some(100_000), &[wait(None)]), None, "it is on its way");
        assert_eq!(said(None, &[wait(None)]), None);
    }

    #[test]
    fn a_run_with_several_branches_says_what_each_of_them_waits_for() {
        let record = |key: &str, until: i64| Record {
            index: 0,
            key: key.into(),
            kind: Kind::Sleep,
            result: Recorded::Until(Millis(until)),
            attempts: 1,
            started: Millis(0),
            ended: Millis(0),
            line: None,
        };
        let attempt = |number: u32, next: Option<i64>| AttemptRow {
            key: "mail › send".into(),
            attempt: number,
            started: Millis(0),
            ended: Millis(0),
            error: Arc::new(Failure { message: format!("no {number}"), ..Failure::default() }),
            next: next.map(Millis),
            line: None,
        };
        let wait = WaitRow {
            wait: WaitKey { run: Id(1), kind: Kind::Wait, key: "pay › otp".into() },
            what: Arc::new(What::Signal("otp".into())),
            opened: Millis(0),
            until: None,
            state: WaitState::Open,
            pin: None,
        };
        let text = super::wait(&wait, None, NOW);
        let open = [(wait, text)];
        let records = [record("nap › rest", 130_000), record("past", 90_000)];
        let all = branches(&records, &[attempt(1, Some(90_000)), attempt(2, Some(110_000))], &open, NOW);
        assert_eq!(
            all,
            [
                "`nap › rest` sleeps; goes on in 30s",
                "`mail › send` backs off after a failed attempt (no 2); the next one comes in 10s",
                "`pay › otp` waits for signal `otp`; without a time-out of its own"
            ]
        );
        assert!(branches(&records, &[attempt(1, Some(110_000)), attempt(2, None)], &[], NOW).is_empty(), "one thing alone");
    }
}
