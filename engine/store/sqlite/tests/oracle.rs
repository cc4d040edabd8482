//! Random commits on SQLite and on memory: the answers and all that is stored are the same.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::super::super::conformance::dormant::Leaver;
use super::super::super::conformance::{KEEP, NOW, event, failure, record, run, waits};
use super::super::super::{EventQuery, Lane, Memory, RunQuery, Store};
use super::{folder, in_folder, killed, open};
use crate::base::{EventId, Id, IdMaker, Millis, RunId, Span};
use crate::rules::row::{LogLevel, Recorded};
use crate::rules::{
    AttemptRow, CronKey, CronRow, Dormant, EventRow, Expect, Gate, GateKeys, Kind, List, LogRow, Outcome, Record, Resolution, RunRow,
    RunState, SourceRow, WaitKey, WaitRow, WindowKey, WindowRow, Write,
};

/// Fields by which waits are found.
const PINNED: [&str; 2] = ["1 a/b async.data.x", "1 a/c async.data.x"];

/// Random numbers from a seed (splitmix64, https://prng.di.unimi.it/splitmix64.c).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(2) == 0).then_some(value)
    }

    fn text(&mut self) -> Arc<str> {
        let parts = ["a", "ü", "\u{1F600}", "x y", "'", "\"", "\n", ";--", "\0", "%"];
        (0..self.below(5)).map(|_| self.one(&parts)).collect::<String>().into()
    }

    fn json(&mut self) -> Arc<str> {
        let text = self.text();
        serde_json::json!({ "text": &*text, "n": self.next() as i64 }).to_string().into()
    }
}

/// What has been made so far.
struct World {
    random: Random,
    ids: IdMaker,
    now: Millis,
    events: Vec<EventId>,
    /// Runs with the index of their next record.
    runs: Vec<(RunId, u32)>,
}

impl World {
    fn new(seed: u64) -> World {
        World { random: Random(seed), ids: IdMaker::above(Id(0)), now: NOW, events: vec![Id(1)], runs: vec![(Id(2), 0)] }
    }

    fn id(&mut self) -> Id {
        self.ids.next(self.now)
    }

    fn some_run(&mut self) -> RunId {
        self.random.one(&self.runs).0
    }

    fn name(&mut self) -> Arc<str> {
        self.random.one(&["a/b", "a/c", "stripe/ü"]).into()
    }

    fn function(&mut self) -> Arc<str> {
        self.random.one(&["charge", "mail", "audit"]).into()
    }

    fn key(&mut self) -> Arc<str> {
        self.random.one(&["1", "\"u1\"", "null", "\"a\\nb\""]).into()
    }

    fn expect(&mut self) -> Expect {
        let now = self.now;
        match self.random.below(7) {
            6 => Expect::RunOpen(self.some_run()),
            5 => {
                let last = Millis(self.random.below(3) as i64);
                Expect::CronAt { cron: self.cron_key(), last: self.random.maybe(last) }
            }
            4 => {
                let event = self.random.one(&self.events);
                Expect::WaitOpen { wait: self.wait(), event: self.random.maybe(event) }
            }
            0 => Expect::EventKeyFree { name: self.name(), key: self.key(), now },
            1 => Expect::IdempotencyFree { function: self.function(), key: self.key(), now },
            _ => Expect::RunRev { run: self.some_run(), rev: self.random.below(6) as u32 },
        }
    }

    fn list(&mut self) -> List {
        let expect = (0..self.random.below(3)).map(|_| self.expect()).collect();
        List { expect, writes: (0..self.random.below(6)).map(|_| self.write()).collect() }
    }

    fn write(&mut self) -> Write {
        let now = self.now;
        match self.random.below(28) {
            25 => {
                let (run, event, priority_ms) = (self.some_run(), self.random.one(&self.events), self.random.below(3) as i64);
                Write::Retarget { run, event, enter: now.after(Span(5)), keys: Arc::from([self.key()]), priority_ms, gates: None }
            }
            26 => {
                let (run, event) = (self.some_run(), self.random.one(&self.events));
                Write::AddEvent { run, event, enter: self.random.maybe(now) }
            }
            27 => Write::DropSource(self.random.one(&["h1", "h2"]).into()),
            20 => self.outcome(),
            21 => Write::PutCron(self.cron()),
            22 => Write::DropCron(self.cron_key()),
            23 | 24 => self.window(),
            16 | 17 => {
                let pin = waits::pin(self.random.one(&PINNED), self.random.below(3) as i64);
                let pin = self.random.maybe(pin);
                Write::OpenWait(WaitRow { wait: self.wait(), pin, ..waits::wait(Id(0), Kind::Wait, "") })
            }
            18 => Write::RecordWait(self.wait()),
            19 => self.resolve(),
            0 | 1 => self.new_event(),
            2..=4 => self.new_run(),
            5 => Write::TakeEventKey { name: self.name(), key: self.key(), event: self.id(), expires: now.after(Span::seconds(20)) },
            6 => {
                let (function, key) = (self.function(), self.key());
                Write::TakeIdempotency { function, key, run: self.id(), expires: now.after(Span::seconds(20)) }
            }
            7 => Write::PutSource(SourceRow { hash: self.random.one(&["h1", "h2"]).into(), files: self.random.json() }),
            8 => {
                let line = LogRow {
                    at: now,
                    level: self.random.one(&LogLevel::ALL),
                    message: self.random.text(),
                    data: Some(self.random.json()),
                    step: self.random.text(),
                };
                Write::Log { run: self.some_run(), line }
            }
            9 => self.attempt(),
            10 | 11 => self.append(),
            12 => {
                let keep = crate::rules::policy::Retention { completed: Span::seconds(self.random.below(3) as i64 * 5), ..KEEP };
                Write::Sweep { now, keep, most: self.random.one(&[1, 3, 1_000]) }
            }
            _ => self.change(),
        }
    }

    fn outcome(&mut self) -> Write {
        let event = self.random.one(&self.events);
        let (kind, value) = (self.random.below(9) as i64, self.random.next() as i64);
        let outcome = Outcome::from_numbers(kind, value).expect("an outcome");
        Write::NoteOutcome { event, function: self.function(), outcome }
    }

    fn cron_key(&mut self) -> CronKey {
        CronKey { function: self.function(), schedule: self.random.one(&["* * * * * UTC", "ü 'x' \u{1F600}"]).into() }
    }

    fn cron(&mut self) -> CronRow {
        let due = self.now;
        let CronKey { function, schedule } = self.cron_key();
        CronRow { function, schedule, last: Millis(self.random.below(3) as i64), due: self.random.maybe(due) }
    }

    fn window(&mut self) -> Write {
        let gate = self.random.one(&[Gate::RateLimit, Gate::Throttle]);
        let window = WindowKey { function: self.function(), gate, key: self.key() };
        let entry = Id(self.random.below(4) as i64);
        let expires = self.now.after(Span(self.random.below(20_000) as i64));
        // What counts more expires later, as a throttle's bucket does: else it would matter whether what has expired was swept already.
        let value = expires.0 * 1_000 + self.random.below(1_000) as i64;
        let row = WindowRow { window, entry, value, expires };
        if self.random.below(3) == 0 { Write::RaiseWindow(row) } else { Write::PutWindow(row) }
    }

    fn wait(&mut self) -> WaitKey {
        let kind = self.random.one(&[Kind::Wait, Kind::Invoke]);
        WaitKey { run: self.some_run(), kind, key: self.random.one(&["a", "b", "ü › a#2"]).into() }
    }

    fn resolve(&mut self) -> Write {
        let with = match self.random.below(4) {
            0 | 1 => Resolution::Event(self.random.one(&self.events)),
            2 => Resolution::Value(self.random.json()),
            _ => Resolution::TimedOut,
        };
        match self.random.below(5) {
            0 => Write::DropWaits(self.some_run()),
            1 => Write::DropWait(self.wait()),
            _ => Write::ResolveWait { wait: self.wait(), with },
        }
    }

    fn new_event(&mut self) -> Write {
        let id = self.id();
        self.events.push(id);
        let sender_id = self.random.text();
        let extra = self.random.json();
        Write::InsertEvent(EventRow {
            name: self.name(),
            data: self.random.json(),
            sender_id: self.random.maybe(sender_id),
            ts: Millis(self.random.next() as i64 >> 20),
            extra: self.random.maybe(extra),
            ..event(id)
        })
    }

    fn new_run(&mut self) -> Write {
        let id = self.id();
        self.runs.push((id, 0));
        let keys: Vec<Arc<str>> = (0..self.random.below(3)).map(|_| self.key()).collect();
        let (idempotency, first) = (self.key(), self.some_run());
        let gates = Arc::new(GateKeys { singleton: Some(self.key()), ..GateKeys::default() });
        Write::CreateRun(RunRow {
            function: self.function(),
            keys: keys.into(),
            priority_ms: self.random.below(3) as i64 - 1,
            enter: self.random.one(&[id.made_at(), self.now.after(Span::seconds(5))]),
            idempotency: self.random.maybe(idempotency),
            replay_of: self.random.maybe(first),
            gates: self.random.maybe(gates),
            ..run(id, self.random.one(&self.events))
        })
    }

    fn append(&mut self) -> Write {
        let at = self.random.below(self.runs.len());
        let (run, next) = &mut self.runs[at];
        let (run, index) = (*run, *next);
        *next += 1;
        let result = match self.random.below(3) {
            0 => Recorded::Value(self.random.json()),
            1 => Recorded::Until(self.now),
            _ => Recorded::Failed(failure(&self.random.text())),
        };
        let line = self.random.text();
        let record = Record {
            kind: self.random.one(&Kind::ALL),
            key: self.random.text(),
            result,
            attempts: self.random.below(20) as u32,
            line: self.random.maybe(line),
            ..record(index, "")
        };
        Write::Append { run, record }
    }

    fn attempt(&mut self) -> Write {
        let next = self.now;
        let attempt = AttemptRow {
            key: self.random.text(),
            attempt: self.random.below(9) as u32,
            started: self.now,
            ended: self.now,
            error: failure(&self.random.text()),
            next: self.random.maybe(next),
            line: None,
        };
        Write::Attempt { run: self.some_run(), attempt }
    }

    fn change(&mut self) -> Write {
        let (run, at) = (self.some_run(), self.now);
        let error = Some(failure(&self.random.text()));
        match self.random.below(8) {
            7 => Write::RetryNow { run, at, anew: self.random.below(2) == 0 },
            6 => Write::Adopt { run, version: self.random.one(&["v1", "v2"]).into() },
            0 | 1 => Write::Start { run, at, version: self.random.one(&["v1", "v2"]).into() },
            2 => {
                let state = self.random.one(&[RunState::Sleeping, RunState::Waiting, RunState::BackingOff]);
                let wake = self.random.maybe(at);
                Write::Suspend { run, state, wake, attempt: self.random.below(4) as u32 + 1, error: self.random.maybe(error).flatten() }
            }
            3 => Write::Requeue { run, suspects: self.random.below(3) as u32 },
            4 => Write::Park { run, reason: self.random.text() },
            _ => {
                let state = self.random.one(&[RunState::Completed, RunState::Failed, RunState::Cancelled]);
                let (output, reason) = (self.random.json(), self.random.text());
                let (output, reason) = (self.random.maybe(output), self.random.maybe(reason));
                Write::End { run, state, at, output, error: self.random.maybe(error).flatten(), reason }
            }
        }
    }

    fn run_query(&mut self) -> RunQuery {
        let states = vec![self.random.one(&RunState::ALL), self.random.one(&RunState::ALL)];
        let (function, key) = (self.function(), self.key());
        let (event, from, to) = (self.random.one(&self.events), self.some_run(), self.some_run());
        let since = Millis(self.now.0 - 1_000 * self.random.below(60) as i64);
        RunQuery {
            states: self.random.maybe(states).unwrap_or_default(),
            function: self.random.maybe(function),
            event: self.random.maybe(event),
            replay_of: (self.random.below(6) == 0).then_some(to),
            key: self.random.maybe(key),
            since: self.random.maybe(since),
            from: self.random.maybe(from),
            to: self.random.maybe(to),
            limit: self.random.below(10),
        }
    }

    fn event_query(&mut self) -> EventQuery {
        let (name, from, to) = (self.name(), self.random.one(&self.events), self.random.one(&self.events));
        let after = Millis(self.now.0 - 1_000 * self.random.below(60) as i64);
        EventQuery {
            name: self.random.maybe(name),
            received_after: self.random.maybe(after),
            from: self.random.maybe(from),
            to: self.random.maybe(to),
            limit: self.random.below(10),
            oldest_first: self.random.below(2) == 0,
        }
    }
}

/// Everything that two stores must agree on.
fn compare(world: &mut World, left: &dyn Store, right: &dyn Store) {
    for _ in 0..10 {
        let query = world.run_query();
        assert_eq!(left.runs(&query), right.runs(&query), "{query:?}");
        let query = world.event_query();
        assert_eq!(left.events(&query), right.events(&query), "{query:?}");
    }
    assert_eq!(left.runs(&RunQuery::default()), right.runs(&RunQuery::default()));
    assert_eq!(left.events(&EventQuery::default()), right.events(&EventQuery::default()));
    for (run, _) in &world.runs {
        assert_eq!(left.journal(*run), right.journal(*run), "journal of {run}");
        assert_eq!(left.batch(*run), right.batch(*run), "batch of {run}");
        assert_eq!(left.waits(*run), right.waits(*run), "waits of {run}");
        let (from, limit) = (world.random.below(3) as u64, world.random.below(4));
        assert_eq!(left.logs(*run, from, limit), right.logs(*run, from, limit), "log of {run}");
    }
    for event in &world.events {
        assert_eq!(left.outcomes(*event), right.outcomes(*event), "outcomes of {event}");
    }
    for hash in ["h1", "h2"] {
        assert_eq!(left.source(hash), right.source(hash));
    }
    assert_eq!(left.crons(), right.crons());
    let fields = |store: &dyn Store| {
        store.pinned_fields().map(|mut fields| {
            fields.sort();
            fields
        })
    };
    assert_eq!(fields(left), fields(right));
    for (field, value) in PINNED.iter().flat_map(|field| (0..3).map(move |value| (field, value))) {
        assert_eq!(left.pinned(field, value), right.pinned(field, value), "waits by {field} {value}");
    }
    let unfinished = |store: &dyn Store| {
        let mut rows = Vec::new();
        store.unfinished(&mut |row| rows.push(row)).map(|()| rows)
    };
    assert_eq!(unfinished(left), unfinished(right));
    let start = |store: &dyn Store| {
        let (mut runs, mut waits): (Vec<RunRow>, Vec<WaitRow>) = (Vec::new(), Vec::new());
        let read = store.start_from(&mut |row| runs.push(row), &mut |row| waits.push(row));
        // Waits of several runs come in any order.
        waits.sort_by_key(|row| row.wait.run);
        read.map(|()| (runs, waits))
    };
    assert_eq!(start(left), start(right));
    let leave = |store: &dyn Store| {
        let mut leaver = Leaver::new(|run: &Dormant| run.run.0 % 2 == 0);
        store.start_from(&mut leaver, &mut |_| {}).map(|()| (leaver.told, leaver.taken))
    };
    assert_eq!(leave(left), leave(right));
    // What has expired is swept in pieces; it counts no more.
    let windows = |store: &dyn Store| {
        let mut rows = Vec::new();
        let kept = store.all_windows(&mut |row| rows.extend((row.expires > world.now).then_some(row)));
        rows.sort_by(|a, b| (&a.window, a.entry).cmp(&(&b.window, b.entry)));
        kept.map(|()| rows)
    };
    assert_eq!(windows(left), windows(right));
    let figures = |store: &dyn Store| store.stats().map(|stats| (stats.unfinished, stats.largest_id));
    assert_eq!(figures(left), figures(right));
}

#[test]
fn sqlite_does_as_memory_does_through_kills() {
    let seed = std::env::var("STEPWELL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    // A failure is run again with STEPWELL_SEED.
    println!("seed {seed}");
    let mut world = World::new(seed);
    let memory = Memory::new();
    let mut kept = folder();
    let mut path = in_folder(&kept);
    let mut sqlite = open(&path);
    for round in 1..=400 {
        world.now = world.now.after(Span(world.random.below(500) as i64));
        let lists: Vec<List> = (0..world.random.below(6)).map(|_| world.list()).collect();
        let lane = world.random.one(&[Lane::Steps, Lane::Ingest]);
        let expected = memory.commit(lane, lists.clone()).wait();
        assert_eq!(sqlite.commit(lane, lists).wait(), expected, "round {round}");
        if round % 40 == 0 {
            compare(&mut world, &sqlite, &memory);
        }
        if round % 100 == 0 {
            let (copy, copied) = killed(&path);
            // The old one goes before the folder that it stands in.
            sqlite = open(&copied);
            (kept, path) = (copy, copied);
        }
    }
    assert_eq!(sqlite.check(), Ok(Vec::new()));
    drop(sqlite);
    drop(kept);
}
