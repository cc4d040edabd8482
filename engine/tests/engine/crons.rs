//! Functions that the clock starts: each time once, also over restarts and kills.

use std::collections::BTreeMap;
use std::sync::Arc;

use stepwell::base::time::Waiting;
use stepwell::base::{Clock, Millis, Span};
use stepwell::clock::SystemClock;
use stepwell::exec::Notice;
use stepwell::rules::{CronRow, EventRow, RunRow, RunState};
use stepwell::store::sqlite::{Options, Sqlite};
use stepwell::store::{EventQuery, RunQuery, Store};

use super::{Jumping, World, block_on, start_at};

const TICK: &str = "stepwell/scheduled.timer";

/// A system clock that is ahead.
struct Ahead(SystemClock, Span);

impl Clock for Ahead {
    fn now(&self) -> Millis {
        self.0.now().after(self.1)
    }

    fn sleep_until(&self, until: Millis, idle: bool) -> Waiting {
        self.0.sleep_until(Millis(until.0 - self.1.0), idle)
    }
}

impl World {
    fn position(&self, function: &str) -> CronRow {
        self.store.crons().unwrap().into_iter().find(|row| &*row.function == function).unwrap()
    }

    /// Waits until a function has so many ended runs; gives them, the oldest first.
    async fn ended_runs(&self, function: &str, least: usize) -> Vec<RunRow> {
        let mut notices = self.engine.subscribe();
        loop {
            let query = RunQuery { function: Some(function.into()), states: vec![RunState::Completed], ..RunQuery::default() };
            let mut runs = self.store.runs(&query).unwrap();
            if runs.len() >= least {
                runs.reverse();
                return runs;
            }
            while !matches!(notices.recv().await, Ok(Notice::Run { state: RunState::Completed, .. })) {}
        }
    }

    /// Ends the engine in order; gives the folder, and where each function stood with the number of its runs.
    fn stopped(self) -> (tempfile::TempDir, BTreeMap<String, (Millis, usize)>) {
        self.block_on(self.engine.drain());
        let World { folder, engine, store } = self;
        drop(engine);
        store.close().unwrap();
        // What was on its way to the store when the engine ended is there now.
        let store = Sqlite::open(&folder.path().join("stepwell.db"), Options::default()).unwrap();
        let runs = |function: &Arc<str>| RunQuery { function: Some(Arc::clone(function)), ..RunQuery::default() };
        let stand = |row: CronRow| (row.function.to_string(), (row.last, store.runs(&runs(&row.function)).unwrap().len()));
        let stood = store.crons().unwrap().into_iter().map(stand).collect();
        store.close().unwrap();
        (folder, stood)
    }
}

/// An engine on a folder, so much later than `than`.
fn later(folder: tempfile::TempDir, than: Millis, span: Span) -> World {
    let system = SystemClock::default();
    let ahead = Span(than.after(span).since(system.now()).0);
    let (engine, store) = start_at(folder.path(), Arc::new(Ahead(system, ahead)));
    World { folder, engine, store }
}

/// The times for which a function was started, as its runs tell them.
fn starts(runs: &[RunRow]) -> Vec<String> {
    runs.iter().map(|run| serde_json::from_str(run.output.as_deref().unwrap()).unwrap()).collect()
}

#[test]
fn a_year_of_days_starts_each_day_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("handlers")).unwrap();
    // The clock jumps over days in no time, and whoever is held up meanwhile must find the first ones still there.
    let yaml = "retention: { completed: 1000d, events: 1000d }\n\
                functions: { report: { cron: { schedule: \"30 2 * * *\", tz: Europe/Berlin, jitter: 10m } } }\n";
    std::fs::write(folder.path().join("events.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("handlers/report.rhai"), "event.data.at").unwrap();
    let jumping = Jumping::start(folder.path());
    block_on(async {
        jumping.until(jumping.clock.now().after(Span(366 * 86_400_000))).await;
        jumping.engine.drain().await;
    });
    let store = jumping.store;
    let runs: Vec<RunRow> = store.runs(&RunQuery { states: vec![RunState::Completed], ..RunQuery::default() }).unwrap();
    let mut days: BTreeMap<String, usize> = BTreeMap::new();
    let mut offsets: BTreeMap<String, usize> = BTreeMap::new();
    for start in starts(&runs) {
        *days.entry(start[..10].to_owned()).or_default() += 1;
        *offsets.entry(start[19..].to_owned()).or_default() += 1;
    }
    assert!(days.len() >= 365, "{}", days.len());
    assert!(days.values().all(|times| *times == 1), "{days:?}");
    let (first, last) = (days.keys().next().unwrap(), days.keys().last().unwrap());
    let date = |text: &str| text.parse::<jiff::civil::Date>().unwrap();
    assert_eq!(date(first).until(date(last)).unwrap().get_days() as usize + 1, days.len(), "no day is left out");
    assert_eq!(offsets.keys().collect::<Vec<_>>(), ["+01:00", "+02:00"]);
    for event in store.events(&EventQuery { name: Some(TICK.into()), ..EventQuery::default() }).unwrap() {
        let late = event.accepted.since(event.ts);
        assert!(event.accepted >= event.ts, "a start came before its time");
        assert!(late < Span::seconds(660), "{late} is more than the jitter");
    }
}

const HOURLY: &str = "functions: { h: { cron: { schedule: \"0 * * * *\", missed: run-all } } }\n";

#[test]
fn each_time_starts_once_over_restarts_and_kills() {
    let mut world = World::new(HOURLY, &[("h", r#"step("a", || event.data.at)"#)]);
    for (life, least) in [8, 16, 24].into_iter().enumerate() {
        world.block_on(world.ended_runs("h", least));
        world = if life % 2 == 0 { world.killed() } else { world.restart() };
    }
    let runs = world.block_on(world.ended_runs("h", 30));
    let hours: Vec<i64> = starts(&runs).iter().map(|at| at.parse::<jiff::Timestamp>().unwrap().as_second() / 3_600).collect();
    let mut sorted = hours.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let stored = world.store.events(&EventQuery { name: Some(TICK.into()), ..EventQuery::default() }).unwrap();
    let cancelled = world.store.runs(&RunQuery { states: vec![RunState::Cancelled], ..RunQuery::default() }).unwrap();
    assert_eq!(cancelled.len(), 0);
    assert_eq!(sorted.len(), hours.len(), "an hour started twice: {hours:?}");
    let mut slots: Vec<i64> = stored.iter().map(|event| event.ts.0 / 3_600_000).collect();
    slots.sort_unstable();
    let whole: Vec<i64> = (slots[0]..slots[0] + slots.len() as i64).collect();
    assert_eq!(slots, whole, "every hour once");
}

/// The schedule that a start by the clock was by.
fn schedule_of(event: &EventRow) -> String {
    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    data["cron"].as_str().unwrap().to_owned()
}

#[test]
fn each_schedule_of_a_function_starts_each_of_its_times_once_over_restarts_and_kills() {
    // Not in the order of the alphabet: theirs is the file's.
    const SCHEDULES: [(&str, i64); 2] = [("0 */3 * * *", 3), ("0 * * * *", 1)];
    let listed = SCHEDULES.map(|(schedule, _)| format!("{{ schedule: \"{schedule}\", missed: run-all }}")).join(", ");
    let yaml = format!("functions: {{ h: {{ cron: [{listed}] }} }}\n");
    let mut world = World::new(&yaml, &[("h", r#"step("a", || event.data.at)"#)]);
    for (life, least) in [8, 16, 24].into_iter().enumerate() {
        world.block_on(world.ended_runs("h", least));
        world = if life % 2 == 0 { world.killed() } else { world.restart() };
    }
    world.block_on(world.ended_runs("h", 40));
    let mut events = world.store.events(&EventQuery { name: Some(TICK.into()), ..EventQuery::default() }).unwrap();
    events.sort_by_key(|event| event.id);
    for (schedule, hours) in SCHEDULES {
        let own = events.iter().filter(|event| schedule_of(event) == schedule);
        let mut slots: Vec<i64> = own.map(|event| event.ts.0 / 3_600_000 / hours).collect();
        slots.sort_unstable();
        let whole: Vec<i64> = (slots[0]..slots[0] + slots.len() as i64).collect();
        assert_eq!(slots, whole, "{schedule}: each of its times once");
    }
    let mut at_once: BTreeMap<Millis, Vec<String>> = BTreeMap::new();
    for event in &events {
        at_once.entry(event.ts).or_default().push(schedule_of(event));
    }
    at_once.retain(|_, schedules| schedules.len() > 1);
    assert!(at_once.len() > 5, "{at_once:?}");
    let listed = SCHEDULES.map(|(schedule, _)| schedule);
    assert!(at_once.values().all(|schedules| *schedules == listed), "in the order of the file: {at_once:?}");
}

#[test]
fn what_a_pause_missed_is_made_up_for_as_the_function_says() {
    let yaml = "functions:\n  all: { cron: { schedule: \"0 * * * *\", missed: run-all } }\n  once: { cron: \"0 * * * *\" }\n  \
                skip: { cron: { schedule: \"0 * * * *\", missed: skip } }\n";
    let script = "event.data.missed";
    let world = World::new(yaml, &[("all", script), ("once", script), ("skip", script)]);
    for function in ["all", "once", "skip"] {
        world.block_on(world.ended_runs(function, 1));
    }
    let (folder, before) = world.stopped();
    let last = before.values().map(|(last, _)| *last).max().unwrap();
    let world = later(folder, last, Span::seconds(3 * 3_600 + 1_200));
    let hours = |function: &str| (last.0 - before[function].0.0) as usize / 3_600_000 + 3;
    let all = world.block_on(world.ended_runs("all", before["all"].1 + hours("all")));
    assert_eq!(all.len(), before["all"].1 + hours("all"));
    let once = world.block_on(world.ended_runs("once", before["once"].1 + 1));
    assert_eq!(once.last().unwrap().output.as_deref(), Some((hours("once") - 1).to_string().as_str()), "it tells how many it makes up for");
    // Their positions were moved before the others were started.
    assert_eq!(world.position("skip").last, last.after(Span::seconds(3 * 3_600)));
    let query = RunQuery { function: Some("skip".into()), ..RunQuery::default() };
    assert_eq!(world.store.runs(&query).unwrap().len(), before["skip"].1);
}

#[test]
fn another_schedule_begins_anew_and_one_that_is_gone_is_forgotten() {
    let world = World::new("functions: { a: { cron: \"0 * * * *\" }, b: { cron: \"0 * * * *\" } }\n", &[("a", "1"), ("b", "2")]);
    world.block_on(world.ended_runs("a", 1));
    let (folder, stood) = world.stopped();
    let last = stood["a"].0;
    std::fs::write(folder.path().join("events.yaml"), "functions: { a: { cron: \"30 4 * * *\" } }\n").unwrap();
    let world = later(folder, last, Span(100 * 86_400_000));
    let rows = world.store.crons().unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&*row.function, &*row.schedule), ("a", "30 4 * * * UTC"));
    assert!(row.last > last.after(Span(99 * 86_400_000)), "the hundred days were not this schedule's");
}

#[test]
fn what_a_paused_function_missed_is_made_up_for_as_it_says() {
    let yaml = "functions:\n  all: { cron: { schedule: \"0 * * * *\", missed: run-all } }\n  once: { cron: \"0 * * * *\" }\n  \
                skip: { cron: { schedule: \"0 * * * *\", missed: skip } }\n";
    let functions = ["all", "once", "skip"];
    let scripts = functions.map(|function| (function, "event.data.missed"));
    let world = World::new(yaml, &scripts);
    let number = |world: &World, function: &str| {
        world.store.runs(&RunQuery { function: Some(function.into()), ..RunQuery::default() }).unwrap().len()
    };
    for function in functions {
        world.block_on(world.ended_runs(function, 1));
    }
    let (folder, before) = world.stopped();
    let (last, before) = (before["once"].0, functions.map(|function| before[function].1));
    // On a clock that does not jump none of them is due before all are paused.
    let world = later(folder, last, Span::seconds(60));
    for function in functions {
        world.block_on(world.engine.pause(function, true)).unwrap();
    }
    let world = world.restart();
    let busy = world.block_on(world.engine.at(last.after(Span(26 * 3_600_000 + 1_200_000)))).unwrap();
    assert_eq!(functions.map(|function| number(&world, function)), before, "a paused function is not started");
    assert_eq!(functions.map(|function| world.position(function).last), [last; 3]);
    world.block_on(async {
        for function in functions {
            world.engine.pause(function, false).await.unwrap();
        }
        let all = world.ended_runs("all", before[0] + 26).await;
        assert_eq!(all.len(), before[0] + 26);
        let once = world.ended_runs("once", before[1] + 1).await;
        assert_eq!(once.last().unwrap().output.as_deref(), Some("25"), "it tells how many it makes up for");
        while world.position("skip").last < last.after(Span(26 * 3_600_000)) {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!((number(&world, "once"), number(&world, "skip")), (before[1] + 1, before[2]));
    drop(busy);
}

/// So many times of a schedule that has one each hour, `offset` after the full one, lie after `from` and not after `to`.
fn times_between(from: Millis, to: Millis, offset: Span) -> usize {
    let hours = |at: Millis| (at.0 - offset.0).div_euclid(3_600_000);
    (hours(to) - hours(from)) as usize
}

#[test]
fn what_a_paused_function_missed_is_made_up_for_as_each_schedule_says() {
    let yaml = "functions: { f: { cron: [{ schedule: \"30 * * * *\", missed: run-once }, { schedule: \"0 * * * *\", missed: run-all }, \
                { schedule: \"15 * * * *\", missed: skip }] } }\n";
    let world = World::new(yaml, &[("f", "[event.data.cron, event.data.at, event.data.missed]")]);
    // Three of them in a row are of each schedule one.
    world.block_on(world.ended_runs("f", 3));
    let (folder, stood) = world.stopped();
    let (last, before) = stood["f"];
    // On a clock that does not jump none of them is due before the function is paused.
    let world = later(folder, last, Span::seconds(60));
    let positions = |world: &World| -> Vec<Millis> { world.store.crons().unwrap().iter().map(|row| row.last).collect() };
    let stood = positions(&world);
    let [full, quarter, half] = stood[..] else { panic!("{stood:?}") };
    let newest = full.max(quarter).max(half);
    world.block_on(world.engine.pause("f", true)).unwrap();
    let world = world.restart();
    let until = newest.after(Span(26 * 3_600_000 + 1_200_000));
    let busy = world.block_on(world.engine.at(until)).unwrap();
    assert_eq!(positions(&world), stood, "a paused function is not started");
    let (all, halves) = (times_between(full, until, Span(0)), times_between(half, until, Span::seconds(1_800)));
    let runs = world.block_on(async {
        world.engine.pause("f", false).await.unwrap();
        world.ended_runs("f", before + all + 1).await
    });
    // Positions alone are moved before anything is started.
    assert_eq!(times_between(positions(&world)[1], until, Span::seconds(900)), 0, "what is skipped is decided on, too");
    let told: Vec<(String, String, usize)> =
        runs[before..].iter().map(|run| serde_json::from_str(run.output.as_deref().unwrap()).unwrap()).collect();
    let of = |schedule: &str| told.iter().filter(|(cron, ..)| cron == schedule).map(|(_, _, missed)| *missed).collect::<Vec<usize>>();
    assert_eq!(of("0 * * * *"), vec![0; all], "each");
    assert_eq!(of("30 * * * *"), [halves - 1], "one tells how many it makes up for");
    assert_eq!(of("15 * * * *"), [] as [usize; 0]);
    let times: Vec<&str> = told.iter().map(|(_, at, _)| at.as_str()).collect();
    assert!(times.is_sorted(), "in the order of the times that they are for: {times:?}");
    drop(busy);
}

#[test]
fn a_function_may_have_events_and_a_schedule() {
    let yaml = "events: { a/b: {} }\nfunctions: { f: { on: { event: a/b, if: event.data.go }, cron: \"@daily\", concurrency: { limit: 1, key: event.data.k } } }\n";
    let world = World::new(yaml, &[("f", "event.name")]);
    world.block_on(async {
        let by_event = world.ended(world.send("a/b", r#"{"k":1,"go":true}"#).await.unwrap()).await;
        assert_eq!(by_event.output.as_deref(), Some("\"a/b\""));
        let runs = world.ended_runs("f", 3).await;
        let by_clock = runs.iter().find(|run| run.output.as_deref() == Some(&format!("\"{TICK}\""))).unwrap();
        assert_eq!(&*by_clock.keys[0], "null");
    });
}
