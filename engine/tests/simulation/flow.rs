//! Random mixes of all that limits when and how often functions start, through the real engine on a simulated clock, against
//! a model that says the same as plainly as it can be said: functions that work, sleep, back off and invoke each other under all kinds of
//! gates and limits, start by the clock, are paused, and whose engine is killed. `STEPWELL_FLOW_SEED=…` runs one world again.

mod model;
mod without;
mod world;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};

use stepwell::base::{Clock, Id, Millis, RunId, Span};
use stepwell::exec::{Assembled, Engine, NewEvent, Setup};
use stepwell::rules::cron::SCHEDULED;
use stepwell::rules::ended::failing_function;
use stepwell::rules::{RunRow, RunState};
use stepwell::script::{Entry, Host, Where};
use stepwell::store::{EventQuery, Memory, RunQuery, Store};

use super::clock::SimClock;
use super::dice::{Dice, SeededEntropy};
use super::number;
use super::plan::WakePlan;
use super::shrink;
use model::Model;
use without::Without;
use world::{Act, Clock as Cron, Event, LAST_TICK, Ms, Ticks, World};

/// 2026-01-01, when every world begins.
const START: Millis = Millis(1_767_225_600_000);
/// Worlds that are tried where nothing else is said.
const WORLDS: u64 = 200;
/// Worlds in which something that matters is looked for.
const ENOUGH: usize = 3;
/// Whatever has not ended by then never will.
const HORIZON: Millis = Millis(START.0 + 24 * 3_600_000);

/// How a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Completed,
    Failed,
    Cancelled,
}

/// What a run has come to; its event (of a batch the first one) and its function are how it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fate {
    started: Option<Ms>,
    ended: Ms,
    end: End,
    /// How many events it has.
    events: usize,
    /// How many runs its script for failures has.
    failures: usize,
}

/// The events of a request.
fn request(events: &[Event]) -> Vec<NewEvent> {
    let new = |event: &Event| {
        let data = serde_json::json!({
            "n": event.number, "a": event.a, "b": event.b, "x": event.x, "p": event.p, "works": event.works,
            "sleeps": event.sleeps, "fails": event.fails,
        });
        let id: Option<Arc<str>> = event.id.map(|id| id.to_string().into());
        NewEvent {
            name: format!("e/{}", event.name).into(),
            data: data.to_string().into(),
            sender_id: id.clone(),
            dedupe: id,
            ts: event.ts.map(|ts| Millis(START.0 + ts)),
            extra: None,
        }
    };
    events.iter().map(new).collect()
}

/// The run of an event and a function.
fn run_of(world: &World, store: &dyn Store, event: usize, function: usize) -> Option<RunId> {
    let query = RunQuery { function: Some(format!("f{function}").into()), ..RunQuery::default() };
    let is_it = |event_id: Id| number_of(world, store, event_id) == event;
    store.runs(&query).expect("memory can be read").into_iter().find(|run| is_it(run.event)).map(|run| run.id)
}

/// The number of an event: where the clock made it, that of its time and schedule.
fn number_of(world: &World, store: &dyn Store, event: Id) -> usize {
    let row = store.event(event).expect("memory can be read").expect("a run has its event");
    let data: serde_json::Value = serde_json::from_str(&row.data).expect("JSON");
    if *row.name == *SCHEDULED {
        return world.clock(data["cron"].as_str().expect("a schedule")).number(row.ts.0 - START.0);
    }
    data["n"].as_u64().expect("a number") as usize
}

/// A script host with a step's work, which takes time and does nothing.
fn host(clock: &Arc<SimClock>) -> Arc<Host> {
    let clock = Arc::clone(clock);
    Host::with(move |natives| {
        natives.engine().register_fn("work", move |ms: i64| {
            stepwell::script::demand_step("work")?;
            stepwell::script::wait_in_step(clock.sleep(Span(ms)))
        });
        let forms: &'static [&'static str] = &["(ms: whole) -> nothing"];
        natives.declare(Entry { name: "work", forms, place: Where::InStep, doc: "", example: "", gives: "" });
    })
}

/// Lets the world pass through the real engine; gives what became of the runs, and the starts by the clock that may be late.
fn real(world: &World) -> (HashMap<(usize, usize), Fate>, Ticks) {
    let clock = SimClock::new(START, WakePlan { late: 0, late_ms: 0 }, Dice::new(1));
    let host = host(&clock);
    let project = world.load(&host);
    let mut store = Arc::new(Memory::new());
    let mut acts = world.acts.iter();
    loop {
        let advancing = Arc::clone(&clock);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || advancing.advance())
            .build()
            .expect("a runtime without drivers needs nothing");
        let local = tokio::task::LocalSet::new();
        let setup = Setup {
            project: Arc::clone(&project),
            host: Arc::clone(&host),
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::new(clock.hand(stepwell::base::Span(0))) as Arc<dyn Clock>,
            entropy: Arc::new(SeededEntropy(Mutex::new(Dice::new(2)))),
            threads: 2,
        };
        let killed = local.block_on(&runtime, async {
            let Assembled { engine, scheduler, workers, upkeep } = Engine::assemble(setup).expect("memory can be read");
            tokio::task::spawn_local(scheduler);
            tokio::task::spawn_local(upkeep);
            workers.into_iter().for_each(|worker| drop(tokio::task::spawn_local(worker)));
            for (at, act) in acts.by_ref() {
                clock.sleep_until(Millis(START.0 + at)).await;
                match act {
                    Act::Kill => return true,
                    Act::Send(events) => {
                        engine.accept(request(events)).await.expect("the events are as declared");
                    }
                    Act::Cancel(event, function) => {
                        if let Some(run) = run_of(world, &*store, *event, *function) {
                            // One that has ended is left alone.
                            let _ = engine.cancel(run, "enough").await;
                        }
                    }
                    Act::Pause(function, paused) => {
                        engine.pause(&format!("f{function}"), *paused).await.expect("it is declared");
                    }
                }
            }
            clock.sleep_until(Millis(START.0 + LAST_TICK + 10_000)).await;
            while store.stats().expect("memory can be read").unfinished > 0 && clock.now() < HORIZON {
                clock.sleep(Span::seconds(60)).await;
            }
            false
        });
        drop(local);
        drop(runtime);
        if !killed {
            break;
        }
        store = Arc::new(Memory::restore(store.snapshot()));
    }
    let runs = store.runs(&RunQuery::default()).expect("memory can be read");
    // What the scripts for failures give is the run that failed.
    let (failures, runs): (Vec<RunRow>, Vec<RunRow>) = runs.into_iter().partition(|run| failing_function(&run.function).is_some());
    let fate = |run: RunRow| {
        let function = run.function[1..].parse().expect("f and a number");
        let since = |at: Millis| at.0 - START.0;
        let own = format!("\"{}\"", run.id);
        let fate = Fate {
            started: run.started.map(since),
            ended: run.ended.map_or(Ms::MAX, since),
            end: match run.state {
                RunState::Failed => End::Failed,
                RunState::Cancelled => End::Cancelled,
                _ => End::Completed,
            },
            events: 1 + store.batch(run.id).expect("memory can be read").len(),
            failures: failures.iter().filter(|failure| failure.output.as_deref() == Some(&*own)).count(),
        };
        ((number_of(world, &*store, run.event), function), fate)
    };
    (runs.into_iter().map(fate).collect(), ticks(world, &*store))
}

/// The schedules whose starts may be late, each with the number of its function.
fn late_clocks(world: &World) -> impl Iterator<Item = (usize, Cron)> {
    world::clocks(&world.functions).filter(|(_, clock)| clock.jitter > 0)
}

/// When the clock has started the functions whose starts may be late, which the model has to find right.
fn ticks(world: &World, store: &dyn Store) -> Ticks {
    let events = store.events(&EventQuery::default()).expect("memory can be read");
    let mut ticks = Ticks::new();
    for (at, clock) in late_clocks(world) {
        let schedule = clock.schedule();
        let mut starts: Vec<(Ms, Ms)> = Vec::new();
        for event in events.iter().filter(|event| *event.name == *SCHEDULED) {
            let data: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
            if data["cron"].as_str() == Some(schedule.as_str()) {
                starts.push((event.ts.0 - START.0, event.accepted.0 - START.0));
            }
        }
        starts.sort_unstable();
        assert!(clock.fits(&starts), "f{at} by {schedule}: {starts:?}");
        ticks.extend(starts.into_iter().map(|(time, came)| ((at, clock.number(time)), came)));
    }
    ticks
}

/// Compares a world with the model; none where two things happen at once.
fn differ(world: &World) -> Option<Result<usize, String>> {
    if !world.functions.iter().any(world::Function::has_jitter) {
        // It is known beforehand whether there is anything to compare.
        Model::fates(&world.functions, &world.acts, Ticks::new())?;
    }
    let (found, ticks) = real(world);
    let expected = Model::fates(&world.functions, &world.acts, ticks)?;
    let mut all: Vec<_> = expected.keys().chain(found.keys()).copied().collect();
    all.sort_unstable();
    all.dedup();
    let wrong: Vec<String> = all
        .iter()
        .filter(|run| expected.get(run) != found.get(run))
        .map(|run| format!("event {}, f{}: expected {:?}, found {:?}", run.0, run.1, expected.get(run), found.get(run)))
        .collect();
    Some(if wrong.is_empty() { Ok(all.len()) } else { Err(format!("{}\n{:#?}\n{}", world.yaml(), world.acts, wrong.join("\n"))) })
}

/// A world that differs from the model, with few of the acts by which it does.
fn shrunk(world: &World) -> World {
    let with = |acts: &[(Ms, Act)]| World { acts: acts.to_vec(), ..world.clone() };
    // What stays paused for ever would be another story.
    let goes_on = |acts: &[(Ms, Act)], function: usize| {
        let pause = |act: &Act| if let Act::Pause(of, paused) = act { (*of == function).then_some(*paused) } else { None };
        acts.iter().rev().find_map(|(_, act)| pause(act)) != Some(true)
    };
    let fails = |acts: &[(Ms, Act)]| {
        let differs = || matches!(differ(&with(acts)), Some(Err(_)));
        let all_go_on = (0..world.functions.len()).all(|function| goes_on(acts, function));
        all_go_on && std::panic::catch_unwind(AssertUnwindSafe(differs)).unwrap_or(false)
    };
    with(&shrink::fewest(&world.acts, fails))
}

#[test]
fn the_model_is_short_enough_to_be_seen_through() {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/tests/simulation/flow");
    // All that lies in its folder counts; another folder in there could not be read.
    let mut files = vec![folder.join("model.rs")];
    files.extend(std::fs::read_dir(folder.join("model")).unwrap().map(|entry| entry.unwrap().path()));
    let lines: usize = files.iter().map(|file| std::fs::read_to_string(file).unwrap().lines().filter(is_code).count()).sum();
    assert!(lines <= 300, "the model has {lines} lines of code, in {files:?}");
}

/// A model that says the same whether something is there or not would hold nothing against the engine. Only worlds that are surely
/// compared count: which of those are with a jitter, the engine's dice say.
#[test]
fn what_the_model_knows_of_matters_in_worlds_that_are_compared() {
    let fates = |world: &World| Model::fates(&world.functions, &world.acts, Ticks::new());
    let is_sure = |world: &World| !world.functions.iter().any(world::Function::has_jitter);
    let sure = (0..WORLDS).map(world::world).filter(is_sure).filter_map(|world| fates(&world).map(|fates| (world, fates)));
    let sure: Vec<(World, _)> = sure.collect();
    println!("{} worlds are surely compared", sure.len());
    let matters = |without: Without, world: &World, whole: &HashMap<(usize, usize), Fate>| {
        let mut less = world.clone();
        without(&mut less);
        fates(&less).is_some_and(|less| less != *whole)
    };
    for (what, without) in without::ALL {
        let count = sure.iter().filter(|(world, whole)| matters(without, world, whole)).take(ENOUGH).count();
        println!("{what} matters in {count} worlds, of which no more than {ENOUGH} are looked for");
        assert!(count > 0, "{what} never matters");
    }
}

/// That a start by the clock is late matters to what the model says: here each comes when half of its jitter is over.
#[test]
fn a_late_start_matters_to_the_model() {
    let late = |world: &World| -> Ticks {
        let starts = |(at, clock): (usize, Cron)| clock.times().map(move |slot| ((at, clock.number(slot)), slot + clock.jitter / 2));
        late_clocks(world).flat_map(starts).collect()
    };
    let matters = |seed: &u64| {
        let world = world::world(*seed);
        let fates = |ticks| Model::fates(&world.functions, &world.acts, ticks);
        fates(late(&world)).zip(fates(Ticks::new())).is_some_and(|(one, other)| one != other)
    };
    let count = (0..WORLDS).filter(matters).count();
    println!("a jitter matters in {count} worlds");
    assert!(count > 0, "a jitter never matters");
}

#[test]
fn flow_control_does_what_the_plain_model_does() {
    let seeds = number("STEPWELL_FLOW_SEED").map_or(0..number("STEPWELL_FLOW_SEEDS").unwrap_or(WORLDS), |seed| seed..seed + 1);
    let (mut compared, mut runs) = (0, 0);
    for seed in seeds.clone() {
        println!("seed {seed}");
        let world = world::world(seed);
        match differ(&world) {
            None => {}
            Some(Ok(count)) => (compared, runs) = (compared + 1, runs + count),
            Some(Err(wrong)) => {
                let short = differ(&shrunk(&world)).and_then(Result::err).unwrap_or_default();
                println!("{wrong}\nwith as few acts as it takes:\n{short}");
                panic!("to run this world again: STEPWELL_FLOW_SEED={seed} cargo nextest run flow_control");
            }
        }
    }
    println!("{compared} worlds with {runs} runs");
    let asked = seeds.end - seeds.start;
    assert!(asked < WORLDS || compared > asked / 4, "too few worlds could be compared: {compared} of {asked}");
}
