//! Who may run next: the queue of one partition, with its concurrency slots.
//!
//! Runs that need the same slots stand in one line. A line is *ready* when every slot that its head needs has room; else
//! it is parked at one slot that is full, and looked at again when that slot gets room. So neither a hundred thousand
//! keys nor one hot key make an admission dear: each costs a few look-ups and O(log n) in the lines.
//!
//! Everything here is derived from the stored rows and is built anew from them at start.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use crate::base::RunId;
use crate::base::id::IdMap;

use super::policy::Hold;

/// Where a run stands in line: lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Whether the run has not begun before: those that have go first.
    pub fresh: bool,
    /// When it entered the queue, less its head start, in milliseconds.
    pub enter_ms: i64,
    /// Its id: the order of acceptance.
    pub run: RunId,
}

/// One limit that a run comes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Whose limit it is: the function's id and the number of its limit, or the name of a shared one.
    pub scope: Arc<str>,
    /// The key's value.
    pub key: Arc<str>,
    /// Runs that may hold it at once.
    pub limit: u32,
    /// While what it is held.
    pub hold: Hold,
}

type SlotAt = u32;
type LineAt = u32;

#[derive(Debug)]
struct Slot {
    name: (Arc<str>, Arc<str>),
    limit: u32,
    hold: Hold,
    taken: u32,
    /// Runs in the queue or with a slot that name this slot; at 0 it is forgotten.
    users: u32,
    /// Lines that wait for room here, by the order of their heads.
    parked: BTreeSet<(Order, LineAt)>,
}

#[derive(Debug)]
struct Line {
    slots: Box<[SlotAt]>,
    runs: BinaryHeap<Reverse<Order>>,
    /// Where the line is filed: in the ready set or at a slot, under this order.
    filed: Option<(Order, Option<SlotAt>)>,
}

/// What the queue knows of one run.
#[derive(Debug)]
struct Entry {
    slots: Box<[SlotAt]>,
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
    slot_of: HashMap<(Arc<str>, Arc<str>), SlotAt>,
    lines: Vec<Option<Line>>,
    free_lines: Vec<LineAt>,
    line_of: HashMap<Box<[SlotAt]>, LineAt>,
    ready: BTreeSet<(Order, LineAt)>,
    runs: IdMap<Entry>,
    queued: usize,
}

impl Queue {
    /// Runs that stand in line.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Makes a run known that has begun and is suspended: it takes the slots it holds meanwhile (`hold: run`),
    /// even beyond a limit that was lowered since.
    pub fn hold(&mut self, run: RunId, wants: &[Want]) {
        let slots = self.intern(wants);
        let mut entry = Entry { slots, holds: 0, line: None };
        for (bit, &at) in entry.slots.iter().enumerate() {
            if let Some(slot) = self.slots[at as usize].as_mut().filter(|slot| slot.hold == Hold::Run) {
                slot.taken += 1;
                entry.holds |= 1 << bit;
            }
        }
        self.runs.insert(run, entry);
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
            None => {
                Self::place(&mut self.lines, &mut self.free_lines, Line { slots: needed.clone(), runs: BinaryHeap::new(), filed: None })
            }
        };
        self.line_of.entry(needed).or_insert(line);
        entry.line = Some(line);
        self.queued += 1;
        if let Some(line_ref) = self.lines[line as usize].as_mut() {
            line_ref.runs.push(Reverse(order));
        }
        self.file(line);
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
            line_ref.runs.pop();
            if let Some(entry) = self.runs.get_mut(&order.run) {
                entry.line = None;
                self.queued -= 1;
                self.take(order.run);
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
        for (bit, &at) in entry.slots.iter().enumerate() {
            if entry.holds & (1 << bit) == 0
                && let Some(slot) = self.slots[at as usize].as_mut()
            {
                slot.taken += 1;
                entry.holds |= 1 << bit;
            }
        }
    }

    /// The run goes on waiting for a time or an event: it gives back what it holds only while active.
    pub fn suspend(&mut self, run: RunId) {
        self.give_back(run, |hold| hold == Hold::Active);
    }

    /// The run has ended or is parked: it gives back everything, also its place in line.
    pub fn remove(&mut self, run: RunId) {
        self.give_back(run, |_| true);
        let Some(entry) = self.runs.remove(&run) else { return };
        if let Some(line) = entry.line {
            self.queued -= 1;
            self.drop_from_line(line, run);
        }
        for &at in &entry.slots {
            self.release_user(at);
        }
    }

    /// Who holds a slot and how many stand in line before a queued run: (the first slot that is full, its limit, its holders' number).
    pub fn blocked_by(&self, run: RunId) -> Option<(Arc<str>, Arc<str>, u32)> {
        let entry = self.runs.get(&run)?;
        let line = entry.line?;
        let at = self.full_slot(line)?;
        self.slots[at as usize].as_ref().map(|slot| (Arc::clone(&slot.name.0), Arc::clone(&slot.name.1), slot.limit))
    }

    fn give_back(&mut self, run: RunId, which: impl Fn(Hold) -> bool) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        let mut freed = Vec::new();
        for (bit, &at) in entry.slots.iter().enumerate() {
            if entry.holds & (1 << bit) != 0
                && let Some(slot) = self.slots[at as usize].as_mut().filter(|slot| which(slot.hold))
            {
                entry.holds &= !(1 << bit);
                slot.taken -= 1;
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
        let mut left = slot.limit.saturating_sub(slot.taken);
        while left > 0 {
            let Some(&(order, line)) = self.slots[at as usize].as_ref().and_then(|slot| slot.parked.first()) else { break };
            let full = self.full_slot(line);
            self.refile(line, Some((order, full)));
            if full.is_none() {
                left -= 1;
            }
        }
    }

    fn full_slot(&self, line: LineAt) -> Option<SlotAt> {
        let line = self.lines[line as usize].as_ref()?;
        line.slots.iter().copied().find(|&at| self.slots[at as usize].as_ref().is_some_and(|slot| slot.taken >= slot.limit))
    }

    /// Files a line under its present head, or forgets it where it is empty.
    fn file(&mut self, line: LineAt) {
        let head = self.lines[line as usize].as_ref().and_then(|line| line.runs.peek().map(|&Reverse(order)| order));
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
            }
            None => {}
        }
    }

    /// Takes one run out of the middle of a line; rare (a cancel), so it may cost the line's length.
    fn drop_from_line(&mut self, line: LineAt, run: RunId) {
        if let Some(line_ref) = self.lines[line as usize].as_mut() {
            line_ref.runs.retain(|Reverse(order)| order.run != run);
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

    fn intern(&mut self, wants: &[Want]) -> Box<[SlotAt]> {
        let mut slots = Vec::with_capacity(wants.len());
        for want in wants {
            let name = (Arc::clone(&want.scope), Arc::clone(&want.key));
            let at = match self.slot_of.get(&name) {
                Some(&at) => at,
                None => {
                    let slot = Slot { name: name.clone(), limit: want.limit, hold: want.hold, taken: 0, users: 0, parked: BTreeSet::new() };
                    let at = Self::place(&mut self.slots, &mut self.free_slots, slot);
                    self.slot_of.insert(name, at);
                    at
                }
            };
            // Two limits of one function with the same scope and key are one slot.
            if slots.contains(&at) {
                continue;
            }
            if let Some(slot) = self.slots[at as usize].as_mut() {
                slot.users += 1;
                slot.limit = want.limit;
            }
            slots.push(at);
        }
        slots.into_boxed_slice()
    }

    fn release_user(&mut self, at: SlotAt) {
        let Some(slot) = self.slots[at as usize].as_mut() else { return };
        slot.users -= 1;
        if slot.users == 0 {
            let name = slot.name.clone();
            self.slot_of.remove(&name);
            self.slots[at as usize] = None;
            self.free_slots.push(at);
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::Id;

    fn want(scope: &str, key: &str, limit: u32, hold: Hold) -> Want {
        Want { scope: scope.into(), key: key.into(), limit, hold }
    }

    fn order(run: i64) -> Order {
        Order { fresh: true, enter_ms: run, run: Id(run) }
    }

    #[test]
    fn runs_of_one_key_begin_in_order_and_one_at_a_time() {
        let mut queue = Queue::default();
        for run in 1..=4 {
            let key = if run == 3 { "b" } else { "a" };
            queue.push(order(run), &[want("f", key, 1, Hold::Run)]);
        }
        assert_eq!(queue.admit(10), [Id(1), Id(3)]);
        assert_eq!(queue.admit(10), []);
        queue.suspend(Id(1));
        assert_eq!(queue.admit(10), [], "hold: run keeps the slot over a suspension");
        queue.remove(Id(1));
        assert_eq!(queue.admit(10), [Id(2)]);
        queue.remove(Id(2));
        queue.remove(Id(3));
        assert_eq!(queue.admit(10), [Id(4)]);
        queue.remove(Id(4));
        assert!(queue.slot_of.is_empty() && queue.line_of.is_empty() && queue.runs.is_empty(), "nothing is left: {queue:?}");
    }

    #[test]
    fn hold_active_lets_the_slot_go_and_takes_it_again_before_fresh_runs() {
        let mut queue = Queue::default();
        for run in 1..=3 {
            queue.push(order(run), &[want("f", "a", 1, Hold::Active)]);
        }
        assert_eq!(queue.admit(10), [Id(1)]);
        queue.suspend(Id(1));
        assert_eq!(queue.admit(10), [Id(2)]);
        queue.push(Order { fresh: false, enter_ms: 100, run: Id(1) }, &[]);
        assert_eq!(queue.admit(10), []);
        queue.remove(Id(2));
        assert_eq!(queue.admit(10), [Id(1)]);
        queue.remove(Id(1));
        assert_eq!(queue.admit(10), [Id(3)]);
    }

    #[test]
    fn a_run_that_starts_outside_of_the_line_takes_its_slots_too() {
        let mut queue = Queue::default();
        queue.hold(Id(1), &[want("f", "a", 1, Hold::Active)]);
        queue.push(order(2), &[want("f", "a", 1, Hold::Active)]);
        queue.take(Id(1));
        assert_eq!(queue.admit(10), []);
        queue.suspend(Id(1));
        assert_eq!(queue.admit(10), [Id(2)]);
    }

    #[test]
    fn a_run_takes_all_its_slots_or_none_and_others_pass_it() {
        let mut queue = Queue::default();
        let both = |user: &str| [want("f#0", "null", 2, Hold::Run), want("f#1", user, 1, Hold::Run)];
        queue.push(order(1), &both("a"));
        queue.push(order(2), &both("a"));
        queue.push(order(3), &both("b"));
        queue.push(order(4), &both("c"));
        assert_eq!(queue.admit(10), [Id(1), Id(3)]);
        queue.remove(Id(3));
        assert_eq!(queue.admit(10), [Id(4)], "run 2 waits for its user and must not block run 4");
        queue.remove(Id(1));
        assert_eq!(queue.admit(10), [Id(2)]);
    }

    #[test]
    fn a_cancelled_run_leaves_the_line() {
        let mut queue = Queue::default();
        for run in 1..=3 {
            queue.push(order(run), &[want("f", "a", 1, Hold::Run)]);
        }
        assert_eq!(queue.admit(10), [Id(1)]);
        queue.remove(Id(2));
        queue.remove(Id(1));
        assert_eq!(queue.admit(10), [Id(3)]);
        assert_eq!(queue.queued(), 0);
    }

    /// The same rules, written as plainly as they can be: every admission looks at every run.
    #[derive(Default)]
    struct Model {
        waiting: Vec<(Order, Vec<Want>)>,
        known: HashMap<RunId, (Vec<Want>, Vec<bool>)>,
    }

    impl Model {
        fn taken(&self, want: &Want) -> u32 {
            let holds = |(wants, held): &(Vec<Want>, Vec<bool>)| {
                wants.iter().zip(held).any(|(other, held)| *held && other.scope == want.scope && other.key == want.key)
            };
            self.known.values().filter(|known| holds(known)).count() as u32
        }

        fn admit(&mut self) -> Vec<RunId> {
            let mut admitted = Vec::new();
            self.waiting.sort_by_key(|(order, _)| *order);
            let mut at = 0;
            while at < self.waiting.len() {
                let (order, wants) = self.waiting[at].clone();
                let held = self.known[&order.run].1.clone();
                if wants.iter().zip(&held).all(|(want, held)| *held || self.taken(want) < want.limit) {
                    self.known.insert(order.run, (wants, held.iter().map(|_| true).collect()));
                    self.waiting.remove(at);
                    admitted.push(order.run);
                    at = 0;
                } else {
                    at += 1;
                }
            }
            admitted
        }
    }

    proptest! {
        #[test]
        fn the_queue_does_what_the_plain_model_does(actions in prop::collection::vec((0u8..6, 0i64..12, 0usize..3, 0usize..4), 1..120)) {
            let (mut queue, mut model, mut next) = (Queue::default(), Model::default(), 100i64);
            for (action, pick, first, second) in actions {
                let known: Vec<RunId> = { let mut all: Vec<_> = model.known.keys().copied().collect(); all.sort(); all };
                let chosen = known.get(pick as usize % known.len().max(1)).copied();
                match (action, chosen) {
                    (0..=2, _) => {
                        next += 1;
                        let mut wants = vec![];
                        if first > 0 { wants.push(want("all", "null", 2, Hold::Run)); }
                        if second > 0 { wants.push(want("user", ["a", "b", "c"][second - 1], 1, Hold::Active)); }
                        let order = Order { fresh: true, enter_ms: next - pick, run: Id(next) };
                        queue.push(order, &wants);
                        model.known.insert(order.run, (wants.clone(), vec![false; wants.len()]));
                        model.waiting.push((order, wants));
                    }
                    (3, Some(run)) if !model.waiting.iter().any(|(order, _)| order.run == run) => {
                        queue.suspend(run);
                        let (wants, held) = model.known.get_mut(&run).expect("known");
                        for (want, held) in wants.iter().zip(held) { if want.hold == Hold::Active { *held = false; } }
                    }
                    (4, Some(run)) if !model.waiting.iter().any(|(order, _)| order.run == run) => {
                        let order = Order { fresh: false, enter_ms: next, run };
                        queue.suspend(run);
                        queue.push(order, &[]);
                        let (wants, held) = model.known.get_mut(&run).expect("known");
                        for (want, held) in wants.iter().zip(held) { if want.hold == Hold::Active { *held = false; } }
                        model.waiting.push((order, wants.clone()));
                    }
                    (5, Some(run)) => {
                        queue.remove(run);
                        model.known.remove(&run);
                        model.waiting.retain(|(order, _)| order.run != run);
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.admit(usize::MAX), model.admit());
                prop_assert_eq!(queue.queued(), model.waiting.len());
            }
        }
    }
}
