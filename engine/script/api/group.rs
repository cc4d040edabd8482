//! Branches that run beside each other, each with records of its own: what `parallel` and `race` have in common.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rhai::{Array, Dynamic, FnPtr, Map, NativeCallContext};

use crate::base::Millis;
use crate::base::time::Waiting;
use crate::rules::fit::BELOW;
use crate::rules::race;
use crate::rules::run::Outcome;
use crate::rules::{Failure, RunState};

use super::super::attempt::{Attempt, Body, Counts, Halt, Own, Running};
use super::super::capture::{Captured, copied};
use super::super::coroutine::{Broken, Coroutine};
use super::super::error::{Fault, Thrown, terminated};
use super::super::run;
use super::steps::check_name;

#[allow(deprecated, reason = "Rhai marks what it calls volatile so; without it a closure on another coroutine finds no imports")]
type Store = rhai::NativeCallContextStore;

/// A branch as it is called: its name, its closure, and what that is given.
pub(super) type Part = (String, FnPtr, Vec<Dynamic>);

/// The branches of a map, by name.
pub(super) fn of_map(attempt: &Attempt, function: &str, branches: Map) -> Result<Vec<Part>, Fault> {
    let mut parts = Vec::with_capacity(branches.len());
    for (name, value) in branches {
        check_name(attempt, &name)?;
        parts.push((name.to_string(), closure(value, function, &name)?, Vec::new()));
    }
    Ok(parts)
}

/// The branches of a list.
pub(super) fn of_array(function: &str, branches: Array) -> Result<Vec<Part>, Fault> {
    let part = |(at, value): (usize, Dynamic)| Ok((at.to_string(), closure(value, function, &at.to_string())?, Vec::new()));
    branches.into_iter().enumerate().map(part).collect()
}

/// A branch for each item of a list.
pub(super) fn of_items(items: Array, body: &FnPtr) -> Vec<Part> {
    items.into_iter().enumerate().map(|(at, item)| (at.to_string(), body.clone(), vec![item])).collect()
}

fn closure(value: Dynamic, function: &str, name: &str) -> Result<FnPtr, Fault> {
    value.try_cast::<FnPtr>().ok_or_else(|| {
        let thrown = Thrown::last("E0407", format!("branch `{name}` of {function} is no closure"));
        thrown.help(format!("write || …, or {function}(list, |item| …)")).fault()
    })
}

/// A branch.
struct Slot {
    path: Arc<str>,
    body: FnPtr,
    arguments: Vec<Dynamic>,
    /// How often its names were asked for before it first began.
    counts: Counts,
    place: Place,
    /// It has stopped for want of a stack before it had come to something new: it may yet end by what is recorded.
    is_short: bool,
    /// When what came last in it did, once it has ended.
    came: Millis,
}

/// Where a branch stands.
enum Place {
    New,
    Running(Rc<Running>),
    Suspended {
        state: RunState,
        wake: Option<Millis>,
        error: Option<Arc<Failure>>,
        own: Own,
    },
    /// It has ended to make room for one that had no stack, and begins again once all have asked for what they have recorded.
    Aside,
    /// The engine stops before it begins something new.
    Interrupted,
    Done(Body),
}

impl Slot {
    fn is_running(&self) -> bool {
        matches!(self.place, Place::Running(_))
    }

    fn wake(&self) -> Option<Millis> {
        if let Place::Suspended { wake, .. } = self.place { wake } else { None }
    }
}

/// The branches of one `parallel` or `race`.
pub(super) struct Group<'a> {
    pub(super) parent: &'a Attempt,
    function: &'static str,
    store: Rc<Store>,
    slots: Vec<Slot>,
    /// Branches under way at once, suspended ones included.
    limit: usize,
    /// Of a race: whether its branches have to wait before they begin something new.
    gate: Option<Rc<Cell<bool>>>,
    timer: Option<(Millis, Waiting)>,
    /// How often the run had been told of its waits when this group looked at them last.
    seen: u64,
    /// A branch has begun to wait since: what it waits for may have come while it was on its way here.
    unseen: bool,
    /// A branch waits for a stack.
    wants_stack: bool,
}

impl<'a> Group<'a> {
    /// Branches that have not begun, of which so many may be under way at once; `race` is the key of the race that they are in.
    pub(super) fn new(
        context: &NativeCallContext<'_>,
        parent: &'a Attempt,
        (function, race): (&'static str, Option<&str>),
        parts: Vec<Part>,
        limit: usize,
    ) -> Group<'a> {
        let slot = |(name, body, arguments): Part| {
            let path = race.map_or_else(|| parent.path_below(&name), |race| Arc::from(format!("{race}{BELOW}{name}")));
            let counts = parent.counts_under(&path);
            Slot { path, body, arguments, counts, place: Place::New, is_short: false, came: Millis(0) }
        };
        let slots = parts.into_iter().map(slot).collect();
        #[allow(deprecated, reason = "as for `Store`")]
        let store = Rc::new(context.store_data());
        let gate = race.map(|_| Rc::new(Cell::new(true)));
        Group { parent, function, store, slots, limit, gate, timer: None, seen: 0, unseen: false, wants_stack: false }
    }
}

impl Group<'_> {
    /// Ready when no branch can go on by itself any more, or when the run has to end.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Halt>> {
        loop {
            if let Err(halt) = self.advance() {
                return Poll::Ready(Err(halt));
            }
            if !self.is_under_way() {
                return Poll::Ready(Ok(()));
            }
            match self.hear() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(halt) => return Poll::Ready(Err(halt)),
            }
            if !self.wake_due(context) {
                return Poll::Pending;
            }
        }
    }

    /// Takes what has come of the branches, and begins others where there is room.
    pub(super) fn advance(&mut self) -> Result<(), Halt> {
        self.collect().and_then(|()| self.begin())
    }

    fn is_running(&self) -> bool {
        self.slots.iter().any(Slot::is_running)
    }

    /// Whether a branch is at work, or waits for a stack.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_running() || self.wants_stack
    }

    /// Notes whether a branch waits for a stack.
    fn wants_stack(&mut self, wants: bool) {
        if std::mem::replace(&mut self.wants_stack, wants) != wants {
            self.parent.wants_stack(wants);
        }
    }

    /// Starts branches again whose waits have come to something, where the run was told of that since it looked last.
    pub(super) fn hear(&mut self) -> Result<bool, Halt> {
        let pokes = self.parent.stop.pokes();
        if !std::mem::take(&mut self.unseen) && pokes == self.seen {
            return Ok(false);
        }
        self.seen = pokes;
        self.resolved()
    }

    /// Takes what has come of the branches that have ended.
    fn collect(&mut self) -> Result<(), Halt> {
        for slot in &mut self.slots {
            let Place::Running(running) = &slot.place else { continue };
            let Some(result) = running.take() else { continue };
            let attempt = Rc::clone(&running.attempt);
            (slot.came, slot.is_short) = (attempt.came(), attempt.has_stopped_short());
            let halt = match &result {
                Err(broken) => Some(broke(&attempt, broken.clone())),
                Ok(Err(error)) => attempt.take_halt().map(|halt| run::at(halt, error, &attempt)),
                Ok(Ok(_)) => attempt.take_halt(),
            };
            let own = attempt.take_own();
            slot.place = match halt {
                Some(Halt::Stop(Outcome::Suspended { state, wake, error })) => {
                    self.unseen |= state == RunState::Waiting;
                    Place::Suspended { state, wake, error, own }
                }
                Some(Halt::Stop(Outcome::Interrupted)) => {
                    self.parent.inherit(own);
                    Place::Interrupted
                }
                Some(Halt::Aside) => {
                    self.parent.inherit(own);
                    Place::Aside
                }
                Some(halt) => {
                    self.parent.inherit(own);
                    return Err(halt);
                }
                None => {
                    self.parent.inherit(own);
                    Place::Done(result.unwrap_or_else(|_| Err(terminated())))
                }
            };
        }
        Ok(())
    }

    /// Begins as many branches as the limit lets, in order.
    fn begin(&mut self) -> Result<(), Halt> {
        // One that the engine stops before something new, or that was set aside, has not given up its place: it goes on there.
        let is_under_way =
            |slot: &&Slot| matches!(slot.place, Place::Running(_) | Place::Suspended { .. } | Place::Aside | Place::Interrupted);
        let mut room = self.limit.saturating_sub(self.slots.iter().filter(is_under_way).count());
        // Where there is no memory for another stack, the branches run one after another.
        let mut wants_stack = false;
        for at in 0..self.slots.len() {
            if room == 0 || wants_stack {
                break;
            }
            if matches!(self.slots[at].place, Place::New) && !self.comes_too_late(at) {
                wants_stack = !self.start(at, None)?;
                room -= 1;
            }
        }
        self.wants_stack(wants_stack);
        for at in 0..self.slots.len() {
            let is_aside = matches!(self.slots[at].place, Place::Aside);
            if is_aside && !self.wants_stack && self.may_come_back(at) {
                let wants_stack = !self.start(at, None)?;
                self.wants_stack(wants_stack);
            }
        }
        Ok(())
    }

    /// Whether a branch that was set aside may begin again: not where it would only have to make room once more.
    fn may_come_back(&self, at: usize) -> bool {
        let is_held = || self.parent.is_held() || self.gate.is_some() && (self.has_ended() || self.is_behind());
        self.parent.may_come_back(self.is_running()) && (self.slots[at].is_short || !is_held())
    }

    /// Starts a branch, or starts it again over what it has recorded; false where it gets no stack before another one's end.
    fn start(&mut self, at: usize, own: Option<Own>) -> Result<bool, Halt> {
        let slot = &self.slots[at];
        let attempt = self.parent.branch(&slot.path, &slot.counts, own, self.gate.as_ref());
        let script = Rc::clone(&attempt);
        let (body, arguments, store) = (slot.body.clone(), slot.arguments.clone(), Rc::clone(&self.store));
        let (makes_room, function) = (self.slots.len() > self.limit, self.function);
        let evaluate = move || {
            let result = evaluate(&script, function, &body, &arguments, &store);
            if makes_room && !script.is_halted() {
                // The branch that takes its place must not come to the disk before its end does: a replay would not begin it there.
                script.commit_records()?;
            }
            result
        };
        match Coroutine::new(Rc::clone(&attempt) as _, run::stack_bytes(&attempt), evaluate) {
            Ok(coroutine) => {
                let slot = &mut self.slots[at];
                slot.is_short = false;
                slot.place = Place::Running(self.parent.run_beside(attempt, coroutine));
                Ok(true)
            }
            Err(broken) => {
                self.parent.inherit(attempt.take_own());
                if self.is_running() || self.parent.has_others_at_work() {
                    return Ok(false);
                }
                self.parent.gives_up_on_stack();
                Err(broke(&attempt, broken))
            }
        }
    }

    /// Starts suspended branches again that wait for something which has come.
    fn resolved(&mut self) -> Result<bool, Halt> {
        let mut any = false;
        for at in 0..self.slots.len() {
            if !matches!(self.slots[at].place, Place::Suspended { state: RunState::Waiting, .. }) {
                continue;
            }
            match self.parent.look_at_waits(&self.slots[at].path) {
                Ok(true) => {
                    self.again(at)?;
                    any = true;
                }
                Ok(false) => {}
                Err(_) => return Err(self.parent.take_halt().unwrap_or(Halt::Stop(Outcome::Lost))),
            }
        }
        Ok(any)
    }

    fn again(&mut self, at: usize) -> Result<(), Halt> {
        let place = std::mem::replace(&mut self.slots[at].place, Place::New);
        let own = match place {
            Place::Suspended { own, .. } => Some(own),
            _ => None,
        };
        self.start(at, own).map(|_| ())
    }

    /// Starts suspended branches again whose time has come; waits for the next one's. Whether it has started any.
    pub(super) fn wake_due(&mut self, context: &mut Context<'_>) -> bool {
        let Some(next) = self.slots.iter().filter_map(Slot::wake).min() else { return false };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            self.timer = Some((next, self.parent.ports.clock.sleep_until(next, false)));
        }
        let is_due = self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(context).is_ready());
        if !is_due {
            return false;
        }
        self.timer = None;
        self.wake(next)
    }

    /// Starts suspended branches again whose time has come by then. Whether there are any.
    fn wake(&mut self, by: Millis) -> bool {
        let due: Vec<usize> = (0..self.slots.len()).filter(|at| self.slots[*at].wake().is_some_and(|wake| wake <= by)).collect();
        let any = !due.is_empty();
        // A branch that cannot be started for want of memory is new again, and is begun when there is some.
        due.into_iter().for_each(|at| drop(self.again(at)));
        any
    }

    /// The results in order; ends the script where a branch is left that waits.
    pub(super) fn end(mut self, ended: Result<Result<(), Halt>, Fault>) -> Result<Vec<Body>, Fault> {
        self.wants_stack(false);
        let gave_up = matches!(ended, Ok(Err(Halt::Stop(Outcome::Suspended { .. }))));
        if gave_up || self.slots.iter().any(|slot| slot.is_short) {
            self.parent.stops_short();
        }
        let mut suspended: Vec<(RunState, Option<Millis>, Option<Arc<Failure>>)> = Vec::new();
        let mut interrupted = false;
        let mut results = Vec::with_capacity(self.slots.len());
        for slot in self.slots.drain(..) {
            match slot.place {
                Place::Done(result) => {
                    self.parent.passes(slot.came);
                    results.push(result);
                }
                Place::Suspended { state, wake, error, own } => {
                    self.parent.inherit(own);
                    suspended.push((state, wake, error));
                }
                Place::Interrupted => interrupted = true,
                Place::Aside => {
                    if let Outcome::Suspended { state, wake, error } = run::without_stack(self.parent) {
                        suspended.push((state, wake, error));
                    }
                }
                // Where a race around it is over, what has ended before that is stored with the race's record.
                Place::Running(running) if self.parent.is_left() && running.take().is_some() => {
                    self.parent.inherit(running.attempt.take_own());
                }
                // It is ended with the script.
                Place::New | Place::Running(_) => {}
            }
        }
        match ended? {
            Err(halt) => Err(self.parent.halt(halt)),
            Ok(()) if interrupted => Err(self.parent.halt(Halt::Stop(Outcome::Interrupted))),
            Ok(()) if suspended.is_empty() => Ok(results),
            Ok(()) => {
                let has = |state| suspended.iter().any(|(one, ..)| *one == state);
                let state = [RunState::Waiting, RunState::BackingOff].into_iter().find(|state| has(*state)).unwrap_or(RunState::Sleeping);
                let wake = suspended.iter().filter_map(|(_, wake, _)| *wake).min();
                let error = suspended.into_iter().find_map(|(.., error)| error);
                Err(self.parent.halt(Halt::Stop(Outcome::Suspended { state, wake, error })))
            }
        }
    }

    // ---- races ----

    /// Whether a branch may yet come to its end by what is recorded: until that is known, no end is the first one. One without a stack
    /// may as well.
    pub(super) fn is_behind(&self) -> bool {
        self.slots.iter().any(|slot| match &slot.place {
            Place::Running(running) => running.attempt.is_behind(),
            Place::New => self.parent.has_past(&slot.path),
            Place::Suspended { .. } | Place::Aside => slot.is_short,
            Place::Interrupted | Place::Done(_) => false,
        })
    }

    fn has_ended(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.place, Place::Done(_)))
    }

    /// Whether the race is over for a branch that has yet to begin: only one that has something recorded may have ended before.
    fn comes_too_late(&self, at: usize) -> bool {
        self.gate.is_some() && self.has_ended() && !self.parent.has_past(&self.slots[at].path)
    }

    /// Lets the branches begin what is new, or has them wait before they do.
    pub(super) fn let_begin(&self, may_begin: bool) {
        if let Some(gate) = &self.gate
            && gate.replace(!may_begin)
            && may_begin
        {
            self.parent.branches_change();
        }
    }

    /// The branch that ended first, and when; none where none has ended.
    pub(super) fn first(&self) -> Option<(usize, Millis)> {
        let ends = self.slots.iter().enumerate().filter(|(_, slot)| matches!(slot.place, Place::Done(_)));
        let first = race::first_of(ends.map(|(at, slot)| (at, slot.came)))?;
        Some((first, self.slots[first].came))
    }

    /// Starts suspended branches again whose time is over. Whether there are any.
    pub(super) fn wake_overdue(&mut self) -> bool {
        self.wake(self.parent.now())
    }

    /// Has all branches end but this one; gives those that were at work, with their own branches. Each ends as if its run were cancelled,
    /// once what it has handed to the engine is done.
    pub(super) fn leave(&mut self, first: usize) -> Vec<Rc<Running>> {
        // Nor does one wait for a stack any more.
        self.wants_stack(false);
        for (_, slot) in self.slots.iter().enumerate().filter(|(at, _)| *at != first) {
            if let Place::Running(running) = &slot.place {
                running.attempt.leave();
            }
        }
        self.parent.left()
    }

    /// What the first branch came to, once the others have ended, and what all of them have yet to store is the run's.
    pub(super) fn take_first(mut self, first: usize, left: &[Rc<Running>]) -> Body {
        let mut body = None;
        for (at, slot) in self.slots.drain(..).enumerate() {
            match slot.place {
                Place::Done(result) if at == first => body = Some(result),
                Place::Suspended { own, .. } => self.parent.inherit(own),
                _ => {}
            }
        }
        left.iter().for_each(|running| self.parent.inherit(running.attempt.take_own()));
        // The first one is among them.
        body.unwrap_or_else(|| Err(terminated()))
    }
}

/// What a branch that gave no result means for the run.
fn broke(attempt: &Attempt, broken: Broken) -> Halt {
    match run::broke(attempt, broken) {
        Ok(outcome) => Halt::Stop(outcome),
        Err(error) => Halt::Store(error),
    }
}

/// The body of a branch: the closure, on copies of what it captured.
fn evaluate(attempt: &Attempt, function: &str, body: &FnPtr, arguments: &[Dynamic], store: &Store) -> Body {
    let engine = Arc::clone(&attempt.program.engine);
    #[allow(deprecated, reason = "as for `Store`")]
    let context = store.create_context(&engine);
    let captured = Captured::copy(body)?;
    let arguments = arguments.iter().map(copied).collect::<Result<Vec<_>, Fault>>()?;
    let result = captured.body().call_within_context::<Dynamic>(&context, arguments);
    if attempt.is_halted() {
        return Err(result.err().unwrap_or_else(terminated));
    }
    let result = result?;
    captured.check_branch(&context, body, function)?;
    Ok(result)
}
