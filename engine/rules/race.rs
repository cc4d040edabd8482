//! What is known of a race once it is decided: which branch ended first, and what became of the others.
//!
//! All that the branches of a race record stands below the race's own key, and its record is the last of it. So whoever finds that
//! record needs nothing else of the race, and what stands below it and has not ended never will.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::Millis;

use super::fit::BELOW;
use super::row::{AttemptRow, Kind, Record, Recorded};

/// Why a run is cancelled that a branch has invoked which was left; the race's key follows.
pub const LEFT: &str = "the run that invoked it waited no longer: another branch ended the race ";

/// The record of a race whose first branch came to its end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Won {
    /// The name of that branch, where the branches have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its place, from 0, where they stand in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What it gave.
    pub value: Box<RawValue>,
    /// The branches that were left, in their order, by name or place. No script sees this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl Won {
    /// What a record says; none where it is that of a race which failed, or was set by hand to something else.
    pub fn of(record: &Record) -> Option<Won> {
        match &record.result {
            Recorded::Value(json) if record.kind == Kind::Race => serde_json::from_str(json).ok(),
            _ => None,
        }
    }

    /// The branch that ended first.
    pub fn branch(&self) -> Option<String> {
        self.name.clone().or_else(|| self.index.map(|at| at.to_string()))
    }
}

/// The branch that a race was decided by; none where its record does not say.
pub fn first(race: &Record) -> Option<String> {
    match &race.result {
        Recorded::Failed(failure) => {
            let below = failure.step.as_deref()?.strip_prefix(&*race.key)?.strip_prefix(BELOW)?;
            Some(below.split(BELOW).next().unwrap_or(below).to_owned())
        }
        _ => Won::of(race)?.branch(),
    }
}

/// The races of a run that are decided, by their keys.
pub struct Races<'r>(HashMap<&'r str, &'r Record>);

impl<'r> Races<'r> {
    /// Those of a run's records.
    pub fn of(records: &'r [Record]) -> Races<'r> {
        Races(records.iter().filter(|record| record.kind == Kind::Race).map(|record| (&*record.key, record)).collect())
    }

    /// The decided races that a key stands below, the outermost first, with the name of the branch that it stands in.
    fn above<'k>(&self, key: &'k str) -> impl Iterator<Item = (&'r Record, &'k str)> {
        key.match_indices(BELOW).filter_map(move |(at, below)| {
            let branch = key[at + below.len()..].split(BELOW).next().unwrap_or_default();
            Some((*self.0.get(&key[..at])?, branch))
        })
    }

    /// When the race of a sleep was over, where that was before the sleep was: it is one of a branch that was left.
    pub fn cut_off(&self, record: &Record) -> Option<Millis> {
        let Recorded::Until(until) = record.result else { return None };
        let ended = self.above(&record.key).filter(|(race, _)| record.index < race.index).map(|(race, _)| race.ended).min();
        ended.filter(|ended| *ended < until)
    }

    /// Whether the race of a step that has failed attempts and no record is over: it is not tried again.
    pub fn gave_up(&self, attempt: &AttemptRow) -> bool {
        self.above(&attempt.key).any(|(race, _)| attempt.started <= race.ended)
    }

    /// Whether a record is of a branch that was left. How far such a branch comes hangs on what happens at the same time.
    pub fn is_left(&self, record: &Record) -> bool {
        self.above(&record.key).any(|(race, branch)| record.index < race.index && first(race).as_deref() != Some(branch))
    }
}

/// The place of the branch that ended first: of two that did at once, the one that stands before the other.
pub fn first_of(ends: impl Iterator<Item = (usize, Millis)>) -> Option<usize> {
    ends.min_by_key(|(place, came)| (*came, *place)).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rules::Failure;

    fn record(index: u32, key: &str, kind: Kind, result: Recorded) -> Record {
        Record { index, key: key.into(), kind, result, attempts: 1, started: Millis(0), ended: Millis(100), line: None }
    }

    fn won(text: &str) -> Recorded {
        Recorded::Value(text.into())
    }

    #[test]
    fn a_record_says_who_was_first_and_who_was_left() {
        let named = record(3, "race", Kind::Race, won(r#"{"name":"paid","value":{"n":1.50},"left":["late"]}"#));
        let read = Won::of(&named).unwrap();
        assert_eq!(
            (read.branch().as_deref(), read.value.get(), read.left.as_slice()),
            (Some("paid"), r#"{"n":1.50}"#, &["late".to_owned()][..])
        );
        let listed = record(3, "race", Kind::Race, won(r#"{"index":1,"value":null}"#));
        assert_eq!(first(&listed).as_deref(), Some("1"));
        let by_hand = record(3, "race", Kind::Race, won("7"));
        assert_eq!(first(&by_hand), None);
        let failed = |step: &str| Recorded::Failed(Arc::new(Failure { step: Some(step.into()), ..Failure::default() }));
        let of = |step: &str| first(&record(3, "race#2", Kind::Race, failed(step)));
        assert_eq!((of("race#2 › bad").as_deref(), of("race#2 › bad › ask#2").as_deref(), of("charge")), (Some("bad"), Some("bad"), None));
    }

    #[test]
    fn what_stands_below_a_decided_race_and_has_not_ended_never_will() {
        let until = |at: i64| Recorded::Until(Millis(at));
        let records = [
            record(0, "race › late › sleep", Kind::Sleep, until(500)),
            record(1, "race › paid › nap", Kind::Sleep, until(90)),
            record(2, "race › paid › ask", Kind::Step, won("1")),
            record(3, "race", Kind::Race, won(r#"{"name":"paid","value":1,"left":["late"]}"#)),
            // A branch of a later `parallel` that happens to have the race's name.
            record(4, "race › sleep", Kind::Sleep, until(500)),
            record(5, "nap", Kind::Sleep, until(500)),
        ];
        let races = Races::of(&records);
        let all = |what: &dyn Fn(&Record) -> bool| records.iter().map(what).collect::<Vec<_>>();
        assert_eq!(all(&|record| races.cut_off(record) == Some(Millis(100))), [true, false, false, false, false, false]);
        assert_eq!(all(&|record| races.is_left(record)), [true, false, false, false, false, false]);
        let attempt = |key: &str, started: i64| AttemptRow {
            key: key.into(),
            attempt: 1,
            started: Millis(started),
            ended: Millis(started),
            error: Arc::default(),
            next: Some(Millis(900)),
            line: None,
        };
        let gave_up = |key: &str, started| races.gave_up(&attempt(key, started));
        assert!(gave_up("race › late › ask", 50) && !gave_up("race › sleep", 150) && !gave_up("ask", 50));
    }

    #[test]
    fn of_two_ends_at_once_the_first_place_counts() {
        let first = |ends: &[(usize, i64)]| first_of(ends.iter().map(|(place, came)| (*place, Millis(*came))));
        assert_eq!(first(&[(0, 20), (1, 10)]), Some(1));
        assert_eq!(first(&[(0, 10), (2, 10)]), Some(0));
        assert_eq!(first(&[]), None);
    }
}
