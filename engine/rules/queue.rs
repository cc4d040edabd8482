//! Who may run next: the queue of one partition, with its concurrency slots.
//!
//! Runs that need the same slots stand in one line. A line is *ready* when every slot that its head needs has room; else
//! it is parked at one slot that is full, and looked at again when that slot gets room. So neither a hundred thousand
//! keys nor one hot key make an admission dear: each costs a few look-ups and O(log n) in the lines.
//!
//! A throttle is a slot too, for runs that have not begun: it is full while its bucket gives no start, and its own time frees it.
//!
//! Everything here is derived from the stored rows and is built anew from them at start.

mod blocked;
mod holders;
mod line;
mod refit;
mod slot;
mod slots;
mod survey;
mod vacated;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::base::dense::DenseIdMap;
use crate::base::id::IdMap;
use crate::base::{Millis, RunId};

use super::gates::{Bucket, Throttle};
use super::policy::Hold;
pub use blocked::{AHEAD_MOST, Blocked};
pub use holders::SlotId;
use line::Line;
pub use line::Order;
use slot::{Names, Places, Slot};
pub use slots::Slots;

pub use refit::{Refit, Rethrottle, Stage};
pub use survey::{KeyRule, KeyStand, Survey};

/// One limit that a run comes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Whose limit it is: the function's id and the number of its limit (`pay#0`), or the name of a shared one (`shared bank`).
    pub scope: Arc<str>,
    /// The key's value.
    pub key: Arc<str>,
    /// Runs that may hold it at once.
    pub limit: u32,
    /// While what it is held.
    pub hold: Hold,
    /// The throttle that this is, instead of a limit; then `limit` and `hold` say nothing. Only a run that has not begun wants it.
    pub throttle: Option<Throttle>,
}

impl Want {
    /// A start that a throttle of a function has to give.
    pub fn start(function: &str, key: &Arc<str>, throttle: Throttle) -> Want {
        Want { scope: throttle_scope(function), key: Arc::clone(key), limit: 1, hold: Hold::Run, throttle: Some(throttle) }
    }
}

/// The scope of a function's throttle: no limit has a name like it.
fn throttle_scope(function: &str) -> Arc<str> {
    format!("throttle {function}").into()
}

/// The function whose runs alone want a slot of this scope; none where several may share it.
fn owner(scope: &str) -> Option<&str> {
    scope.strip_prefix("throttle ").or_else(|| scope.rsplit_once('#').map(|(function, _)| function))
}

/// A start that a throttle gave, to be stored with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The value of the throttle's key.
    pub key: Arc<str>,
    /// How the bucket stands after it.
    pub bucket: Bucket,
}

type SlotAt = u32;
type LineAt = u32;

/// What the queue knows of one run that stands in line or wants slots; of any other one there is nothing to know, and a million of
/// them may sleep.
#[derive(Debug)]
struct Entry {
    slots: Places,
    /// Bit n: it holds the n-th of its slots.
    holds: u32,
    /// The line it stands in, while it is queued.
    line: Option<LineAt>,
}

/// The queue of one partition.
#[derive(Debug, Default)]
pub struct Queue {
    slots: Vec<Option<Slot>>,
    free_slots: Vec<SlotAt>,
    names: Names,
    lines: Vec<Option<Line>>,
    free_lines: Vec<LineAt>,
    line_of: HashMap<Box<[SlotAt]>, LineAt>,
    ready: BTreeSet<(Order, LineAt)>,
    runs: DenseIdMap<Entry>,
    queued: usize,
    now: Millis,
    /// Throttles that give a start again at a time, for which lines wait.
    due: BTreeSet<(Millis, SlotAt)>,
    /// Throttles that no run names, until they are as if they had never been used.
    unused: BTreeSet<(Millis, SlotAt)>,
    /// Starts that throttles gave to runs that were let in since they were last asked for.
    given: IdMap<Given>,
    /// Runs that have vacated slots while their ends are on their way, in that order.
    vacated: HashMap<SlotAt, Vec<RunId>>,
    /// Such runs that stood before others when these took their slots, since these were last asked about.
    behind: IdMap<Vec<RunId>>,
}

impl Queue {
    /// Whether a run stands in line.
    pub fn is_queued(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|entry| entry.line.is_some())
    }

    /// Runs that stand in line.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Takes up how the bucket of a throttle stood.
    pub fn load(&mut self, function: &str, key: &Arc<str>, full_us: i64) {
        let bucket = Bucket { rule: Throttle { limit: 1, period: crate::base::Span(0), burst: 0 }, full_us };
        let at = self.add_slot(&throttle_scope(function), key, 1, Hold::Run, Some(bucket));
        self.unused.insert((bucket.expires(), at));
    }

    /// It is `now`: throttles give the starts that are due. To be called before anything else at that time.
    pub fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
        while let Some(&(at, slot)) = self.due.first()
            && at <= self.now
        {
            self.due.pop_first();
            if let Some(slot) = self.slots[slot as usize].as_mut() {
                slot.take_due();
            }
            self.room(slot);
            self.look_again(slot);
        }
        while let Some(&(at, slot)) = self.unused.first()
            && at <= self.now
        {
            self.unused.pop_first();
            if let Some((0, Some(bucket))) = self.slots[slot as usize].as_ref().map(|slot| (slot.users, slot.bucket())) {
                if bucket.expires() <= self.now {
                    self.drop_slot(slot);
                } else {
                    self.unused.insert((bucket.expires(), slot));
                }
            }
        }
    }

    /// When a throttle gives a start again that a run waits for.
    pub fn next_start(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The start that a throttle gave to a run that was let in.
    pub fn given(&mut self, run: RunId) -> Option<Given> {
        self.given.remove(&run)
    }

    /// Makes a run known that has begun and is suspended: it takes the slots it holds meanwhile (`hold: run`),
    /// even beyond a limit that was lowered since.
    pub fn hold(&mut self, run: RunId, wants: &[Want]) {
        if wants.is_empty() {
            return;
        }
        let slots = self.intern(wants);
        let mut entry = Entry { slots, holds: 0, line: None };
        for (bit, &at) in entry.slots.iter().enumerate() {
            if let Some(slot) = self.slots[at as usize].as_mut().filter(|slot| slot.hold == Hold::Run) {
                slot.taken += 1;
                slot.holder = Some(run);
                entry.holds |= 1 << bit;
            }
        }
        self.runs.insert(run, entry);
    }

    /// Makes a run known that stands in no line and holds nothing: it is about to be taken in beside the line.
    pub fn know(&mut self, run: RunId, wants: &[Want]) {
        if !wants.is_empty() && !self.runs.contains_key(&run) {
            let slots = self.intern(wants);
            self.runs.insert(run, Entry { slots, holds: 0, line: None });
        }
    }

    /// Puts a run in line. One that is known keeps the slots it holds; `wants` is used for one that is not.
    pub fn push(&mut self, order: Order, wants: &[Want]) {
        let run = order.run;
        if !self.runs.contains_key(&run) {
            let slots = self.intern(wants);
            self.runs.insert(run, Entry { slots, holds: 0, line: None });
        }
        let Some(entry) = self.runs.get_mut(&run) else { return };
        if entry.line.is_some() {
            return;
        }
        let needed: Box<[SlotAt]> =
            entry.slots.iter().enumerate().filter(|(bit, _)| entry.holds & (1 << bit) == 0).map(|(_, &at)| at).collect();
        let line = match self.line_of.get(&needed) {
            Some(&line) => line,
            None => Self::place(&mut self.lines, &mut self.free_lines, Line::new(needed.clone())),
        };
        self.line_of.entry(needed).or_insert(line);
        entry.line = Some(line);
        self.queued += 1;
        if let Some(line_ref) = self.lines[line as usize].as_mut() {
            line_ref.push(order);
        }
        self.file(line);
    }

    /// Takes runs out of the queue that stand in line and hold nothing yet, with what they want: those for whom `which`
    /// holds. `of` says whether that may be a run of a function: a line for a slot that another function alone has is passed over.
    /// It looks at all that stand in the other lines, so it is for what concerns many and is rare: a function that is paused, each time
    /// after a commit of its own, and a reload, once for all that it changes. A run that ends or is cancelled leaves by `remove`.
    pub fn take_out(&mut self, of: impl Fn(&str) -> bool, which: impl Fn(&Order) -> bool) -> Vec<(Order, Vec<Want>)> {
        let mut out = Vec::new();
        for line in 0..self.lines.len() {
            let Some(line_ref) = self.lines[line].as_mut() else { continue };
            let is_of_another = |at: &SlotAt| {
                let owner = self.slots[*at as usize].as_ref().and_then(|slot| owner(&slot.name.0));
                owner.is_some_and(|function| !of(function))
            };
            if line_ref.slots.iter().any(is_of_another) {
                continue;
            }
            let gone = line_ref.take_out(&which);
            if gone.is_empty() {
                continue;
            }
            for order in gone {
                self.give_back(order.run, |_| true);
                let Some(entry) = self.runs.swap_remove(&order.run) else { continue };
                self.queued -= 1;
                let want = |at: &SlotAt| {
                    let slot = self.slots[*at as usize].as_ref()?;
                    let throttle = slot.bucket().map(|bucket| bucket.rule);
                    let (scope, key) = (Arc::clone(&slot.name.0), Arc::clone(&slot.name.1));
                    Some(Want { scope, key, limit: slot.limit, hold: slot.hold, throttle })
                };
                out.push((order, entry.slots.iter().filter_map(want).collect()));
                for &at in entry.slots.iter() {
                    self.release_user(at);
                }
            }
            self.room_of(line as LineAt);
            self.file(line as LineAt);
        }
        out.sort_by_key(|(order, _)| *order);
        out
    }

    /// Takes the next runs out of the line, at most `most`, in order, and gives them their slots.
    pub fn admit(&mut self, most: usize) -> Vec<RunId> {
        let mut admitted = Vec::new();
        while admitted.len() < most {
            let Some(&(order, line)) = self.ready.first() else { break };
            if let Some(full) = self.full_slot(line) {
                self.refile(line, Some((order, Some(full))));
                self.room_of(line);
                continue;
            }
            self.refile(line, None);
            let Some(line_ref) = self.lines[line as usize].as_mut() else { continue };
            line_ref.pop();
            if let Some(entry) = self.runs.get_mut(&order.run) {
                entry.line = None;
                self.queued -= 1;
                if entry.slots.is_empty() {
                    self.runs.swap_remove(&order.run);
                } else {
                    self.take(order.run);
                }
                admitted.push(order.run);
            }
            self.file(line);
        }
        admitted
    }

    /// The run is about to execute: it takes the slots that it lacks. One that stands in no line gets them even beyond a
    /// limit, so it must be known that there is room.
    pub fn take(&mut self, run: RunId) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        let mut throttle = None;
        for (bit, &at) in entry.slots.iter().enumerate() {
            if entry.holds & (1 << bit) == 0
                && let Some(slot) = self.slots[at as usize].as_mut()
            {
                entry.holds |= 1 << bit;
                match &mut slot.throttled {
                    None => {
                        slot.taken += 1;
                        slot.holder = Some(run);
                        if let Some(before) = self.vacated.get(&at) {
                            self.behind.entry(run).or_default().extend(before);
                        }
                    }
                    Some(throttled) => {
                        throttled.bucket.take(self.now);
                        self.given.insert(run, Given { key: Arc::clone(&slot.name.1), bucket: throttled.bucket });
                        throttle = Some(at);
                    }
                }
            }
        }
        if let Some(at) = throttle {
            // Time may have given it more than one start since somebody was let on to the ready set.
            self.room(at);
            self.look_again(at);
        }
    }

    /// The run goes on waiting for a time or an event: it gives back what it holds only while active.
    pub fn suspend(&mut self, run: RunId) {
        self.give_back(run, |hold| hold == Hold::Active);
    }

    /// The run has ended or is parked: it gives back everything, also its place in line.
    pub fn remove(&mut self, run: RunId) {
        self.settle(run);
        self.give_back(run, |_| true);
        let Some(entry) = self.runs.swap_remove(&run) else { return };
        if let Some(line) = entry.line {
            self.queued -= 1;
            self.drop_from_line(line, run);
        }
        for &at in entry.slots.iter() {
            self.release_user(at);
        }
    }

    /// The run gives up its place in line, and keeps what it holds: it is about to end.
    pub fn leave(&mut self, run: RunId) {
        if let Some(line) = self.runs.get_mut(&run).and_then(|entry| entry.line.take()) {
            self.queued -= 1;
            self.drop_from_line(line, run);
        }
    }

    fn give_back(&mut self, run: RunId, which: impl Fn(Hold) -> bool) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        let mut freed = Vec::new();
        for (bit, &at) in entry.slots.iter().enumerate() {
            if entry.holds & (1 << bit) != 0
                && let Some(slot) = self.slots[at as usize].as_mut().filter(|slot| slot.throttled.is_none() && which(slot.hold))
            {
                entry.holds &= !(1 << bit);
                slot.taken -= 1;
                slot.holder = slot.holder.filter(|holder| *holder != run);
                freed.push(at);
            }
        }
        for at in freed {
            self.room(at);
        }
    }

    /// A slot has room: the first lines parked at it move on, to the ready set or to another slot that is full.
    ///
    /// One unit of room admits one run, but a line that moves on to another full slot uses none, so the loop goes on
    /// until as many became ready as there is room, or nobody is left.
    fn room(&mut self, at: SlotAt) {
        let Some(slot) = self.slots[at as usize].as_ref() else { return };
        let mut left = slot.free(self.now);
        while left > 0 {
            let Some(&(order, line)) = self.slots[at as usize].as_ref().and_then(|slot| slot.parked.first()) else { break };
            let full = self.full_slot(line);
            self.refile(line, Some((order, full)));
            if full.is_none() {
                left -= 1;
            }
        }
    }

    /// Sees to it that a throttle that gives no start, and that lines wait for, is looked at in time.
    fn look_again(&mut self, at: SlotAt) {
        let Some(slot) = self.slots[at as usize].as_mut() else { return };
        if let Some(throttled) = &mut slot.throttled
            && throttled.due.is_none()
            && !slot.parked.is_empty()
            && throttled.bucket.starts(self.now) == 0
        {
            let due = throttled.bucket.opens(0);
            throttled.due = Some(due);
            self.due.insert((due, at));
        }
    }

    fn full_slot(&self, line: LineAt) -> Option<SlotAt> {
        let line = self.lines[line as usize].as_ref()?;
        line.slots.iter().copied().find(|&at| self.slots[at as usize].as_ref().is_some_and(|slot| slot.free(self.now) == 0))
    }

    /// Files a line under its present head, or forgets it where it is empty.
    fn file(&mut self, line: LineAt) {
        let head = self.lines[line as usize].as_ref().and_then(Line::head);
        match head {
            Some(order) => {
                let full = self.full_slot(line);
                self.refile(line, Some((order, full)));
            }
            None => {
                self.refile(line, None);
                if let Some(gone) = self.lines[line as usize].take() {
                    self.line_of.remove(&gone.slots);
                    self.free_lines.push(line);
                }
            }
        }
    }

    fn refile(&mut self, line: LineAt, to: Option<(Order, Option<SlotAt>)>) {
        let Some(line_ref) = self.lines[line as usize].as_mut() else { return };
        let from = std::mem::replace(&mut line_ref.filed, to);
        if from == to {
            return;
        }
        match from {
            Some((order, None)) => {
                self.ready.remove(&(order, line));
            }
            Some((order, Some(at))) => {
                if let Some(slot) = self.slots[at as usize].as_mut() {
                    slot.parked.remove(&(order, line));
                }
            }
            None => {}
        }
        match to {
            Some((order, None)) => {
                self.ready.insert((order, line));
            }
            Some((order, Some(at))) => {
                if let Some(slot) = self.slots[at as usize].as_mut() {
                    slot.parked.insert((order, line));
                }
                self.look_again(at);
            }
            None => {}
        }
    }

    /// Takes one run out of the middle of a line.
    fn drop_from_line(&mut self, line: LineAt, run: RunId) {
        if let Some(line_ref) = self.lines[line as usize].as_mut() {
            line_ref.leave(run);
        }
        self.room_of(line);
        self.file(line);
    }

    /// A line that had been promised room does not use it: others that wait for the same slots are looked at.
    fn room_of(&mut self, line: LineAt) {
        let slots = self.lines[line as usize].as_ref().map(|line| line.slots.clone()).unwrap_or_default();
        for at in slots {
            self.room(at);
        }
    }

    fn intern(&mut self, wants: &[Want]) -> Places {
        let mut slots = Vec::with_capacity(wants.len());
        for want in wants {
            let at = self.slot_of(&want.scope, &want.key).unwrap_or_else(|| {
                let bucket = want.throttle.map(|rule| Bucket { rule, full_us: 0 });
                self.add_slot(&want.scope, &want.key, want.limit, want.hold, bucket)
            });
            // Two limits of one function with the same scope and key are one slot.
            if slots.contains(&at) {
                continue;
            }
            if let Some(slot) = self.slots[at as usize].as_mut() {
                slot.users += 1;
                slot.limit = want.limit;
                if let (Some(throttled), Some(rule)) = (&mut slot.throttled, want.throttle) {
                    throttled.bucket.rule = rule;
                }
            }
            slots.push(at);
        }
        slots.into()
    }

    fn release_user(&mut self, at: SlotAt) {
        let Some(slot) = self.slots[at as usize].as_mut() else { return };
        slot.users -= 1;
        if slot.users > 0 {
            return;
        }
        let bucket = slot.bucket();
        if let Some(due) = slot.take_due() {
            // Nobody waits for it any more.
            self.due.remove(&(due, at));
        }
        match bucket {
            Some(bucket) if bucket.expires() > self.now => {
                self.unused.insert((bucket.expires(), at));
            }
            _ => self.drop_slot(at),
        }
    }

    fn place<T>(all: &mut Vec<Option<T>>, free: &mut Vec<u32>, item: T) -> u32 {
        match free.pop() {
            Some(at) => {
                all[at as usize] = Some(item);
                at
            }
            None => {
                all.push(Some(item));
                (all.len() - 1) as u32
            }
        }
    }
}

#[cfg(test)]
mod costs;
#[cfg(test)]
mod tests;
