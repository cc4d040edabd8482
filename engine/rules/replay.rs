//! A run done again: a new run for the same event, with as many of the old one's records as are to be kept.

use std::sync::Arc;

use crate::base::diagnostic::nearest;
use crate::base::{EventId, Json, RunId};

use super::fit::is_under;
use super::row::{Kind, Record, Recorded, RunRow, RunState};
use super::write::{Expect, List, Write};

/// What is kept of the run that is done again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// The step that is the first to be done again. Without it: the first one after the last step whose result is set; all of
    /// them where none is.
    pub from: Option<String>,
    /// Results that take the place of kept ones: the step's key, and JSON text.
    pub set: Vec<(String, Json)>,
}

/// Why a run cannot be done again like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is still under way.
    #[error("the run is {}: only one that has ended, or is parked, can be replayed", .0.word().replace('_', " "))]
    UnderWay(RunState),
    /// Its event is not there, which retention leaves alone as long as the run is.
    #[error("the run's event is not there any more, so there is nothing to do it again with")]
    EventGone,
    /// Events of its batch are not there: it would be done again without them.
    #[error("the run had {had} events, of which {gone} are not there any more")]
    BatchGone {
        /// The events of its batch.
        had: usize,
        /// Those of them that are not there any more.
        gone: usize,
    },
    /// It has no such step.
    #[error("the run has no step `{step}`{}", and_has(.near, .steps))]
    NoStep {
        /// What was asked for.
        step: String,
        /// The name most like it.
        near: Option<String>,
        /// The steps that it has.
        steps: Vec<String>,
    },
    /// A result is to be set of a step that is done again.
    #[error("the step `{0}` is done again, so its result cannot be set; only earlier steps are kept")]
    DoneAgain(String),
    /// A sleep has no result.
    #[error("`{0}` is a sleep, which has no result to set")]
    Sleep(String),
}

fn and_has(near: &Option<String>, steps: &[String]) -> String {
    match near {
        Some(near) => format!("; did you mean `{near}`?"),
        None if steps.is_empty() => "; it has recorded none".to_owned(),
        None => format!("; it has {}", steps.join(", ")),
    }
}

/// The records that the new run begins with: those committed before the step from which on it is to be done again, in the
/// order of the journal, over all branches.
///
/// `open` are the keys of steps that have begun, with failed attempts or a wait, and have no record.
///
/// # Errors
/// Why it cannot be done again like this.
pub fn kept(original: &RunRow, records: &[Record], open: &[&str], keep: &Keep) -> Result<Vec<Record>, Refusal> {
    if !original.state.rests() {
        return Err(Refusal::UnderWay(original.state));
    }
    let place = |key: &str| records.iter().position(|record| *record.key == *key && !record.kind.is_tiny());
    let until = match &keep.from {
        Some(from) => match place(from) {
            Some(at) => at,
            // It was begun and never came to a record, so all that is recorded came before it.
            None if open.contains(&from.as_str()) => records.len(),
            None => return Err(no_step(from, records, open)),
        },
        None => keep.set.iter().filter_map(|(step, _)| place(step)).max().map_or(0, |last| last + 1),
    };
    let mut kept = records[..until].to_vec();
    if let Some(race) = records.get(until).filter(|record| keep.from.is_some() && record.kind == Kind::Race) {
        // A race that is done again is run anew, and not over what its branches have recorded.
        kept.retain(|record| !is_under(&record.key, &race.key));
    }
    for (step, value) in &keep.set {
        let Some(at) = place(step) else { return Err(no_step(step, records, open)) };
        let is_it = |record: &&mut Record| record.index == records[at].index;
        let Some(record) = kept.iter_mut().find(is_it) else { return Err(Refusal::DoneAgain(step.clone())) };
        if record.kind == Kind::Sleep {
            return Err(Refusal::Sleep(step.clone()));
        }
        record.result = Recorded::Value(Json::clone(value));
    }
    Ok(kept)
}

fn no_step(step: &str, records: &[Record], open: &[&str]) -> Refusal {
    let recorded = records.iter().filter(|record| !record.kind.is_tiny()).map(|record| record.key.to_string());
    let steps: Vec<String> = recorded.chain(open.iter().map(|key| (*key).to_owned())).collect();
    let near = nearest(step, steps.iter().map(String::as_str)).map(str::to_owned);
    Refusal::NoStep { step: step.to_owned(), near, steps }
}

/// The list that makes the new run, with the further events of its batch; the original has to be as it was.
pub fn list(original: &RunRow, new: &RunRow, batch: &[EventId], kept: &[Record]) -> List {
    let mut writes = vec![Write::CreateRun(new.clone())];
    writes.extend(batch.iter().map(|event| Write::AddEvent { run: new.id, event: *event, enter: None }));
    writes.extend(kept.iter().map(|record| Write::Append { run: new.id, record: record.clone() }));
    List { expect: vec![Expect::RunRev { run: original.id, rev: original.rev }], writes }
}

/// Why a parked run was cancelled that is done again.
pub fn reason(new: RunId) -> Arc<str> {
    Arc::from(format!("replayed as {new}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Millis};

    fn ended(state: RunState) -> RunRow {
        RunRow { state, rev: 4, ..RunRow::queued(Id(1), "pay", Id(2), Millis(0)) }
    }

    fn records() -> Vec<Record> {
        let record = |index: u32, key: &str, kind: Kind, result: Recorded| Record {
            index,
            key: key.into(),
            kind,
            result,
            attempts: 1,
            started: Millis(0),
            ended: Millis(0),
            line: None,
        };
        vec![
            record(0, "charge", Kind::Step, Recorded::Value("1".into())),
            record(1, "uuid", Kind::Uuid, Recorded::Value("\"u\"".into())),
            record(2, "rest", Kind::Sleep, Recorded::Until(Millis(5))),
            record(3, "mail", Kind::Step, Recorded::Value("3".into())),
        ]
    }

    fn keep(from: Option<&str>, set: &[(&str, &str)]) -> Keep {
        Keep { from: from.map(str::to_owned), set: set.iter().map(|(step, value)| ((*step).to_owned(), Json::from(*value))).collect() }
    }

    #[test]
    fn only_what_has_ended_or_is_parked_is_done_again() {
        for state in RunState::ALL {
            let fine = state.is_terminal() || state == RunState::Parked;
            assert_eq!(kept(&ended(state), &records(), &[], &Keep::default()).is_ok(), fine, "{state:?}");
        }
    }

    #[test]
    fn records_before_the_step_are_kept_and_their_results_may_be_set() {
        let all = records();
        let keep_of = |keep: &Keep| kept(&ended(RunState::Failed), &all, &["ship"], keep);
        assert_eq!(keep_of(&keep(None, &[])), Ok(vec![]));
        assert_eq!(keep_of(&keep(Some("charge"), &[])), Ok(vec![]));
        assert_eq!(keep_of(&keep(Some("mail"), &[])), Ok(all[..3].to_vec()));
        assert_eq!(keep_of(&keep(Some("ship"), &[])), Ok(all.clone()), "a step that never came to a record");
        let set = keep_of(&keep(Some("mail"), &[("charge", "{\"paid\":true}")])).unwrap();
        assert_eq!(set[0].result, Recorded::Value("{\"paid\":true}".into()));
        assert_eq!(set[1..], all[1..3]);
        let set = keep_of(&keep(None, &[("charge", "7")])).unwrap();
        assert_eq!((set.len(), &set[0].result), (1, &Recorded::Value("7".into())), "the steps after the one that is set are done again");
    }

    #[test]
    fn a_race_that_is_done_again_keeps_nothing_of_its_branches() {
        let record = |index: u32, key: &str, kind: Kind| Record { index, key: key.into(), kind, ..records()[0].clone() };
        let all = [
            record(0, "charge", Kind::Step),
            record(1, "race › a › ask", Kind::Step),
            record(2, "beside › mail", Kind::Step),
            record(3, "race", Kind::Race),
            record(4, "ship", Kind::Step),
        ];
        let kept = |from: &str| {
            let kept = kept(&ended(RunState::Failed), &all, &[], &keep(Some(from), &[])).unwrap();
            kept.iter().map(|record| record.index).collect::<Vec<_>>()
        };
        assert_eq!(kept("race"), [0, 2]);
        assert_eq!(kept("beside › mail"), [0, 1], "a race that was not decided by then goes on from what it had");
        assert_eq!(kept("ship"), [0, 1, 2, 3]);
        let set = keep(Some("race"), &[("beside › mail", "7"), ("race › a › ask", "8")]);
        let said = super::kept(&ended(RunState::Failed), &all, &[], &set).unwrap_err();
        assert_eq!(said, Refusal::DoneAgain("race › a › ask".to_owned()));
    }

    #[test]
    fn what_cannot_be_kept_or_set_is_named() {
        let all = records();
        let said = |keep: &Keep| kept(&ended(RunState::Failed), &all, &[], keep).unwrap_err().to_string();
        assert_eq!(said(&keep(Some("mial"), &[])), "the run has no step `mial`; did you mean `mail`?");
        assert_eq!(said(&keep(Some("uuid"), &[])), "the run has no step `uuid`; it has charge, rest, mail");
        assert!(said(&keep(None, &[("chrage", "1")])).contains("did you mean `charge`?"));
        assert!(said(&keep(Some("mail"), &[("mail", "1")])).contains("is done again"));
        assert!(said(&keep(Some("mail"), &[("rest", "1")])).contains("is a sleep"));
    }

    #[test]
    fn the_new_run_is_made_with_its_records_if_the_old_one_has_not_moved() {
        let (original, new) = (ended(RunState::Failed), RunRow::queued(Id(9), "pay", Id(2), Millis(0)));
        let made = list(&original, &new, &[], &records()[..2]);
        assert_eq!(made.expect, [Expect::RunRev { run: Id(1), rev: 4 }]);
        assert!(matches!(&made.writes[..], [Write::CreateRun(_), Write::Append { run: Id(9), .. }, Write::Append { .. }]));
        let batch = list(&original, &new, &[Id(3)], &[]);
        assert!(matches!(&batch.writes[..], [Write::CreateRun(_), Write::AddEvent { run: Id(9), event: Id(3), enter: None }]));
    }
}
