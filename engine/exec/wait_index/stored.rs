//! Open waits that an engine left in the store before the start, and that are found there by a value: so a start need not read a
//! million of them. Those of a run come into memory before it goes on, and all that is opened since the start is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::base::RunId;
use crate::base::id::IdSet;
use crate::base::looks::looked;
use crate::expr::{EventView, Expr, Field};
use crate::rules::{Pinned, WaitKey, WaitRow, WaitState, Wanted, What};
use crate::store::StoreError;

use super::{Alternative, Bound, Index, Kind, KindName};

/// Tells how a pin is made: whoever changes a field's text, the text of a value or its hash takes another one. Waits with a pin that was
/// made otherwise are all read at the start.
const MADE: &str = "1";
/// Compiled conditions that are kept; beyond, the memory starts anew (a script may write a condition of its own for each run).
const KINDS_KEPT: usize = 256;

/// What is known of the waits that stay in the store.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By the name of events: the fields that waits are found by, each with its text in the store.
    fields: HashMap<Arc<str>, Vec<(Field, Arc<str>)>>,
    /// The last run of which there may be any.
    last: RunId,
    /// Runs up to that one whose waits have come into memory.
    taken_up: IdSet,
    /// Made anew for each event, they would cost more than to find the waits.
    kinds: Mutex<HashMap<KindName, Arc<Kind>>>,
}

impl Stored {
    pub(super) fn awaits(&self, event: &str) -> bool {
        !self.fields.is_empty() && self.fields.contains_key(event)
    }

    pub(super) fn forget(&mut self, run: RunId) {
        self.taken_up.remove(&run);
    }

    fn fits(&self, row: &WaitRow, event: EventView<'_>) -> bool {
        let What::Events(wanted) = &*row.what else { return false };
        wanted.iter().any(|wanted| {
            let Some(kind) = self.kind(wanted) else {
                let condition = wanted.condition.as_deref().unwrap_or_default();
                tracing::error!(condition, "the `if` of a stored wait does not compile; it counts as false");
                return false;
            };
            Alternative { kind, bound: wanted.bound.as_deref().map(Box::from), value: None }.fits(event)
        })
    }

    fn kind(&self, wanted: &Wanted) -> Option<Arc<Kind>> {
        let name = (Arc::clone(&wanted.event), wanted.condition.clone());
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = kinds.get(&name) {
            return Some(Arc::clone(kind));
        }
        let kind = Arc::new(Kind::of(&wanted.event, wanted.condition.as_ref())?);
        if kinds.len() >= KINDS_KEPT {
            kinds.clear();
        }
        kinds.insert(name, Arc::clone(&kind));
        Some(kind)
    }
}

impl Index {
    /// Leaves the waits in the store that are found there by these fields, which are all of runs up to `last`. False where the pin of one
    /// was made in another way: then nothing is left there, and every wait is to be read.
    pub(in crate::exec) fn leave_in_store(&mut self, fields: Vec<Arc<str>>, last: RunId) -> bool {
        let mut by_event: HashMap<Arc<str>, Vec<(Field, Arc<str>)>> = HashMap::new();
        for text in fields {
            let Some((event, field)) = read(&text) else { return false };
            by_event.entry(event).or_default().push((field, text));
        }
        self.stored = Stored { fields: by_event, last, ..Stored::default() };
        true
    }

    /// What a store is to find a wait by while it is open: one for a single kind of event, where that has to have a certain value.
    pub(in crate::exec) fn pin(&mut self, what: &What) -> Option<Pinned> {
        let What::Events(wanted) = what else { return None };
        let [wanted] = wanted.as_slice() else { return None };
        let kind = self.kind(&wanted.event, wanted.condition.as_ref())?;
        pin(kind.text.as_ref()?, wanted, kind.condition.as_ref()?)
    }

    /// The waits that an event fits, that are in the store, and not in memory as well, in the order of their opening. `read` gives the
    /// stored ones that have this pin.
    pub(in crate::exec) fn fitting_stored(
        &self,
        event: EventView<'_>,
        read: impl Fn(&str, i64) -> Result<Vec<WaitRow>, StoreError>,
    ) -> Result<Vec<WaitKey>, StoreError> {
        let mut found = Vec::new();
        for (field, text) in self.stored.fields.get(event.name).into_iter().flatten() {
            if let Some(value) = field.value(event) {
                found.extend(read(text, hash(&value))?);
            }
        }
        looked(found.len());
        found.retain(|row| self.at(&row.wait).is_none() && self.stored.fits(row, event));
        // Those of each field are in order already.
        found.sort_by_key(|row| row.opened);
        Ok(found.into_iter().map(|row| row.wait).collect())
    }

    /// Whether a run may have waits in the store that are not in memory.
    pub(in crate::exec) fn may_have_stored(&self, run: RunId) -> bool {
        !self.stored.fields.is_empty() && run <= self.stored.last && !self.stored.taken_up.contains(&run)
    }

    /// The waits of a run come into memory, all of which are in `rows`. Those without a pin came there at the start, and what became of
    /// them since then is known.
    pub(in crate::exec) fn take_up(&mut self, run: RunId, rows: &[WaitRow]) {
        for row in rows.iter().filter(|row| row.pin.is_some() && row.state == WaitState::Open) {
            if self.at(&row.wait).is_none() {
                self.put(row, false);
            }
        }
        if !rows.is_empty() {
            self.stored.taken_up.insert(run);
            if self.open_of(run).next().is_none() {
                self.closed.insert(run);
            }
        }
    }
}

/// What a store is to find a wait by that takes these events, as `Index::pin`: for whoever writes rows in place of an engine. `condition`
/// is their `if`, compiled.
pub fn pinned(wanted: &Wanted, condition: &Expr) -> Option<Pinned> {
    pin(&text_of(&wanted.event, &condition.pinned()?)?, wanted, condition)
}

fn pin(text: &Arc<str>, wanted: &Wanted, condition: &Expr) -> Option<Pinned> {
    let bound = Bound::read(wanted.bound.as_deref()).ok()?;
    let pin = condition.pin(Some(bound.view()))?;
    Some(Pinned { field: Arc::clone(text), value: hash(&pin.value) })
}

/// The text by which a store finds waits for these events by this field; none where it could not be read back.
pub(super) fn text_of(event: &str, field: &Field) -> Option<Arc<str>> {
    let path = field.path();
    (Field::parse(&path).as_ref() == Some(field)).then(|| Arc::from(format!("{MADE} {event} {path}")))
}

/// The name of the events and the field that such a text says; none where it was made in another way.
fn read(text: &str) -> Option<(Arc<str>, Field)> {
    let (made, rest) = text.split_once(' ')?;
    // No path has a space.
    let (event, path) = rest.rsplit_once(' ')?;
    let field = Field::parse(path).filter(|_| made == MADE)?;
    Some((Arc::from(event), field))
}

/// The same for ever, since it is stored.
fn hash(value: &str) -> i64 {
    let digest: [u8; 32] = Sha256::digest(value.as_bytes()).into();
    i64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{events, row};
    use super::*;
    use crate::base::Id;
    use crate::expr::MATCH_VARIABLES;

    const SAME_USER: Option<&str> = Some("async.data.user == event.data.user");

    /// As an engine would have stored it.
    fn stored(run: i64, wanted: &[(&str, Option<&str>, &str)]) -> WaitRow {
        let row = events(run, wanted);
        WaitRow { pin: Index::default().pin(&row.what), ..row }
    }

    fn same_user(run: i64, user: &str) -> WaitRow {
        stored(run, &[("a", SAME_USER, &format!(r#"{{"data":{{"user":"{user}"}}}}"#))])
    }

    /// What an index finds among the rows of a store.
    fn found(index: &Index, rows: &[WaitRow], data: &Value) -> Vec<i64> {
        let read = |field: &str, value: i64| {
            let is_it = |row: &&WaitRow| row.pin.as_ref().is_some_and(|pin| *pin.field == *field && pin.value == value);
            Ok(rows.iter().filter(is_it).cloned().collect())
        };
        let found = index.fitting_stored(EventView { id: "1", name: "a", data, ts: 0 }, read).unwrap();
        found.iter().map(|wait| wait.run.0).collect()
    }

    #[test]
    fn a_pin_is_the_same_for_ever() {
        let row = same_user(1, "u1");
        // The first eight bytes of the SHA-256 of `"u1"`, with its quotes.
        let pin = Pinned { field: "1 a async.data.user".into(), value: -7813062456499114509 };
        assert_eq!(row.pin, Some(pin.clone()));
        let What::Events(wanted) = &*row.what else { panic!("{row:?}") };
        let condition = Expr::parse(SAME_USER.unwrap(), MATCH_VARIABLES).unwrap();
        assert_eq!(pinned(&wanted[0], &condition), Some(pin), "who writes rows in place of an engine makes the same");
    }

    #[test]
    fn what_has_no_single_value_or_field_is_not_pinned() {
        let pinned = |wanted: &[(&str, Option<&str>, &str)]| stored(1, wanted).pin;
        assert!(pinned(&[("an event", SAME_USER, "{}")]).is_some(), "a missing field is null");
        assert_eq!(pinned(&[("a", None, "")]), None);
        assert_eq!(pinned(&[("a", Some("async.data.n > 1"), "{}")]), None);
        assert_eq!(pinned(&[("a", SAME_USER, r#"{"data":{"user":[1]}}"#)]), None);
        assert_eq!(pinned(&[("a", SAME_USER, "{}"), ("b", SAME_USER, "{}")]), None);
        assert_eq!(pinned(&[("a", Some(r#"async.data["x.y"] == 1"#), "{}")]), None, "its path would be read as another one");
        assert_eq!(Index::default().pin(&row(1, What::Signal("s".into())).what), None);
    }

    #[test]
    fn waits_that_stay_in_the_store_are_found_there_until_their_run_is_taken_up() {
        let rows = [same_user(3, "u1"), same_user(1, "u1"), same_user(2, "u2")];
        let mut index = Index::default();
        assert!(index.leave_in_store(vec!["1 a async.data.user".into()], Id(3)));
        assert!(index.awaits("a") && !index.awaits("b") && index.is_empty());
        assert_eq!(found(&index, &rows, &json!({"user": "u1"})), [3, 1]);
        assert_eq!(found(&index, &rows, &json!({"user": "u2"})), [2]);
        assert!(found(&index, &rows, &json!({"user": "u3"})).is_empty() && found(&index, &rows, &json!({"user": [1]})).is_empty());
        assert_eq!([1, 3, 4].map(|run| index.may_have_stored(Id(run))), [true, true, false], "the fourth began later");

        // What has the same hash need not fit.
        let mut other = same_user(1, "u2");
        other.pin.clone_from(&rows[0].pin);
        assert!(found(&index, &[other], &json!({"user": "u1"})).is_empty());

        index.take_up(Id(1), &rows[1..2]);
        assert!(!index.may_have_stored(Id(1)) && index.knows(Id(1)) && index.has_to_look(&rows[1].wait));
        assert_eq!(found(&index, &rows, &json!({"user": "u1"})), [3], "the other one is in memory");
        index.looked(&rows[1].wait);
        index.take_up(Id(1), &rows[1..2]);
        assert!(!index.has_to_look(&rows[1].wait), "what is there already stays as it is");
        index.close(&rows[1].wait);
        index.forget(Id(1));
        assert!(!index.knows(Id(1)) && index.stored.taken_up.is_empty());

        // One that has come to something meanwhile is known, and waits for nothing.
        let mut over = same_user(3, "u1");
        over.becomes(WaitState::Resolved(crate::rules::Resolution::TimedOut));
        index.take_up(Id(3), &[over]);
        assert!(index.knows(Id(3)) && index.is_empty() && !index.may_have_stored(Id(3)));
        index.take_up(Id(2), &[]);
        assert!(!index.knows(Id(2)));
    }

    #[test]
    fn pins_that_were_made_in_another_way_are_not_gone_by() {
        for text in ["2 a async.data.user", "1 async.data.user", "1 a event.data.user", "a", ""] {
            let mut index = Index::default();
            assert!(!index.leave_in_store(vec!["1 b async.data.user".into(), text.into()], Id(9)), "{text}");
            assert!(!index.awaits("a") && !index.awaits("b") && !index.may_have_stored(Id(1)), "{text}");
        }
        let mut index = Index::default();
        assert!(index.leave_in_store(vec!["1 an event async.data.user".into()], Id(9)) && index.awaits("an event"));
        assert!(index.leave_in_store(Vec::new(), Id(9)) && !index.awaits("an event") && !index.may_have_stored(Id(1)));
    }
}
