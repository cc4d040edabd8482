//! What happens to the runs that were running when the engine ended.
//!
//! A run can bring the process down, and would do so again at every start. One that is proved to do so is parked; a run
//! that was only there when somebody killed the engine is not. So each end is weighed by what it says:
//!
//! | the engine | each run under way | the one run under way |
//! |---|---|---|
//! | drained, or was told to stop before it ended | 0 | 0 |
//! | ended without a word: SIGKILL, no memory left, a power cut | +1, up to `SUSPECT_RUNS_ALONE` | +1 |
//! | ended by a fatal signal of its own, and noted it | +3, up to `SUSPECT_RUNS_ALONE` | +3 |
//!
//! From `SUSPECT_RUNS_ALONE` on a run starts with no other beside it; at `SUSPECT_PARKED` it is parked, which thus takes
//! three crashes, the last of them alone, or nine ends without a word, the last three alone. Each new record of a run
//! takes its sum back to 0. A run that waits for its turn alone is not under way: an end says nothing about it.

use std::sync::Arc;

use super::row::{RunRow, RunState};
use super::write::{Expect, List, Write};

/// From this sum on a run is started with no other beside it, so that it can be proved guilty or not.
pub const SUSPECT_RUNS_ALONE: u32 = 6;
/// At this sum a run that was alone is parked.
const SUSPECT_PARKED: u32 = 9;
/// What a crash says against a run that was under way: twice may be chance, more often is none.
const CRASH_WEIGHS: u32 = 3;
/// What an end without a word says: it comes from outside most of the time.
const KILL_WEIGHS: u32 = 1;
/// Why a run is parked.
pub const POISON_REASON: &str = "crashed engine: again and again the engine crashed or was killed while this run was in the same step, \
    at the end with no other run under way";

/// How an engine ended, as far as the next one can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// It closed its store, or there was none before.
    #[default]
    Clean,
    /// It was told to stop, or its disk failed it; then it ended with its store open.
    Told,
    /// It ended by a fatal signal that it raised itself, such as a failed allocation or a stack that ran out.
    Crashed,
    /// It ended without a word.
    Killed,
}

impl Ending {
    /// What it says against a run that was under way.
    fn weighs(self) -> u32 {
        match self {
            Ending::Clean | Ending::Told => 0,
            Ending::Crashed => CRASH_WEIGHS,
            Ending::Killed => KILL_WEIGHS,
        }
    }
}

/// The lists for the runs that were running when the engine ended, one each: back into the queue, or parked.
pub fn recover(running: &[RunRow], end: Ending) -> Vec<List> {
    let alone = running.len() == 1;
    let list = |run: &RunRow| {
        let sum = run.suspects + end.weighs();
        let write = match end.weighs() {
            0 => Write::Requeue { run: run.id, suspects: run.suspects },
            _ if alone && sum >= SUSPECT_PARKED => Write::Park { run: run.id, reason: Arc::from(POISON_REASON) },
            _ if alone => Write::Requeue { run: run.id, suspects: sum },
            _ => Write::Requeue { run: run.id, suspects: sum.min(SUSPECT_RUNS_ALONE) },
        };
        debug_assert_eq!(run.state, RunState::Running);
        List { expect: vec![Expect::RunRev { run: run.id, rev: run.rev }], writes: vec![write] }
    };
    running.iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};

    fn run(id: i64, suspects: u32) -> RunRow {
        RunRow { rev: 1, state: RunState::Running, started: Some(Millis(0)), suspects, ..RunRow::queued(Id(id), "f", Id(1), Millis(0)) }
    }

    /// The sums of the runs under way after an end; none for one that is parked.
    fn sums(before: &[u32], end: Ending) -> Vec<Option<u32>> {
        let runs: Vec<RunRow> = before.iter().enumerate().map(|(at, sum)| run(at as i64, *sum)).collect();
        let sum = |write: Write| match write {
            Write::Requeue { suspects, .. } => Some(suspects),
            Write::Park { .. } => None,
            other => panic!("{other:?}"),
        };
        recover(&runs, end).into_iter().flat_map(|list| list.writes).map(sum).collect()
    }

    #[test]
    fn each_end_is_weighed_by_what_it_says() {
        type Case = (&'static [u32], Ending, &'static [Option<u32>]);
        let table: &[Case] = &[
            // An end that was asked for says nothing, whatever was known before.
            (&[0], Ending::Clean, &[Some(0)]),
            (&[8], Ending::Clean, &[Some(8)]),
            (&[0], Ending::Told, &[Some(0)]),
            (&[8], Ending::Told, &[Some(8)]),
            // Three crashes, the last one alone.
            (&[0], Ending::Crashed, &[Some(3)]),
            (&[3], Ending::Crashed, &[Some(6)]),
            (&[6], Ending::Crashed, &[None]),
            // Nine ends without a word, the last three alone.
            (&[0], Ending::Killed, &[Some(1)]),
            (&[5], Ending::Killed, &[Some(6)]),
            (&[7], Ending::Killed, &[Some(8)]),
            (&[8], Ending::Killed, &[None]),
            // In company nobody is parked, and a row of ends alone is broken.
            (&[6, 0], Ending::Crashed, &[Some(6), Some(3)]),
            (&[8, 8], Ending::Killed, &[Some(6), Some(6)]),
            (&[4, 5], Ending::Crashed, &[Some(6), Some(6)]),
            (&[], Ending::Crashed, &[]),
        ];
        for (before, end, after) in table {
            assert_eq!(sums(before, *end), *after, "{before:?} {end:?}");
        }
    }

    /// Engines that start all runs but suspects, and a suspect alone once nothing else runs; each poison run ends the engine
    /// it runs in. How many engines it takes until no poison run is left that could, and who is parked then.
    fn engines(poison: &[i64], innocent: &[i64], end: Ending) -> (usize, Vec<i64>) {
        let mut open: Vec<RunRow> = poison.iter().chain(innocent).map(|id| run(*id, 0)).collect();
        open.sort_by_key(|run| run.id);
        let (mut engines, mut parked) = (0, Vec::new());
        while open.iter().any(|run| poison.contains(&run.id.0)) {
            engines += 1;
            assert!(engines < 1_000, "the engine ends for ever: {open:?}");
            // What runs to its end before a suspect gets its turn, or as one, is not there any more when the engine ends.
            let is_poison = |run: &RunRow| poison.contains(&run.id.0);
            let at_once = |run: &RunRow| run.suspects < SUSPECT_RUNS_ALONE;
            let running: Vec<RunRow> = if open.iter().any(|run| at_once(run) && is_poison(run)) {
                open.iter().filter(|run| at_once(run)).cloned().collect()
            } else {
                let first = open.iter().position(is_poison).expect("there is one");
                open.drain(..first);
                open[..1].to_vec()
            };
            for (before, list) in running.iter().zip(recover(&running, end)) {
                match list.writes[0] {
                    Write::Requeue { suspects, .. } => {
                        open.iter_mut().find(|run| run.id == before.id).expect("it was running").suspects = suspects;
                    }
                    _ => {
                        parked.push(before.id.0);
                        open.retain(|run| run.id != before.id);
                    }
                }
            }
        }
        (engines, parked)
    }

    #[test]
    fn poison_runs_are_parked_one_after_the_other_and_nobody_else_is() {
        assert_eq!(engines(&[2], &[], Ending::Crashed), (3, vec![2]));
        assert_eq!(engines(&[2], &[1, 3], Ending::Crashed), (3, vec![2]));
        assert_eq!(engines(&[1, 3, 4], &[0, 2, 5], Ending::Crashed), (5, vec![1, 3, 4]));
        assert_eq!(engines(&[1, 3], &[0, 2], Ending::Killed), (12, vec![1, 3]));
    }
}
