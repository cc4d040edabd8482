//! The open waits in memory: found by the name of an event and, where an `if` compares a field of it with a value, by
//! that value; by the name of a signal; by the run that is waited for. Those from before the start that have such a value stay in the
//! store until their runs go on (`stored`).
//!
//! It is a view of the stored rows, and decides nothing: whoever finds a wait here commits that it expects it to be open.

mod stored;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use serde::Deserialize;
use serde_json::Value;

use crate::base::id::{IdMap, IdSet, hash_of};
use crate::base::looks::looked;
use crate::base::{RunId, json};
use crate::expr::{EventView, Expr, Field, MATCH_VARIABLES, Scope};
use crate::rules::{self, WaitKey, WaitRow, WaitState, Wanted, What};

use super::ending::Member;
use stored::Stored;
pub use stored::pinned;
use values::Values;

/// The place of an open wait.
type At = u32;

/// Open waits, and the runs that have stored waits of whatever state.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// How many were opened before the next one.
    next: u64,
    /// The open waits, each at its place. There may be a million, so that each of the rest only has places.
    entries: Vec<Option<Entry>>,
    free: Vec<At>,
    /// By the run that waits: each of its open waits, all under the hash of the run.
    open: HashTable<At>,
    /// Runs that have rows, of which none is open.
    closed: IdSet,
    events: HashMap<Arc<str>, Named>,
    signals: HashMap<Arc<str>, BTreeSet<At>>,
    /// By the run that is waited for.
    children: IdMap<At>,
    /// Invoked runs that are on their way to the disk.
    unborn: IdMap<Member>,
    /// Each name with its `if` is made once.
    kinds: HashMap<KindName, Weak<Kind>>,
    /// The one that was asked for last.
    latest: Weak<Kind>,
    /// Of the values that waits are found by.
    hasher: RandomState,
    stored: Stored,
}

/// The waits for events of one name.
#[derive(Debug, Default)]
struct Named {
    fields: Vec<ByField>,
    /// Those whose `if` has no field to find them by.
    rest: BTreeSet<At>,
}

#[derive(Debug)]
struct ByField {
    field: Field,
    /// What is found by another value with the same hash does not fit in the end.
    values: Values,
}

#[derive(Debug)]
struct Entry {
    /// How many were opened before it.
    seq: u64,
    run: RunId,
    key: Arc<str>,
    what: Filed,
    kind: rules::Kind,
    /// Its row is on its way to the disk.
    opening: bool,
    /// Whoever opened it has looked back.
    looked: bool,
}

impl Entry {
    fn is(&self, wait: &WaitKey) -> bool {
        self.run == wait.run && self.kind == wait.kind && self.key == wait.key
    }

    fn wait(&self) -> WaitKey {
        WaitKey { run: self.run, kind: self.kind, key: Arc::clone(&self.key) }
    }
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
    value: Option<u32>,
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
    /// The text by which a store finds waits by that field, if it can.
    text: Option<Arc<str>>,
}

impl Kind {
    /// None where the `if` does not compile.
    fn of(event: &Arc<str>, condition: Option<&Arc<str>>) -> Option<Kind> {
        let condition = condition.map(|text| Expr::parse(text, MATCH_VARIABLES).map(Arc::new)).transpose().ok()?;
        let field = condition.as_ref().and_then(|expr| expr.pinned());
        let text = field.as_ref().and_then(|field| stored::text_of(event, field));
        Some(Kind { event: Arc::clone(event), condition, field, text })
    }

    fn is(&self, event: &str, condition: Option<&Arc<str>>) -> bool {
        *self.event == *event && self.condition.as_ref().map(|expr| expr.text()) == condition
    }
}

/// The parts of a run's event that an `if` reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bound {
    id: String,
    name: String,
    data: Value,
    ts: i64,
}

impl Bound {
    fn read(text: Option<&str>) -> serde_json::Result<Bound> {
        text.map_or_else(|| Ok(Bound::default()), json::read)
    }

    /// As expressions see them.
    fn view(&self) -> EventView<'_> {
        EventView { id: &self.id, name: &self.name, data: &self.data, ts: self.ts }
    }
}

impl Alternative {
    /// The name of the events.
    pub(super) fn event(&self) -> &str {
        &self.kind.event
    }

    /// A text that the data of an event must hold for it to be one of these, unless they write characters as escapes: so most
    /// events need not be parsed. None where nothing is known to be in them as it stands.
    pub(super) fn needle(&self) -> Option<Arc<str>> {
        let bound = Bound::read(self.bound.as_deref()).ok()?;
        let pin = self.kind.condition.as_ref()?.pin(Some(bound.view()))?;
        let is_plain = pin.value.starts_with('"') && !pin.value.contains('\\');
        (is_plain && pin.field.path().starts_with("async.data")).then_some(pin.value)
    }

    /// Whether an event is one of these. An `if` that fails counts as false.
    pub(super) fn fits(&self, event: EventView<'_>) -> bool {
        if event.name != &*self.kind.event {
            return false;
        }
        let Some(expr) = &self.kind.condition else { return true };
        let Ok(bound) = Bound::read(self.bound.as_deref()) else { return false };
        let scope = Scope { event: Some(bound.view()), async_event: Some(event), ..Scope::default() };
        expr.holds(&scope).unwrap_or_else(|error| {
            tracing::debug!(condition = &**expr.text(), %error, "the `if` of a wait counts as false");
            false
        })
    }
}

impl Index {
    /// Gives back the room that was not needed.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        let entries = &self.entries;
        self.open.shrink_to_fit(|at| hash_at(entries, *at));
    }

    /// Files an open wait; `opening` says that its row is not stored yet.
    pub(super) fn put(&mut self, row: &WaitRow, opening: bool) {
        self.close(&row.wait);
        let WaitKey { run, kind, ref key } = row.wait;
        if row.state != WaitState::Open {
            if self.open_of(run).next().is_none() {
                self.closed.insert(run);
            }
            return;
        }
        self.closed.remove(&run);
        let what = match &*row.what {
            What::Events(wanted) => {
                let all: Vec<Alternative> = wanted.iter().map(|wanted| self.alternative(wanted)).collect();
                match <[Alternative; 1]>::try_from(all) {
                    Ok([one]) => Filed::Event(one),
                    Err(all) => Filed::Events(all.into()),
                }
            }
            What::Signal(name) => Filed::Signal(Arc::clone(name)),
            What::Run(run) => Filed::Run(*run),
        };
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as At
        });
        match &what {
            Filed::Event(one) => file(&mut self.events, one, at),
            Filed::Events(all) => all.iter().for_each(|one| file(&mut self.events, one, at)),
            Filed::Signal(name) => {
                self.signals.entry(Arc::clone(name)).or_default().insert(at);
            }
            Filed::Run(run) => {
                self.children.insert(*run, at);
            }
        }
        let seq = self.next;
        self.next += 1;
        let key = match &what {
            // Mostly a wait is called after its event.
            Filed::Event(one) if one.kind.event == *key => Arc::clone(&one.kind.event),
            _ => self.shared(key),
        };
        self.entries[at as usize] = Some(Entry { seq, run, key, what, kind, opening, looked: false });
        let entries = &self.entries;
        self.open.insert_unique(hash_of(run), at, |at| hash_at(entries, *at));
    }

    fn entry(&self, at: At) -> Option<&Entry> {
        self.entries.get(at as usize)?.as_ref()
    }

    /// The open waits of a run, in no order.
    fn open_of(&self, run: RunId) -> impl Iterator<Item = (At, &Entry)> {
        let places = self.open.iter_hash(hash_of(run)).copied();
        places.filter_map(move |at| Some((at, self.entry(at)?))).filter(move |(_, entry)| entry.run == run)
    }

    /// A name as it is filed already, so that many waits share one text.
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
            let never = Kind { event: Arc::from("stepwell/never"), condition: None, field: None, text: None };
            return Alternative { kind: Arc::new(never), bound: None, value: None };
        };
        let Some(expr) = &kind.condition else { return Alternative { kind, bound: None, value: None } };
        let bound = Bound::read(wanted.bound.as_deref()).unwrap_or_default();
        let pin = expr.pin(Some(bound.view()));
        let value = pin.map(|pin| self.hash(&pin.value));
        // A text of its own: the row's lies among others that are about to go, and would keep their memory.
        Alternative { bound: wanted.bound.as_deref().map(Box::from), value, kind }
    }

    fn hash(&self, value: &str) -> u32 {
        self.hasher.hash_one(value) as u32
    }

    /// What waits for events of this name with this `if` share; none where the `if` does not compile.
    fn kind(&mut self, event: &Arc<str>, condition: Option<&Arc<str>>) -> Option<Arc<Kind>> {
        if let Some(kind) = self.latest.upgrade().filter(|kind| kind.is(event, condition)) {
            return Some(kind);
        }
        let name = (self.shared(event), condition.cloned());
        if let Some(kind) = self.kinds.get(&name).and_then(Weak::upgrade) {
            self.latest = Arc::downgrade(&kind);
            return Some(kind);
        }
        let kind = Arc::new(Kind::of(&name.0, condition)?);
        if self.kinds.len() == self.kinds.capacity() {
            self.kinds.retain(|_, kind| kind.strong_count() > 0);
        }
        self.latest = Arc::downgrade(&kind);
        self.kinds.insert(name, Weak::clone(&self.latest));
        Some(kind)
    }

    fn at(&self, wait: &WaitKey) -> Option<At> {
        self.open_of(wait.run).find(|(_, entry)| entry.is(wait)).map(|(at, _)| at)
    }

    fn entry_mut(&mut self, wait: &WaitKey) -> Option<&mut Entry> {
        let at = self.at(wait)?;
        self.entries.get_mut(at as usize)?.as_mut()
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
        self.at(wait).and_then(|at| self.entry(at)).is_some_and(|entry| !entry.looked)
    }

    /// Whether a wait is here whose row is stored.
    pub(super) fn is_stored(&self, wait: &WaitKey) -> bool {
        self.at(wait).and_then(|at| self.entry(at)).is_some_and(|entry| !entry.opening)
    }

    /// A wait is not open any more.
    pub(super) fn close(&mut self, wait: &WaitKey) {
        let Some(at) = self.at(wait) else { return };
        self.take_out(at);
        if self.open_of(wait.run).next().is_none() {
            self.closed.insert(wait.run);
        }
    }

    /// A run has ended: none of its waits is stored any more.
    pub(super) fn forget(&mut self, run: RunId) {
        self.closed.remove(&run);
        self.stored.forget(run);
        let open: Vec<At> = self.open_of(run).map(|(at, _)| at).collect();
        open.into_iter().for_each(|at| self.take_out(at));
    }

    fn take_out(&mut self, at: At) {
        let Some(entry) = self.entries[at as usize].take() else { return };
        if let Ok(place) = self.open.find_entry(hash_of(entry.run), |other| *other == at) {
            place.remove();
        }
        self.free.push(at);
        match entry.what {
            Filed::Event(one) => self.unfile(&one, at),
            Filed::Events(all) => all.iter().for_each(|one| self.unfile(one, at)),
            Filed::Signal(name) => {
                if let Some(all) = self.signals.get_mut(&name) {
                    all.remove(&at);
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

    fn unfile(&mut self, one: &Alternative, at: At) {
        if let Some(named) = self.events.get_mut(&one.kind.event)
            && unfile(named, one, at)
        {
            self.events.remove(&one.kind.event);
        }
    }

    /// Whether nobody waits for anything here.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a run has stored waits.
    pub(super) fn knows(&self, run: RunId) -> bool {
        self.closed.contains(&run) || self.open_of(run).next().is_some()
    }

    /// Whether anybody waits for events of this name, or may do so in the store.
    pub(super) fn awaits(&self, event: &str) -> bool {
        (!self.events.is_empty() && self.events.contains_key(event)) || self.stored.awaits(event)
    }

    /// The waits in memory that an event fits, in the order of their opening.
    pub(super) fn fitting(&self, event: EventView<'_>) -> Vec<WaitKey> {
        let Some(named) = self.events.get(event.name) else { return Vec::new() };
        let mut found: Vec<At> = named.rest.iter().copied().collect();
        for by in &named.fields {
            if let Some(value) = by.field.value(event) {
                found.extend(by.values.of(self.hash(&value)));
            }
        }
        let fits = |entry: &&Entry| match &entry.what {
            Filed::Event(one) => one.fits(event),
            Filed::Events(all) => all.iter().any(|one| one.fits(event)),
            Filed::Signal(_) | Filed::Run(_) => false,
        };
        looked(found.len());
        found.sort_unstable();
        found.dedup();
        in_order(found.into_iter().filter_map(|at| self.entry(at)).filter(fits))
    }

    /// The waits for a signal whose rows are stored, in the order of their opening.
    pub(super) fn on_signal(&self, name: &str) -> Vec<WaitKey> {
        let waits = self.signals.get(name).into_iter().flatten().filter_map(|at| self.entry(*at));
        in_order(waits.filter(|entry| !entry.opening))
    }

    /// The wait for the end of a run.
    pub(super) fn parent_of(&self, child: RunId) -> Option<WaitKey> {
        self.children.get(&child).and_then(|at| self.entry(*at)).map(Entry::wait)
    }

    /// The runs that a run waits for, in the order of the waits' opening.
    pub(super) fn children_of(&self, run: RunId) -> Vec<RunId> {
        let child = |entry: &Entry| if let Filed::Run(child) = entry.what { Some((entry.seq, child)) } else { None };
        let mut children: Vec<(u64, RunId)> = self.open_of(run).filter_map(|(_, entry)| child(entry)).collect();
        children.sort_unstable();
        children.into_iter().map(|(_, child)| child).collect()
    }

    /// The runs that a run waits for, where it waits for at least one, and for nothing else.
    pub(super) fn waits_for_runs(&self, run: RunId) -> Option<Vec<RunId>> {
        let mut waits = self.open_of(run).peekable();
        waits.peek()?;
        waits.all(|(_, entry)| matches!(entry.what, Filed::Run(_))).then(|| self.children_of(run))
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
    pub(super) fn load(&mut self, row: &WaitRow, resolved: &mut BTreeSet<RunId>) {
        if let WaitState::Resolved(_) = row.state {
            resolved.insert(row.wait.run);
        }
        self.put(row, false);
    }
}

impl Alternative {
    /// Where it is filed under the name of its events.
    fn place(&self) -> Option<(&Field, u32)> {
        Some((self.kind.field.as_ref()?, self.value?))
    }
}

fn hash_at(entries: &[Option<Entry>], at: At) -> u64 {
    entries.get(at as usize).and_then(Option::as_ref).map_or(0, |entry| hash_of(entry.run))
}

/// In the order of their opening.
fn in_order<'e>(entries: impl Iterator<Item = &'e Entry>) -> Vec<WaitKey> {
    let mut entries: Vec<&Entry> = entries.collect();
    entries.sort_unstable_by_key(|entry| entry.seq);
    entries.into_iter().map(Entry::wait).collect()
}

fn file(events: &mut HashMap<Arc<str>, Named>, one: &Alternative, at: At) {
    let named = events.entry(Arc::clone(&one.kind.event)).or_default();
    let Some((field, value)) = one.place() else {
        named.rest.insert(at);
        return;
    };
    let by = named.fields.iter().position(|by| by.field == *field).unwrap_or_else(|| {
        named.fields.push(ByField { field: field.clone(), values: Values::default() });
        named.fields.len() - 1
    });
    named.fields[by].values.insert(value, at);
}

/// True where nobody waits for events of this name any more.
fn unfile(named: &mut Named, one: &Alternative, at: At) -> bool {
    match one.place() {
        None => {
            named.rest.remove(&at);
        }
        Some((field, value)) => {
            if let Some(place) = named.fields.iter().position(|by| by.field == *field) {
                let by = &mut named.fields[place];
                by.values.remove(value, at);
                if by.values.is_empty() {
                    named.fields.swap_remove(place);
                }
            }
        }
    }
    named.fields.is_empty() && named.rest.is_empty()
}

#[cfg(test)]
mod tests;
