//! The client: it sends what the plan says until it is answered, and cancels runs.

use std::sync::Arc;

use stepwell::base::{Json, RunId, Span};
use stepwell::exec::{
    AcceptError, CancelError, Engine, InvokeError, MigrateError, NewEvent, PauseError, ReloadError, ReplayError, RetryError,
};
use stepwell::project::{Loader, Mode};
use stepwell::rules::RunState;
use stepwell::rules::replay::Keep;
use stepwell::script::Host;
use stepwell::store::StoreError;
use tokio::runtime::Handle;

use super::super::aside::Aside;
use super::super::plan::{self, Plan};
use super::{Millis, START, World};

/// How long the client waits before it asks again.
const PATIENCE: Span = Span::seconds(1);

/// What the client has still to do.
pub(super) struct Client {
    pub(super) asks: Vec<Ask>,
    /// The cancels that were asked for.
    pub(super) cancels: usize,
    /// The signals that were sent.
    pub(super) signals: usize,
    /// Pauses and resumptions that are done.
    pub(super) pauses: usize,
    pub(super) retries: usize,
    pub(super) replays: usize,
    /// Runs that were taken to another version, or not.
    pub(super) migrates: usize,
    /// Functions that were invoked.
    pub(super) calls: usize,
    /// Edits of the project that an engine was told to reload.
    pub(super) reloads: usize,
}

/// One sending of a request.
#[derive(Clone)]
pub(super) struct Ask {
    request: usize,
    at: Millis,
    /// Sent, and not answered.
    open: bool,
    pub(super) done: bool,
}

impl Client {
    pub(super) fn new(plan: &Plan) -> Client {
        let asks = |(number, request): (usize, &plan::Request)| {
            let first = START.after(Span(request.at_ms));
            let ask = move |later: i64| Ask { request: number, at: first.after(Span(later)), open: false, done: false };
            std::iter::once(0).chain(request.again_ms.clone()).map(ask).collect::<Vec<Ask>>()
        };
        Client {
            asks: plan.requests.iter().enumerate().flat_map(asks).collect(),
            cancels: 0,
            signals: 0,
            pauses: 0,
            retries: 0,
            replays: 0,
            migrates: 0,
            calls: 0,
            reloads: 0,
        }
    }
}

/// Does what is still to be done, with a new engine. What the engine would do on other threads is done on `aside`.
pub(super) fn send(world: &Arc<World>, engine: &Engine, host: &Arc<Host>, aside: &Handle) {
    let asks = world.client().asks.len();
    for number in 0..asks {
        if !world.client().asks[number].done {
            tokio::task::spawn_local(ask(Arc::clone(world), engine.clone(), number));
        }
    }
    let from = world.client().signals;
    tokio::task::spawn_local(signal(Arc::clone(world), engine.clone(), from));
    let from = world.client().pauses;
    tokio::task::spawn_local(pause(Arc::clone(world), engine.clone(), from));
    let from = world.client().retries;
    tokio::task::spawn_local(retry(Arc::clone(world), engine.clone(), from));
    let from = world.client().replays;
    tokio::task::spawn_local(replay(Arc::clone(world), engine.clone(), aside.clone(), from));
    if !world.plan.migrates.is_empty() {
        let from = world.client().migrates;
        tokio::task::spawn_local(migrate(Arc::clone(world), engine.clone(), aside.clone(), from));
    }
    let from = world.client().calls;
    tokio::task::spawn_local(call(Arc::clone(world), engine.clone(), from));
    let from = world.client().reloads;
    tokio::task::spawn_local(reload(Arc::clone(world), engine.clone(), (Arc::clone(host), aside.clone()), from));
    let from = world.client().cancels;
    tokio::task::spawn_local(cancel(Arc::clone(world), engine.clone(), from));
}

/// The client sends a request until it is answered. What an engine took with it when it died is sent again, where that
/// can do no harm.
async fn ask(world: Arc<World>, engine: Engine, number: usize) {
    let Ask { request, at, open, .. } = world.client().asks[number].clone();
    let planned = &world.plan.requests[request];
    if !open || planned.has_ids {
        world.clock.sleep_until(at).await;
        while !sent(&world, &engine, number, request).await {
            world.clock.sleep(PATIENCE).await;
        }
    }
    world.client().asks[number].done = true;
    world.look();
}

/// Sends a request once; false where it was refused for now.
async fn sent(world: &Arc<World>, engine: &Engine, number: usize, request: usize) -> bool {
    world.client().asks[number].open = true;
    let answer = engine.accept(events(&world.plan, request)).await;
    world.unless_frozen().await;
    let now = world.now();
    match answer {
        Ok(ids) => world.facts().told(request, &ids, now),
        Err(AcceptError::Full | AcceptError::Draining) => {
            world.client().asks[number].open = false;
            return false;
        }
        // Nobody knows what became of it.
        Err(AcceptError::Store(_)) if world.has_failed() => given_up(world).await,
        Err(error) => world.facts().broken(format!("request {request} was refused: {error}")),
    }
    true
}

fn events(plan: &Plan, request: usize) -> Vec<NewEvent> {
    let planned = &plan.requests[request];
    let event = |(number, event): (usize, &plan::Event)| {
        let id = planned.has_ids.then(|| Arc::<str>::from(format!("r{request}-{number}")));
        NewEvent {
            name: format!("thing/{}", event.name).into(),
            data: Json::from(event.data.to_string()),
            sender_id: id.clone(),
            dedupe: id,
            ts: event.later_ms.map(|later| START.after(Span(planned.at_ms + later))),
            extra: None,
        }
    };
    planned.events.iter().enumerate().map(event).collect()
}

/// Somebody sends signals. One that an engine took with it when it died is not sent again.
async fn signal(world: Arc<World>, engine: Engine, from: usize) {
    let mut signals: Vec<plan::Signal> = world.plan.signals.clone();
    signals.sort_by_key(|signal| signal.at_ms);
    for signal in &signals[from.min(signals.len())..] {
        world.clock.sleep_until(START.after(Span(signal.at_ms))).await;
        world.client().signals += 1;
        let now = world.now();
        world.facts().signal(signal.number, signal.value, now);
        let answer = engine.signal(&format!("signal{}", signal.number), Json::from(signal.value.to_string())).await;
        world.unless_frozen().await;
        match answer {
            Ok(_) | Err(AcceptError::Full | AcceptError::Draining) => {}
            Err(AcceptError::Store(_)) if world.has_failed() => given_up(&world).await,
            Err(error) => world.facts().broken(format!("a signal was refused: {error}")),
        }
        world.look();
    }
}

/// Somebody pauses functions, and resumes them; each is asked for until it is done.
async fn pause(world: Arc<World>, engine: Engine, from: usize) {
    let each = |pause: &plan::Pause| [(pause.at_ms, true, pause.function), (pause.at_ms + pause.for_ms, false, pause.function)];
    let mut acts: Vec<(i64, bool, usize)> = world.plan.pauses.iter().flat_map(each).collect();
    acts.sort_unstable();
    // Whatever is paused is resumed in the end.
    acts.sort_by_key(|(at, paused, _)| (!*paused, *at));
    for (at, paused, function) in &acts[from.min(acts.len())..] {
        world.clock.sleep_until(START.after(Span(*at))).await;
        loop {
            let answer = engine.pause(&world.plan.functions[*function].id, *paused).await;
            world.unless_frozen().await;
            match answer {
                Ok(_) | Err(PauseError::NotFound(_)) => break,
                Err(PauseError::Store(StoreError::Full)) => world.clock.sleep(PATIENCE).await,
                Err(PauseError::Store(_)) if world.has_failed() => given_up(&world).await,
                Err(error) => {
                    world.facts().broken(format!("a pause was refused: {error}"));
                    break;
                }
            }
        }
        world.client().pauses += 1;
        world.look();
    }
}

/// Somebody has runs tried again at once.
async fn retry(world: Arc<World>, engine: Engine, from: usize) {
    let mut retries: Vec<plan::Cancel> = world.plan.retries.clone();
    retries.sort_by_key(|retry| retry.at_ms);
    for retry in &retries[from.min(retries.len())..] {
        world.clock.sleep_until(START.after(Span(retry.at_ms))).await;
        world.client().retries += 1;
        let backing_off = {
            let facts = world.facts();
            let all: Vec<RunId> = facts.runs.iter().filter(|(_, run)| run.state == RunState::BackingOff).map(|(id, _)| *id).collect();
            all.get(retry.run % all.len().max(1)).copied()
        };
        if let Some(run) = backing_off {
            let answer = engine.retry_now(run).await;
            world.unless_frozen().await;
            match answer {
                Ok(_) | Err(RetryError::NothingToRetry(_) | RetryError::Draining | RetryError::Store(StoreError::Full)) => {}
                Err(RetryError::Store(_)) if world.has_failed() => given_up(&world).await,
                Err(RetryError::NotFound) if world.facts().is_swept(run) => {}
                Err(error) => world.facts().broken(format!("a run was not tried again: {error}")),
            }
        }
        world.look();
    }
}

/// Somebody edits the project, and has it reloaded. An engine that dies meanwhile has left the edited files to the next one.
async fn reload(world: Arc<World>, engine: Engine, (host, aside): (Arc<Host>, Handle), from: usize) {
    let mut reloads: Vec<plan::Reload> = world.plan.reloads.clone();
    reloads.sort_by_key(|reload| reload.at_ms);
    for reload in &reloads[from.min(reloads.len())..] {
        world.clock.sleep_until(START.after(Span(reload.at_ms))).await;
        // The first commit is the one in which the engine recovers.
        engine.until_ready().await;
        world.unless_frozen().await;
        world.client().reloads += 1;
        let edition = world.edit();
        let folder = world.write(edition);
        // So that its versions are known before anything is decided by them.
        world.load(&host, edition);
        let now = world.now();
        world.facts().note(now, &format!("reload: edition {edition}"));
        let loader = Loader::new(folder.path().join("events.yaml"), Arc::clone(&host), |_| None, Mode::Run);
        let answer = Aside::new(engine.reload(&loader), &aside).await;
        world.unless_frozen().await;
        match answer {
            Ok(_) => world.facts().must_be_in_force(edition),
            Err(ReloadError::Draining) => {}
            Err(ReloadError::Store(_)) if world.has_failed() => given_up(&world).await,
            Err(error) => world.facts().broken(format!("a reload was refused: {error}")),
        }
        world.look();
    }
}

/// What was asked for will not come: the disk has failed. The engine may be idle, and nobody else notices that all is over.
async fn given_up<T>(world: &World) -> T {
    world.look();
    std::future::pending().await
}

/// Somebody has runs done again that have ended, or are parked. What an engine took with it when it died is not asked for again.
async fn replay(world: Arc<World>, engine: Engine, aside: Handle, from: usize) {
    let mut replays: Vec<plan::Cancel> = world.plan.replays.clone();
    replays.sort_by_key(|replay| replay.at_ms);
    for replay in &replays[from.min(replays.len())..] {
        world.clock.sleep_until(START.after(Span(replay.at_ms))).await;
        engine.until_ready().await;
        world.unless_frozen().await;
        world.client().replays += 1;
        let run = world.facts().replayed(replay.run);
        if let Some(run) = run {
            let keep = Keep::default();
            let answer = Aside::new(engine.replay(run, &keep, false), &aside).await;
            world.unless_frozen().await;
            match answer {
                Ok(_) | Err(ReplayError::Draining | ReplayError::FunctionGone(_) | ReplayError::Store(StoreError::Full)) => {}
                Err(ReplayError::Store(_)) if world.has_failed() => given_up(&world).await,
                // Retention may have deleted it, or its event.
                Err(ReplayError::NotFound | ReplayError::Refused(_)) if world.plan.kept.is_some() => {}
                Err(error) => world.facts().broken(format!("{run} was not done again: {error}")),
            }
        }
        world.look();
    }
}

/// Somebody has runs taken to the newest version of their handlers. What an engine took with it when it died is not asked for again.
async fn migrate(world: Arc<World>, engine: Engine, aside: Handle, from: usize) {
    let mut migrates: Vec<plan::Cancel> = world.plan.migrates.clone();
    migrates.sort_by_key(|migrate| migrate.at_ms);
    for migrate in &migrates[from.min(migrates.len())..] {
        world.clock.sleep_until(START.after(Span(migrate.at_ms))).await;
        engine.until_ready().await;
        world.unless_frozen().await;
        world.client().migrates += 1;
        let run = world.facts().migratable(migrate.run);
        if let Some(run) = run {
            let answer = Aside::new(engine.migrate(run, false), &aside).await;
            world.unless_frozen().await;
            match answer {
                Ok(_) | Err(MigrateError::AtWork | MigrateError::Ended(_) | MigrateError::Unfit(_)) => {}
                Err(MigrateError::FunctionGone(_) | MigrateError::Draining | MigrateError::Store(StoreError::Full)) => {}
                Err(MigrateError::Store(_)) if world.has_failed() => given_up(&world).await,
                // Retention may have deleted it meanwhile.
                Err(MigrateError::NotFound) if world.plan.kept.is_some() => {}
                Err(error) => world.facts().broken(format!("{run} was not migrated: {error}")),
            }
        }
        world.look();
    }
}

/// Somebody invokes functions from outside. What an engine took with it when it died is not invoked again.
async fn call(world: Arc<World>, engine: Engine, from: usize) {
    let mut calls: Vec<plan::Call> = world.plan.calls.clone();
    calls.sort_by_key(|call| call.at_ms);
    for call in &calls[from.min(calls.len())..] {
        world.clock.sleep_until(START.after(Span(call.at_ms))).await;
        engine.until_ready().await;
        world.unless_frozen().await;
        world.client().calls += 1;
        let now = world.now();
        world.facts().call(call.function, call.data.clone(), now);
        let function = &world.plan.functions[call.function];
        let answer = engine.invoke(&function.id, Json::from(call.data.to_string())).await;
        world.unless_frozen().await;
        if answer.is_err() {
            world.facts().no_call(call.function, &call.data);
        }
        match answer {
            Ok(_) | Err(InvokeError::Draining | InvokeError::Store(StoreError::Full)) => {}
            // It is gone in one of the editions.
            Err(InvokeError::Refused(_)) if function.gone_from.is_some() => {}
            Err(InvokeError::Store(_)) if world.has_failed() => given_up(&world).await,
            Err(error) => world.facts().broken(format!("{} was not invoked: {error}", function.id)),
        }
        world.look();
    }
}

/// Somebody cancels runs.
async fn cancel(world: Arc<World>, engine: Engine, from: usize) {
    let mut cancels: Vec<plan::Cancel> = world.plan.cancels.clone();
    cancels.sort_by_key(|cancel| cancel.at_ms);
    for cancel in &cancels[from.min(cancels.len())..] {
        world.clock.sleep_until(START.after(Span(cancel.at_ms))).await;
        world.client().cancels += 1;
        let run = {
            let mut facts = world.facts();
            let count = facts.runs.len().max(1);
            // Now and then one that waits for a run that it has invoked, which few do when a cancel comes.
            let parent = facts.some_parent().filter(|_| cancel.run % 2 == 0);
            let run = parent.or_else(|| facts.runs.keys().nth(cancel.run % count).copied());
            if let Some(run) = run.and_then(|run| facts.runs.get_mut(&run)) {
                run.cancelled = true;
            }
            run
        };
        if let Some(run) = run {
            while !cancelled(&world, &engine, run).await {
                world.clock.sleep(PATIENCE).await;
            }
        }
        world.look();
    }
}

/// Cancels a run once; false where the disk is full.
async fn cancelled(world: &Arc<World>, engine: &Engine, run: RunId) -> bool {
    let answer = engine.cancel(run, "somebody's wish").await;
    world.unless_frozen().await;
    let fine = match &answer {
        Ok(row) => row.state == RunState::Cancelled,
        Err(CancelError::Store(StoreError::Full)) => return false,
        Err(CancelError::Store(_)) if world.has_failed() => given_up(world).await,
        Err(CancelError::NotFound) => world.facts().is_swept(run),
        Err(error) => matches!(error, CancelError::Ended(_)),
    };
    if !fine {
        world.facts().broken(format!("G29: the cancel of {run} was answered with {answer:?}"));
    }
    true
}
