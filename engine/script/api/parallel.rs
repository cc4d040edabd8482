//! `parallel`: several branches at once, each with records of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rhai::{Array, Dynamic, Engine, EvalAltResult, FnPtr, Map, NativeCallContext};

use crate::base::Millis;
use crate::base::diagnostic::nearest;
use crate::base::limits::{BRANCHES_DEFAULT, BRANCHES_MOST};
use crate::base::time::Waiting;
use crate::rules::run::Outcome;
use crate::rules::{Failure, RunState};

use super::super::attempt::{Attempt, Body, Counts, Halt, Own, Running, current};
use super::super::capture::{Captured, copied};
use super::super::coroutine::{Broken, Coroutine};
use super::super::error::{Fault, Thrown, terminated, verdict};
use super::super::run;
use super::demand_between;
use super::steps::check_name;

#[allow(deprecated, reason = "Rhai marks what it calls volatile so; without it a closure on another coroutine finds no imports")]
type Store = rhai::NativeCallContextStore;

/// The options of `parallel`.
pub(super) const OPTIONS: [&str; 2] = ["limit", "settle"];

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("parallel", |context: NativeCallContext, branches: Map| of_map(&context, branches, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Map, options: Map| of_map(&context, branches, options));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Array| of_array(&context, branches, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, branches: Array, options: Map| of_array(&context, branches, options));
    engine.register_fn("parallel", |context: NativeCallContext, items: Array, body: FnPtr| of_items(&context, items, body, Map::new()));
    engine.register_fn("parallel", |context: NativeCallContext, items: Array, body: FnPtr, options: Map| {
        of_items(&context, items, body, options)
    });
}

#[derive(Debug, Clone, Copy)]
struct Options {
    /// Branches under way at once, suspended ones included.
    limit: usize,
    settle: bool,
}

fn options(given: Map) -> Result<Options, Fault> {
    let mut options = Options { limit: BRANCHES_DEFAULT, settle: false };
    for (name, value) in given {
        match (name.as_str(), value.as_int(), value.as_bool()) {
            ("limit", Ok(limit), _) if (1..=BRANCHES_MOST as i64).contains(&limit) => options.limit = limit as usize,
            ("settle", _, Ok(settle)) => options.settle = settle,
            ("limit", ..) => return Err(Thrown::last("E0407", format!("limit is a whole number from 1 to {BRANCHES_MOST}")).fault()),
            ("settle", ..) => return Err(Thrown::last("E0407", "settle is true or false").fault()),
            (other, ..) => {
                let near = nearest(other, OPTIONS);
                let help = near.map_or("parallel takes limit and settle".to_owned(), |near| format!("did you mean `{near}`?"));
                return Err(Thrown::last("E0407", format!("parallel has no option `{other}`")).help(help).fault());
            }
        }
    }
    Ok(options)
}

fn closure(value: Dynamic, name: &str) -> Result<FnPtr, Fault> {
    value.try_cast::<FnPtr>().ok_or_else(|| {
        let thrown = Thrown::last("E0407", format!("branch `{name}` of parallel is no closure"));
        thrown.help("write || …, or parallel(list, |item| …)").fault()
    })
}

fn of_map(context: &NativeCallContext<'_>, branches: Map, given: Map) -> Result<Dynamic, Fault> {
    let attempt = current()?;
    let mut parts = Vec::with_capacity(branches.len());
    for (name, value) in branches {
        check_name(&attempt, &name)?;
        parts.push((name.to_string(), closure(value, &name)?, Vec::new()));
    }
    let names: Vec<String> = parts.iter().map(|(name, ..)| name.clone()).collect();
    let results = run_all(context, parts, options(given)?)?;
    Ok(names.into_iter().map(Into::into).zip(results).collect::<Map>().into())
}

fn of_array(context: &NativeCallContext<'_>, branches: Array, given: Map) -> Result<Dynamic, Fault> {
    let part = |(at, value): (usize, Dynamic)| Ok((at.to_string(), closure(value, &at.to_string())?, Vec::new()));
    let parts = branches.into_iter().enumerate().map(part).collect::<Result<Vec<_>, Fault>>()?;
    Ok(run_all(context, parts, options(given)?)?.into())
}

fn of_items(context: &NativeCallContext<'_>, items: Array, body: FnPtr, given: Map) -> Result<Dynamic, Fault> {
    let part = |(at, item): (usize, Dynamic)| (at.to_string(), body.clone(), vec![item]);
    let parts = items.into_iter().enumerate().map(part).collect();
    Ok(run_all(context, parts, options(given)?)?.into())
}

/// Runs the branches; their results in order.
fn run_all(context: &NativeCallContext<'_>, parts: Vec<(String, FnPtr, Vec<Dynamic>)>, options: Options) -> Result<Array, Fault> {
    let attempt = current()?;
    demand_between(&attempt, "parallel")?;
    // What was drawn before the branches must not be lost behind what they do.
    attempt.commit_records()?;
    let slot = |(name, body, arguments): (String, FnPtr, Vec<Dynamic>)| {
        let path = attempt.path_below(&name);
        let counts = attempt.counts_under(&path);
        Slot { path, body, arguments, counts, place: Place::New }
    };
    let slots = parts.into_iter().map(slot).collect();
    #[allow(deprecated, reason = "as for `Store`")]
    let store = Rc::new(context.store_data());
    let group = Group { parent: &attempt, store, slots, limit: options.limit, timer: None, seen: 0, unseen: false, wants_stack: false };
    let group = RefCell::new(group);
    attempt.waits_for_branches(true);
    let ended = attempt.wait(std::future::poll_fn(|context| group.borrow_mut().poll(context)));
    attempt.waits_for_branches(false);
    let group = group.into_inner();
    let results = group.end(ended)?;
    if options.settle {
        return Ok(results.into_iter().map(settled).collect());
    }
    results.into_iter().collect()
}

/// `#{ok}` or `#{err}`.
fn settled(result: Body) -> Dynamic {
    let mut map = Map::new();
    match result {
        Ok(value) => map.insert("ok".into(), value),
        Err(fault) => map.insert("err".into(), caught(&fault)),
    };
    map.into()
}

/// What a `catch` would get.
fn caught(fault: &EvalAltResult) -> Dynamic {
    let mut inner = fault;
    while let EvalAltResult::ErrorInFunctionCall(_, _, next, _) | EvalAltResult::ErrorInModule(_, next, _) = inner {
        inner = next;
    }
    match inner {
        EvalAltResult::ErrorRuntime(value, _) => value.clone(),
        _ => verdict(fault, "").failure.message.into(),
    }
}

/// A branch.
struct Slot {
    path: Arc<str>,
    body: FnPtr,
    arguments: Vec<Dynamic>,
    /// How often its names were asked for before it first began.
    counts: Counts,
    place: Place,
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

/// The branches of one `parallel`.
struct Group<'a> {
    parent: &'a Attempt,
    store: Rc<Store>,
    slots: Vec<Slot>,
    limit: usize,
    timer: Option<(Millis, Waiting)>,
    /// How often the run had been told of its waits when this group looked at them last.
    seen: u64,
    /// A branch has begun to wait since: what it waits for may have come while it was on its way here.
    unseen: bool,
    /// A branch waits for a stack.
    wants_stack: bool,
}

impl Group<'_> {
    /// Ready when no branch can go on by itself any more, or when the run has to end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Halt>> {
        loop {
            if let Err(halt) = self.collect().and_then(|()| self.begin()) {
                return Poll::Ready(Err(halt));
            }
            if !self.is_running() && !self.wants_stack {
                return Poll::Ready(Ok(()));
            }
            let pokes = self.parent.stop.pokes();
            if std::mem::take(&mut self.unseen) || pokes != self.seen {
                self.seen = pokes;
                match self.resolved() {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(halt) => return Poll::Ready(Err(halt)),
                }
            }
            if !self.wake_due(context) {
                return Poll::Pending;
            }
        }
    }

    fn is_running(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.place, Place::Running(_)))
    }

    /// Notes whether a branch waits for a stack.
    fn wants_stack(&mut self, wants: bool) {
        if std::mem::replace(&mut self.wants_stack, wants) != wants {
            self.parent.wants_stack(wants);
        }
    }

    /// Takes what has come of the branches that have ended.
    fn collect(&mut self) -> Result<(), Halt> {
        for slot in &mut self.slots {
            let Place::Running(running) = &slot.place else { continue };
            let Some(result) = running.take() else { continue };
            let attempt = Rc::clone(&running.attempt);
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
            if matches!(self.slots[at].place, Place::New) {
                wants_stack = !self.start(at, None)?;
                room -= 1;
            }
        }
        self.wants_stack(wants_stack);
        for at in 0..self.slots.len() {
            let is_aside = matches!(self.slots[at].place, Place::Aside);
            if is_aside && !self.wants_stack && self.parent.may_come_back(self.is_running()) {
                let wants_stack = !self.start(at, None)?;
                self.wants_stack(wants_stack);
            }
        }
        Ok(())
    }

    /// Starts a branch, or starts it again over what it has recorded; false where it gets no stack before another one's end.
    fn start(&mut self, at: usize, own: Option<Own>) -> Result<bool, Halt> {
        let slot = &self.slots[at];
        let attempt = self.parent.branch(&slot.path, &slot.counts, own);
        let script = Rc::clone(&attempt);
        let (body, arguments, store) = (slot.body.clone(), slot.arguments.clone(), Rc::clone(&self.store));
        let makes_room = self.slots.len() > self.limit;
        let evaluate = move || {
            let result = evaluate(&script, &body, &arguments, &store);
            if makes_room && !script.is_halted() {
                // The branch that takes its place must not come to the disk before its end does: a replay would not begin it there.
                script.commit_records()?;
            }
            result
        };
        match Coroutine::new(Rc::clone(&attempt) as _, run::stack_bytes(&attempt), evaluate) {
            Ok(coroutine) => {
                self.slots[at].place = Place::Running(self.parent.run_beside(attempt, coroutine));
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
    fn wake_due(&mut self, context: &mut Context<'_>) -> bool {
        let wake = |slot: &Slot| if let Place::Suspended { wake, .. } = slot.place { wake } else { None };
        let Some(next) = self.slots.iter().filter_map(wake).min() else { return false };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next) {
            self.timer = Some((next, self.parent.ports.clock.sleep_until(next, false)));
        }
        let is_due = self.timer.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(context).is_ready());
        if !is_due {
            return false;
        }
        self.timer = None;
        let due: Vec<usize> = (0..self.slots.len()).filter(|at| wake(&self.slots[*at]).is_some_and(|wake| wake <= next)).collect();
        // A branch that cannot be started for want of memory is new again, and is begun when there is some.
        due.into_iter().for_each(|at| drop(self.again(at)));
        true
    }

    /// The results in order; ends the script where a branch is left that waits.
    fn end(mut self, ended: Result<Result<(), Halt>, Fault>) -> Result<Vec<Body>, Fault> {
        self.wants_stack(false);
        let mut suspended: Vec<(RunState, Option<Millis>, Option<Arc<Failure>>)> = Vec::new();
        let mut interrupted = false;
        let mut results = Vec::with_capacity(self.slots.len());
        for slot in self.slots.drain(..) {
            match slot.place {
                Place::Done(result) => results.push(result),
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
}

/// What a branch that gave no result means for the run.
fn broke(attempt: &Attempt, broken: Broken) -> Halt {
    match run::broke(attempt, broken) {
        Ok(outcome) => Halt::Stop(outcome),
        Err(error) => Halt::Store(error),
    }
}

/// The body of a branch: the closure, on copies of what it captured.
fn evaluate(attempt: &Attempt, body: &FnPtr, arguments: &[Dynamic], store: &Store) -> Body {
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
    captured.check_branch(&context, body)?;
    Ok(result)
}
