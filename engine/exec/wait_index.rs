//! The open waits in memory: found by the name of an event and, where an `if` compares a field of it with a value, by
//! that value; by the name of a signal; by the run that is waited for.
//!
//! It is a view of the stored rows, and decides nothing: whoever finds a wait here commits that it expects it to be open.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::{Arc, Weak};

use serde_json::Value;

use crate::base::id::{IdMap, NumberMap};
use crate::base::{RunId, json};
use crate::expr::{EventView, Expr, Field, MATCH_VARIABLES, Scope};
use crate::rules::{WaitKey, WaitRow, WaitState, Wanted, What};

use super::ending::Member;

/// The order of opening.
type Seq = u64;

/// Open waits, and the runs that have stored waits of whatever state.
#[derive(Debug, Default)]
pub(super) struct Index {
    next: Seq,
    /// In boxes: a map has room for twice as many as it holds.
    entries: NumberMap<Box<Entry>>,
    /// The open waits of each run that has rows, open or not.
    runs: IdMap<Seqs>,
    events: HashMap<Arc<str>, Named>,
    signals: HashMap<Arc<str>, BTreeSet<Seq>>,
    /// By the run that is waited for.
    children: IdMap<Seq>,
    /// Invoked runs that are on their way to the disk.
    unborn: IdMap<Member>,
    /// Each name with its `if` is made once.
    kinds: HashMap<KindName, Weak<Kind>>,
    /// Of the values that waits are found by.
    hasher: RandomState,
}

/// The waits for events of one name.
#[derive(Debug, Default)]
struct Named {
    fields: Vec<ByField>,
    /// Those whose `if` has no field to find them by.
    rest: BTreeSet<Seq>,
}

#[derive(Debug)]
struct ByField {
    field: Field,
    /// By the hash of the value: what is found by another value with the same hash does not fit in the end.
    values: NumberMap<Seqs>,
}

/// A few numbers: mostly one. Small, since there is one for each run and for each value.
#[derive(Debug, Default)]
enum Seqs {
    #[default]
    None,
    One(Seq),
    #[allow(clippy::box_collection, reason = "the set would make each of the many that hold one number twice as large")]
    Many(Box<BTreeSet<Seq>>),
}

#[derive(Debug)]
struct Entry {
    wait: WaitKey,
    what: Filed,
    /// Its row is on its way to the disk.
    opening: bool,
    /// Whoever opened it has looked back.
    looked: bool,
}

#[derive(Debug)]
enum Filed {
    /// Mostly it is one kind of event.
    Event(Alternative),
    Events(Box<[Alternative]>),
    Signal(Arc<str>),
    Run(RunId),
}

/// One kind of event that a wait takes.
#[derive(Debug)]
pub(super) struct Alternative {
    kind: Arc<Kind>,
    /// What the `if` reads of the run's own event.
    bound: Option<Box<str>>,
    /// The hash of the value that the kind's field has to have, by which the wait is filed; none where it has no such value.
    value: Option<NonZeroU64>,
}

/// The name of events, and the text of an `if`.
type KindName = (Arc<str>, Option<Arc<str>>);

/// What the waits for events of one name with one `if` share.
#[derive(Debug)]
struct Kind {
    event: Arc<str>,
    condition: Option<Arc<Expr>>,
    /// The field that the `if` compares with a value.
    field: Option<Field>,
}

impl Seqs {
    fn insert(&mut self, seq: Seq) {
        match self {
            Seqs::None => *self = Seqs::One(seq),
            Seqs::One(old) => *self = Seqs::Many(Box::new(BTreeSet::from([*old, seq]))),
            Seqs::Many(all) => {
                all.insert(seq);
            }
        }
    }

    /// True where none is left.
    fn remove(&mut self, seq: Seq) -> bool {
        match self {
            Seqs::None => return true,
            Seqs::One(old) if *old != seq => return false,
            Seqs::One(_) => {}
            Seqs::Many(all) => {
                all.remove(&seq);
                if !all.is_empty() {
                    return false;
                }
            }
        }
        *self = Seqs::None;
        true
    }

    /// In the order of opening.
    fn iter(&self) -> impl Iterator<Item = Seq> + '_ {
        let (one, many) = match self {
            Seqs::None => (None, None),
            Seqs::One(seq) => (Some(*seq), None),
            Seqs::Many(all) => (None, Some(all.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// What an `if` reads of a run's event that nothing of is kept.
const NOTHING_BOUND: &str = "{}";

/// The parts of a run's event that an `if` reads, as expressions see them.
fn bound_view(bound: &Value) -> EventView<'_> {
    const NOTHING: &Value = &Value::Null;
    let text = |name: &str| bound.get(name).and_then(Value::as_str).unwrap_or_default();
    let data = bound.get("data").unwrap_or(NOTHING);
    EventView { id: text("id"), name: text("name"), data, ts: bound.get("ts").and_then(Value::as_i64).unwrap_or_default() }
}

impl Alternative {
    /// The name of the events.
    pub(super) fn event(&self) -> &str {
        &self.kind.event
    }

    /// A text that the data of an event must hold for it to be one of these, unless they write characters as escapes: so most
    /// events need not be parsed. None where nothing is known to be in them as it stands.
    pub(super) fn needle(&self) -> Option<Arc<str>> {
        let bound = json::value(self.bound.as_deref().unwrap_or(NOTHING_BOUND)).ok()?;
        let pin = self.kind.condition.as_ref()?.pin(Some(bound_view(&bound)))?;
        let is_plain = pin.value.starts_with('"') && !pin.value.contains('\\');
        (is_plain && pin.field.path().starts_with("async.data")).then_some(pin.value)
    }

    /// Whether an event is one of these. An `if` that fails counts as false.
    pub(super) fn fits(&self, event: EventView<'_>) -> bool {
        if event.name != &*self.kind.event {
            return false;
        }
        let Some(expr) = &self.kind.condition else { return true };
        let Ok(bound) = json::value(self.bound.as_deref().unwrap_or(NOTHING_BOUND)) else { return false };
        let scope = Scope { event: Some(bound_view(&bound)), async_event: Some(event), ..Scope::default() };
        expr.holds(&scope).unwrap_or_else(|error| {
            tracing::debug!(condition = &**expr.text(), %error, "the `if` of a wait counts as false");
            false
        })
    }
}

impl Index {
    /// Files an open wait; `opening` says that its row is not stored yet.
    pub(super) fn put(&mut self, row: &WaitRow, opening: bool) {
        self.close(&row.wait);
        let open = self.runs.entry(row.wait.run).or_default();
        if row.state != WaitState::Open {
            return;
        }
        let seq = self.next;
        self.next += 1;
        open.insert(seq);
        let what = match &*row.what {
            What::Events(wanted) => {
                let all: Vec<Alternative> = wanted.iter().map(|wanted| self.alternative(wanted)).collect();
                all.iter().for_each(|one| file(self.events.entry(Arc::clone(&one.kind.event)).or_default(), one, seq));
                match <[Alternative; 1]>::try_from(all) {
                    Ok([one]) => Filed::Event(one),
                    Err(all) => Filed::Events(all.into()),
                }
            }
            What::Signal(name) => Filed::Signal(Arc::clone(name)),
            What::Run(run) => Filed::Run(*run),
        };
        match &what {
            Filed::Event(_) | Filed::Events(_) => {}
            Filed::Signal(name) => {
                self.signals.entry(Arc::clone(name)).or_default().insert(seq);
            }
            Filed::Run(run) => {
                self.children.insert(*run, seq);
            }
        }
        let wait = WaitKey { key: self.shared(&row.wait.key), ..row.wait.clone() };
        self.entries.insert(seq, Box::new(Entry { wait, what, opening, looked: false }));
    }

    /// A name as it is filed already, so that many waits share one text: mostly a wait is called after its event.
    fn shared(&self, name: &Arc<str>) -> Arc<str> {
        Arc::clone(self.events.get_key_value(name).map_or(name, |(filed, _)| filed))
    }

    /// What a wait takes, compiled.
    pub(super) fn alternatives(&mut self, wanted: &[Wanted]) -> Box<[Alternative]> {
        wanted.iter().map(|wanted| self.alternative(wanted)).collect()
    }

    fn alternative(&mut self, wanted: &Wanted) -> Alternative {
        let Some(kind) = self.kind(&wanted.event, wanted.condition.as_ref()) else {
            // It was checked when the wait was opened; this one can only come from another version.
            let condition = wanted.condition.as_deref().unwrap_or_default();
            tracing::error!(condition, "the `if` of a stored wait does not compile; it counts as false");
            let never = Kind { event: Arc::from("stepwell/never"), condition: None, field: None };
            return Alternative { kind: Arc::new(never), bound: None, value: None };
        };
        let Some(expr) = &kind.condition else { return Alternative { kind, bound: None, value: None } };
        let view = json::value(wanted.bound.as_deref().unwrap_or(NOTHING_BOUND)).unwrap_or_default();
        let pin = expr.pin(Some(bound_view(&view)));
        let value = pin.map(|pin| self.hash(&pin.value));
        // A text of its own: the row's lies among others that are about to go, and would keep their memory.
        Alternative { bound: wanted.bound.as_deref().map(Box::from), value, kind }
    }

    /// What is found by another value with the same hash does not fit in the end.
    fn hash(&self, value: &str) -> NonZeroU64 {
        NonZeroU64::new(self.hasher.hash_one(value)).unwrap_or(NonZeroU64::MIN)
    }

    /// What waits for events of this name with this `if` share; none where the `if` does not compile.
    fn kind(&mut self, event: &Arc<str>, condition: Option<&Arc<str>>) -> Option<Arc<Kind>> {
        let name = (self.shared(event), condition.cloned());
        if let Some(kind) = self.kinds.get(&name).and_then(Weak::upgrade) {
            return Some(kind);
        }
        let condition = condition.map(|text| Expr::parse(text, MATCH_VARIABLES).map(Arc::new)).transpose().ok()?;
        let field = condition.as_ref().and_then(|expr| expr.pinned());
        let kind = Arc::new(Kind { event: Arc::clone(&name.0), condition, field });
        if self.kinds.len() == self.kinds.capacity() {
            self.kinds.retain(|_, kind| kind.strong_count() > 0);
        }
        self.kinds.insert(name, Arc::downgrade(&kind));
        Some(kind)
    }

    fn seq(&self, wait: &WaitKey) -> Option<Seq> {
        self.runs.get(&wait.run)?.iter().find(|seq| self.entries.get(seq).is_some_and(|entry| entry.wait == *wait))
    }

    fn entry_mut(&mut self, wait: &WaitKey) -> Option<&mut Entry> {
        let seq = self.seq(wait)?;
        self.entries.get_mut(&seq).map(|entry| &mut **entry)
    }

    /// Its row is stored.
    pub(super) fn opened(&mut self, wait: &WaitKey) {
        if let Some(entry) = self.entry_mut(wait) {
            entry.opening = false;
        }
    }

    /// Whoever opened it has looked back.
    pub(super) fn looked(&mut self, wait: &WaitKey) {
        if let Some(entry) = self.entry_mut(wait) {
            entry.looked = true;
        }
    }

    /// Whether somebody has yet to look back for it.
    pub(super) fn has_to_look(&self, wait: &WaitKey) -> bool {
        self.seq(wait).and_then(|seq| self.entries.get(&seq)).is_some_and(|entry| !entry.looked)
    }

    /// A wait was found closed: it is not open any more, unless it is not open yet.
    pub(super) fn found_closed(&mut self, wait: &WaitKey) {
        if self.entry_mut(wait).is_some_and(|entry| !entry.opening) {
            self.close(wait);
        }
    }

    /// A wait is not open any more.
    pub(super) fn close(&mut self, wait: &WaitKey) {
        let Some(seq) = self.seq(wait) else { return };
        if let Some(open) = self.runs.get_mut(&wait.run) {
            open.remove(seq);
        }
        self.take_out(seq);
    }

    /// A run has ended: none of its waits is stored any more.
    pub(super) fn forget(&mut self, run: RunId) {
        let open = self.runs.remove(&run).unwrap_or_default();
        open.iter().for_each(|seq| self.take_out(seq));
    }

    fn take_out(&mut self, seq: Seq) {
        let Some(entry) = self.entries.remove(&seq) else { return };
        match entry.what {
            Filed::Event(one) => self.unfile(&one, seq),
            Filed::Events(all) => all.iter().for_each(|one| self.unfile(one, seq)),
            Filed::Signal(name) => {
                if let Some(all) = self.signals.get_mut(&name) {
                    all.remove(&seq);
                    if all.is_empty() {
                        self.signals.remove(&name);
                    }
                }
            }
            Filed::Run(run) => {
                self.children.remove(&run);
            }
        }
    }

    fn unfile(&mut self, one: &Alternative, seq: Seq) {
        if let Some(named) = self.events.get_mut(&one.kind.event)
            && unfile(named, one, seq)
        {
            self.events.remove(&one.kind.event);
        }
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a run has stored waits.
    pub(super) fn knows(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Whether anybody waits for events of this name.
    pub(super) fn awaits(&self, event: &str) -> bool {
        !self.events.is_empty() && self.events.contains_key(event)
    }

    /// The waits that an event fits, in the order of their opening.
    pub(super) fn fitting(&self, event: EventView<'_>) -> Vec<WaitKey> {
        let Some(named) = self.events.get(event.name) else { return Vec::new() };
        let mut found: Vec<Seq> = named.rest.iter().copied().collect();
        for by in &named.fields {
            if let Some(seqs) = by.field.value(event).and_then(|value| by.values.get(&self.hash(&value).get())) {
                found.extend(seqs.iter());
            }
        }
        found.sort_unstable();
        found.dedup();
        let fits = |entry: &&Entry| match &entry.what {
            Filed::Event(one) => one.fits(event),
            Filed::Events(all) => all.iter().any(|one| one.fits(event)),
            Filed::Signal(_) | Filed::Run(_) => false,
        };
        found.iter().filter_map(|seq| self.entries.get(seq).map(|entry| &**entry)).filter(fits).map(|entry| entry.wait.clone()).collect()
    }

    /// The waits for a signal whose rows are stored, in the order of their opening.
    pub(super) fn on_signal(&self, name: &str) -> Vec<WaitKey> {
        let waits = self.signals.get(name).into_iter().flatten().filter_map(|seq| self.entries.get(seq));
        waits.filter(|entry| !entry.opening).map(|entry| entry.wait.clone()).collect()
    }

    /// The wait for the end of a run.
    pub(super) fn parent_of(&self, child: RunId) -> Option<WaitKey> {
        self.children.get(&child).and_then(|seq| self.entries.get(seq)).map(|entry| entry.wait.clone())
    }

    /// The runs that a run waits for.
    pub(super) fn children_of(&self, run: RunId) -> Vec<RunId> {
        let open = self.runs.get(&run).into_iter().flat_map(Seqs::iter).filter_map(|seq| self.entries.get(&seq));
        open.filter_map(|entry| if let Filed::Run(child) = entry.what { Some(child) } else { None }).collect()
    }

    /// The runs that a run waits for, where it waits for at least one, and for nothing else.
    pub(super) fn waits_for_runs(&self, run: RunId) -> Option<Vec<RunId>> {
        let mut children = Vec::new();
        for entry in self.runs.get(&run)?.iter().filter_map(|seq| self.entries.get(&seq)) {
            let Filed::Run(child) = entry.what else { return None };
            children.push(child);
        }
        (!children.is_empty()).then_some(children)
    }

    /// Whether a run is waited for by the one that invoked it.
    pub(super) fn is_awaited(&self, child: RunId) -> bool {
        self.children.contains_key(&child)
    }

    /// An invoked run is on its way to the disk.
    pub(super) fn is_coming(&mut self, member: Member) {
        self.unborn.insert(member.run.id, member);
    }

    /// An invoked run has come to the disk, or will not.
    pub(super) fn has_come(&mut self, run: RunId) {
        self.unborn.remove(&run);
    }

    /// An invoked run that is on its way to the disk.
    pub(super) fn unborn(&self, run: RunId) -> Option<&Member> {
        self.unborn.get(&run)
    }

    /// Reads a stored wait at the start of an engine; `resolved` gets the runs that have something to record.
    pub(super) fn load(&mut self, row: &WaitRow, resolved: &mut HashSet<RunId>) {
        if let WaitState::Resolved(_) = row.state {
            resolved.insert(row.wait.run);
        }
        self.put(row, false);
    }
}

impl Alternative {
    /// Where it is filed under the name of its events.
    fn place(&self) -> Option<(&Field, u64)> {
        Some((self.kind.field.as_ref()?, self.value?.get()))
    }
}

fn file(named: &mut Named, one: &Alternative, seq: Seq) {
    let Some((field, value)) = one.place() else {
        named.rest.insert(seq);
        return;
    };
    let at = named.fields.iter().position(|by| by.field == *field).unwrap_or_else(|| {
        named.fields.push(ByField { field: field.clone(), values: NumberMap::default() });
        named.fields.len() - 1
    });
    named.fields[at].values.entry(value).or_default().insert(seq);
}

/// True where nobody waits for events of this name any more.
fn unfile(named: &mut Named, one: &Alternative, seq: Seq) -> bool {
    match one.place() {
        None => {
            named.rest.remove(&seq);
        }
        Some((field, value)) => {
            if let Some(at) = named.fields.iter().position(|by| by.field == *field) {
                let by = &mut named.fields[at];
                if by.values.get_mut(&value).is_some_and(|seqs| seqs.remove(seq)) {
                    by.values.remove(&value);
                }
                if by.values.is_empty() {
                    named.fields.swap_remove(at);
                }
            }
        }
    }
    named.fields.is_empty() && named.rest.is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::{Id, Millis};
    use crate::rules::Kind;

    fn row(run: i64, what: What) -> WaitRow {
        let wait = WaitKey { run: Id(run), kind: Kind::Wait, key: "w".into() };
        WaitRow { wait, what: Arc::new(what), opened: Millis(0), until: None, state: WaitState::Open }
    }

    fn events(run: i64, wanted: &[(&str, Option<&str>, &str)]) -> WaitRow {
        let one = |(event, condition, bound): &(&str, Option<&str>, &str)| Wanted {
            event: (*event).into(),
            condition: condition.map(Arc::from),
            bound: condition.map(|_| Arc::from(*bound)),
        };
        row(run, What::Events(wanted.iter().map(one).collect()))
    }

    fn fitting(index: &Index, name: &str, data: &Value) -> Vec<i64> {
        index.fitting(EventView { id: "1", name, data, ts: 0 }).iter().map(|wait| wait.run.0).collect()
    }

    #[test]
    fn waits_are_found_by_name_and_value_in_the_order_of_their_opening() {
        let same_user = Some("async.data.user == event.data.user");
        let mut index = Index::default();
        index.put(&events(5, &[("a", same_user, r#"{"data":{"user":"u1"}}"#)]), false);
        index.put(&events(4, &[("a", None, "")]), false);
        index.put(&events(3, &[("a", same_user, r#"{"data":{"user":"u2"}}"#)]), false);
        index.put(&events(2, &[("a", Some("async.data.n > 3"), "{}"), ("b", Some("async.data.user == 1"), "{}")]), false);
        index.put(&events(1, &[("a", same_user, r#"{"data":{"user":"u1"}}"#)]), false);
        assert_eq!(fitting(&index, "a", &json!({"user": "u1"})), [5, 4, 1]);
        assert_eq!(fitting(&index, "a", &json!({"user": "u2", "n": 4})), [4, 3, 2]);
        assert_eq!(fitting(&index, "b", &json!({"user": 1.0})), [2]);
        assert!(fitting(&index, "b", &json!({"user": 2})).is_empty());
        assert!(fitting(&index, "c", &json!({})).is_empty());
    }

    #[test]
    fn what_is_closed_or_forgotten_leaves_nothing_behind() {
        let mut index = Index::default();
        let rows = [
            events(1, &[("a", Some("async.data.x == 1"), "{}"), ("a", Some("async.data.x == 1"), "{}"), ("b", None, "")]),
            events(2, &[("a", Some("async.data.x == 1"), "{}")]),
            row(3, What::Signal("s".into())),
            row(4, What::Run(Id(9))),
        ];
        rows.iter().for_each(|row| index.put(row, false));
        assert_eq!(index.parent_of(Id(9)).map(|wait| wait.run), Some(Id(4)));
        assert_eq!(index.children_of(Id(4)), [Id(9)]);
        assert_eq!(index.on_signal("s").len(), 1);
        for row in &rows {
            index.close(&row.wait);
            assert!(index.knows(row.wait.run), "its row is stored still");
        }
        assert!(fitting(&index, "a", &json!({"x": 1})).is_empty());
        assert!(index.entries.is_empty() && index.events.is_empty() && index.signals.is_empty() && index.children.is_empty(), "{index:?}");
        rows.iter().for_each(|row| index.forget(row.wait.run));
        assert!(index.runs.is_empty());
    }

    #[test]
    fn a_wait_on_its_way_to_the_disk_is_not_taken_for_closed() {
        let mut index = Index::default();
        let row = row(1, What::Signal("s".into()));
        index.put(&row, true);
        assert!(index.on_signal("s").is_empty());
        index.found_closed(&row.wait);
        index.opened(&row.wait);
        assert_eq!(index.on_signal("s").first(), Some(&row.wait));
        assert!(index.has_to_look(&row.wait));
        index.looked(&row.wait);
        assert!(!index.has_to_look(&row.wait));
        index.found_closed(&row.wait);
        assert!(index.on_signal("s").is_empty());
    }

    #[test]
    fn a_run_that_waits_for_anything_but_runs_says_so() {
        let mut index = Index::default();
        let waits = |key: &str, what| WaitRow { wait: WaitKey { key: key.into(), ..row(1, What::Run(Id(8))).wait }, ..row(1, what) };
        assert_eq!(index.waits_for_runs(Id(1)), None);
        index.put(&waits("one", What::Run(Id(8))), false);
        index.put(&waits("other", What::Run(Id(9))), false);
        assert_eq!(index.waits_for_runs(Id(1)), Some(vec![Id(8), Id(9)]));
        let signal = waits("third", What::Signal("s".into()));
        index.put(&signal, false);
        assert_eq!(index.waits_for_runs(Id(1)), None);
        index.close(&signal.wait);
        index.close(&waits("one", What::Run(Id(8))).wait);
        assert_eq!((index.waits_for_runs(Id(1)), index.is_awaited(Id(8)), index.is_awaited(Id(9))), (Some(vec![Id(9)]), false, true));
        index.close(&waits("other", What::Run(Id(9))).wait);
        assert_eq!(index.waits_for_runs(Id(1)), None, "it is about to go on");
    }

    #[test]
    fn a_field_finds_one_wait_among_many() {
        let mut index = Index::default();
        for run in 0..10_000 {
            index.put(&events(run, &[("a", Some("async.data.id == event.data.id"), &format!(r#"{{"data":{{"id":{run}}}}}"#))]), false);
        }
        let named = &index.events["a"];
        assert!(named.rest.is_empty() && named.fields.len() == 1 && named.fields[0].values.len() == 10_000);
        assert_eq!(index.kinds.len(), 1, "one text is compiled once");
        assert_eq!(fitting(&index, "a", &json!({"id": 77})), [77]);
    }
}
