//! What happens to the runs that were running when the engine ended.

use std::sync::Arc;

use super::row::{RunRow, RunState};
use super::write::{Expect, List, Write};

/// From this count of unclean exits on, a run is started with no other beside it, so that it can be proved guilty or not.
pub const SUSPECT_RUNS_ALONE: u32 = 2;
/// At this count a run that was alone is parked.
const SUSPECT_PARKED: u32 = 3;
/// Why it is parked.
pub const POISON_REASON: &str =
    "crashed engine: the engine ended three times without a clean stop while this run was running, the last time with this run alone";

/// Whether an end of the engine says anything about the run: it was running, or it was a suspect that waited for its
/// turn alone.
pub fn is_concerned(run: &RunRow, unclean: bool) -> bool {
    match run.state {
        RunState::Running => true,
        RunState::Queued => unclean && run.suspects >= SUSPECT_RUNS_ALONE,
        _ => false,
    }
}

/// The lists for the runs that `is_concerned` names, one each: what was running goes back into the queue.
///
/// After an unclean exit each run that was running may have been the cause, so its count goes up; one that has come to
/// the limit and was the only run under way is parked. A suspect that was *not* running is none any more: the engine
/// ended without it, so somebody else ends engines here, most likely from outside. After a clean stop (a drain whose
/// grace was over) nothing is counted.
pub fn recover(concerned: &[RunRow], unclean: bool) -> Vec<List> {
    let alone = concerned.iter().filter(|run| run.state == RunState::Running).count() == 1;
    let list = |run: &RunRow| {
        let suspects = run.suspects + u32::from(unclean);
        let write = match run.state {
            RunState::Queued => Write::Requeue { run: run.id, suspects: 0 },
            _ if unclean && alone && suspects >= SUSPECT_PARKED => Write::Park { run: run.id, reason: Arc::from(POISON_REASON) },
            _ => Write::Requeue { run: run.id, suspects },
        };
        List { expect: vec![Expect::RunRev { run: run.id, rev: run.rev }], writes: vec![write] }
    };
    concerned.iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};

    fn run(id: i64, suspects: u32) -> RunRow {
        RunRow {
            id: Id(id),
            rev: 1,
            function: "f".into(),
            event: Id(1),
            state: RunState::Running,
            keys: Arc::from([]),
            priority_ms: 0,
            created: Millis(0),
            enter: Millis(0),
            started: Some(Millis(0)),
            ended: None,
            wake: None,
            attempt: 1,
            suspects,
            version: None,
            output: None,
            error: None,
            reason: None,
            idempotency: None,
        }
    }

    fn writes(runs: &[RunRow], unclean: bool) -> Vec<Write> {
        let concerned: Vec<RunRow> = runs.iter().filter(|run| is_concerned(run, unclean)).cloned().collect();
        recover(&concerned, unclean).into_iter().flat_map(|list| list.writes).collect()
    }

    #[test]
    fn a_clean_stop_suspects_nobody() {
        assert_eq!(writes(&[run(1, 2)], false), [Write::Requeue { run: Id(1), suspects: 2 }]);
    }

    #[test]
    fn a_run_is_parked_only_where_it_was_alone_at_the_third_unclean_exit() {
        assert_eq!(writes(&[run(1, 1)], true), [Write::Requeue { run: Id(1), suspects: 2 }]);
        assert!(matches!(writes(&[run(1, 2)], true)[..], [Write::Park { .. }]));
        let together = writes(&[run(1, 2), run(2, 0)], true);
        assert_eq!(together, [Write::Requeue { run: Id(1), suspects: 3 }, Write::Requeue { run: Id(2), suspects: 1 }]);
    }

    #[test]
    fn a_suspect_without_which_the_engine_ended_is_none_any_more() {
        let waiting = |suspects| RunRow { state: RunState::Queued, ..run(1, suspects) };
        assert_eq!(writes(&[waiting(2)], true), [Write::Requeue { run: Id(1), suspects: 0 }]);
        assert_eq!(writes(&[waiting(2)], false), []);
        assert_eq!(writes(&[waiting(1)], true), [], "it has never been told apart from others");
        let beside = writes(&[waiting(2), run(2, 2)], true);
        assert_eq!(beside[0], Write::Requeue { run: Id(1), suspects: 0 });
        assert!(matches!(beside[1], Write::Park { run: Id(2), .. }), "one that waits was not under way");
    }
}
