//! What an engine has said, held against what a database has stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use stepwell::base::Id;

use super::super::verify;
use super::trace::{Call, What};

/// Functions whose runs are not started by one event each.
const COLLECTING: [&str; 2] = ["batched", "debounced"];

/// Ids as the database has them.
type Number = i64;
/// A record's key, whether it failed, its result, and when it was decided.
type Record = (String, i64, Value, i64);

/// What an engine has told others, and when (as a line of the log).
pub struct Said {
    /// The ids of the events of each request that was answered with 200, in the order of the answers. An answer that is given again,
    /// since the first one did not arrive, counts once.
    pub answers: Vec<(usize, Vec<Number>)>,
    /// Effects: the run, and the step that has it.
    effects: Vec<(usize, Number, String)>,
}

impl Said {
    pub fn hear(log: &[Call]) -> Said {
        let mut streams: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut of_socket: HashMap<&str, usize> = HashMap::new();
        for call in log {
            if let What::Say { socket, bytes } = &call.what {
                let stream = *of_socket.entry(socket).or_insert(streams.len());
                if stream == streams.len() {
                    streams.push((call.at, Vec::new()));
                }
                streams[stream].1.extend(bytes);
            }
        }
        let mut said = Said { answers: Vec::new(), effects: Vec::new() };
        let mut known = BTreeSet::new();
        let number = |id: &serde_json::Value| id.as_str().and_then(|id| id.parse::<Id>().ok()).unwrap().0;
        for (at, bytes) in streams {
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            // One that was killed while it spoke has said nothing whole.
            let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { continue };
            if head.starts_with("HTTP/1.1 200 ") && body["ids"].is_array() {
                let ids: Vec<Number> = body["ids"].as_array().unwrap().iter().map(number).collect();
                if known.insert(ids.clone()) {
                    said.answers.push((at, ids));
                }
            } else if head.lines().next().is_some_and(|line| line.starts_with("POST /") && line.ends_with("/effect HTTP/1.1")) {
                said.effects.push((at, number(&body["run"]), body["step"].as_str().unwrap().to_owned()));
            }
        }
        said
    }

    /// When something was said.
    pub fn moments(&self) -> impl Iterator<Item = usize> {
        self.answers.iter().map(|(at, _)| *at).chain(self.effects.iter().map(|(at, ..)| *at))
    }

    /// How many requests were answered and how many effects there were before a moment.
    pub fn count(&self, before: usize) -> (usize, usize) {
        (self.answered(before).len(), self.effects.iter().take_while(|(at, ..)| *at < before).count())
    }

    /// The events of requests that were answered before a moment.
    pub fn answered(&self, before: usize) -> Vec<&[Number]> {
        self.answers.iter().take_while(|(at, _)| *at < before).map(|(_, ids)| &ids[..]).collect()
    }

    /// The first thing that was said before a moment and does not hold in what is stored: an event that was answered, or, since
    /// the next effect of a run has come, a record before it. That a run is noted as started was promised to nobody.
    pub fn broken(&self, stored: &Stored, before: usize) -> Option<String> {
        for (number, ids) in self.answered(before).into_iter().enumerate() {
            if let Some(id) = ids.iter().find(|id| !stored.events.contains_key(*id)) {
                return Some(format!("event {}, which answer {number} has said to be stored, is gone", Id(*id)));
            }
        }
        for (at, run, step) in self.effects.iter().filter(|(at, ..)| *at < before) {
            let Some((_, function)) = stored.runs.get(run) else {
                return Some(format!("run {}, of which {step} had its effect in line {at}, is gone", Id(*run)));
            };
            let steps = verify::records_of(function).iter().take_while(|key| **key != step.as_str());
            if let Some(gone) = steps.copied().find(|key| !stored.has(*run, key)) {
                return Some(format!("the record {gone} of run {} is gone, and {step} had its effect in line {at}", Id(*run)));
            }
        }
        None
    }

    /// How many of the first answers hold. After one that does not, none does: what a cut takes back are the last commits. (Of the
    /// one itself some events may be there, where one of them had to be decided on again and came with a later commit.)
    pub fn kept(&self, stored: &Stored, before: usize, what: &str) -> usize {
        let answered = self.answered(before);
        let whole = |ids: &&[Number]| ids.iter().all(|id| stored.events.contains_key(id));
        let kept = answered.iter().copied().take_while(whole).count();
        let mut after = answered.iter().copied().skip(kept + 1).flatten();
        let later = after.find(|id| stored.events.contains_key(*id));
        assert_eq!(later.map(|id| Id(*id)), None, "{what}: it is there, and an event that was answered before it is not");
        kept
    }
}

/// What a database has stored.
#[derive(Default)]
pub struct Stored {
    /// The data of each event.
    pub events: BTreeMap<Number, Vec<u8>>,
    /// The event and the function of each run.
    runs: BTreeMap<Number, (Number, String)>,
    /// By run and place in its journal.
    records: BTreeMap<(Number, i64), Record>,
    /// The functions that each event has started.
    starts: BTreeMap<Number, BTreeSet<String>>,
}

impl Stored {
    pub fn read(database: &Path) -> Stored {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut stored = Stored::default();
        let mut events = connection.prepare("SELECT id, data FROM events").unwrap();
        stored.events = events.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
        let runs = "SELECT runs.id, runs.event, names.text FROM runs JOIN names ON names.id = runs.function";
        let mut runs = connection.prepare(runs).unwrap();
        let runs = runs.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
        stored.runs = runs.collect::<Result<_, _>>().unwrap();
        let mut records = connection.prepare("SELECT run, idx, key, failed, result, ended FROM steps").unwrap();
        let records = records.query_map([], |row| {
            let record: Record = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
            Ok(((row.get(0)?, row.get(1)?), record))
        });
        stored.records = records.unwrap().collect::<Result<_, _>>().unwrap();
        for (event, function) in stored.runs.values().filter(|(_, function)| !COLLECTING.contains(&&**function)) {
            stored.starts.entry(*event).or_default().insert(function.clone());
        }
        stored
    }

    fn has(&self, run: Number, key: &str) -> bool {
        self.records.range((run, 0)..=(run, i64::MAX)).any(|(_, record)| record.0 == key)
    }

    /// It is a moment of the history that ended in `whole`: no record was ever another one, each stands behind those before it, and
    /// each event is there with the runs that it started, each run with its event.
    pub fn is_part_of(&self, whole: &Stored, what: &str) {
        for (id, data) in &self.events {
            assert_eq!(whole.events.get(id), Some(data), "{what}: event {}", Id(*id));
            assert_eq!(self.starts.get(id), whole.starts.get(id), "{what}: the functions that event {} has started", Id(*id));
        }
        for (id, (event, function)) in &self.runs {
            assert!(self.events.contains_key(event), "{what}: run {} of {function} has no event", Id(*id));
        }
        for (place, record) in &self.records {
            assert_eq!(whole.records.get(place), Some(record), "{what}: record {} of run {}", place.1, Id(place.0));
            assert!(self.runs.contains_key(&place.0), "{what}: a record of no run: {record:?}");
            let before = (place.0, place.1 - 1);
            assert!(place.1 == 0 || self.records.contains_key(&before), "{what}: no record before {record:?}");
        }
    }
}
