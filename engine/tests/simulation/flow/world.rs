//! Worlds of flow control: what is declared, and what happens from outside, drawn from a seed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use stepwell::project::{Mode, Project};
use stepwell::script::Host;

use super::super::dice::Dice;

/// Milliseconds since the world began.
pub type Ms = i64;

/// A field of the events that options take as their key; none where an option has no key.
pub type Key = Option<Field>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    A,
    B,
}

#[derive(Debug, Clone)]
pub struct Limit {
    pub limit: usize,
    pub key: Key,
    /// `hold: run`, or `active`.
    pub holds: bool,
    pub shared: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub limit: i64,
    pub period: Ms,
    pub key: Key,
}

/// `debounce`, or with a size `batch`, where `quiet` is its time-out as well.
#[derive(Debug, Clone, Copy)]
pub struct Collect {
    pub size: Option<usize>,
    pub quiet: Ms,
    pub timeout: Ms,
    pub key: Key,
    /// `if: event.data.x < …` of a batch.
    pub below: Option<i64>,
}

/// The number from which on events of the clock have theirs, as `Clock::number` says.
const OF_CLOCK: usize = 1_000_000;
/// The clock starts nothing later than this.
pub const LAST_TICK: Ms = 119_000;
/// The number of an invoked run's event is that of the invoking one's, and this for each function up to the invoking one.
pub const OF_CHILD: usize = 100_000;
/// Odd to the seconds of the clock: what its runs work is the rest of their time.
pub const CLOCK_WORKS: Ms = 2_999;
/// How much longer those of each further schedule work, so that those of one time do not end at once.
pub const FURTHER_WORKS: Ms = 3;

/// Later than anything that happens.
pub const NEVER: Ms = 1_000_000_000;

/// When the clock has started a function, by its number and that of the event.
pub type Ticks = HashMap<(usize, usize), Ms>;

/// What becomes of starts by the clock that were missed.
#[derive(Debug, Clone, Copy, Default)]
pub enum Missed {
    Skip,
    #[default]
    RunOnce,
    RunAll,
}

/// A schedule of a function.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Between two starts, in each of the first two minutes. No other schedule has as many; their rest by 3 is the function's number.
    pub seconds: Ms,
    /// Which of its function's schedules it is.
    pub which: usize,
    /// The most time that a start is delayed: less than there ever is between two of them.
    pub jitter: Ms,
    pub missed: Missed,
    /// Its times are told in a zone where the world's first hour is the ninth of the day.
    pub is_afar: bool,
}

/// A function. Its run works, sleeps for as long as its event says, may work and invoke another one, and then works until that succeeds,
/// which fails as often as its event says.
#[derive(Debug, Clone, Default)]
pub struct Function {
    /// The names of the events that start it.
    pub on: Vec<usize>,
    /// `if: event.data.x < …`
    pub below: Option<i64>,
    pub idempotency: Key,
    pub rate_limit: Option<Rate>,
    /// With `mode: cancel`, or `skip`.
    pub singleton: Option<(bool, Key)>,
    /// With the burst.
    pub throttle: Option<(Rate, i64)>,
    pub limits: Vec<Limit>,
    /// `priority: event.data.p`
    pub priority: bool,
    pub start_timeout: Option<Ms>,
    pub finish_timeout: Option<Ms>,
    pub collect: Option<Collect>,
    /// Starts by the clock.
    pub clocks: Vec<Clock>,
    /// The function that its runs invoke: one behind it, which shares no limit.
    pub invokes: Option<usize>,
    /// Attempts, and the time between them.
    pub retries: (i64, Ms),
    pub on_failure: bool,
    /// The name of an event that cancels the runs whose own event has the same `a`.
    pub cancel_on: Option<usize>,
    /// How long after it was made a run listens to that.
    pub listens: Ms,
    /// How much longer its runs work and sleep than their event says, so that those of one event do not end at once.
    pub longer: Ms,
}

impl Clock {
    /// As the config has it.
    pub fn schedule(self) -> String {
        format!("*/{} 0-1 {} 1 1 *", self.seconds, if self.is_afar { 9 } else { 0 })
    }

    /// The number of the event of its start for this time, which is one of whole seconds: no other event has the same.
    pub fn number(self, at: Ms) -> usize {
        OF_CLOCK + (at + self.seconds % 3 * 10) as usize + self.which
    }

    fn yaml(self) -> String {
        let missed = match self.missed {
            Missed::Skip => "skip",
            Missed::RunOnce => "run-once",
            Missed::RunAll => "run-all",
        };
        let jitter = if self.jitter > 0 { format!(", jitter: {}ms", self.jitter) } else { String::new() };
        let zone = if self.is_afar { ", tz: Asia/Tokyo" } else { "" };
        format!("{{ schedule: \"{}\", missed: {missed}{jitter}{zone} }}", self.schedule())
    }
}

impl Function {
    /// Whether the clock may start it late.
    pub fn has_jitter(&self) -> bool {
        self.clocks.iter().any(|clock| clock.jitter > 0)
    }
}

/// An event; one of the clock is nothing but null.
#[derive(Debug, Clone, Copy, Default)]
pub struct Event {
    /// What it is found by; those that are sent are counted over all requests.
    pub number: usize,
    pub name: usize,
    pub a: Option<i64>,
    pub b: Option<i64>,
    pub x: i64,
    /// Seconds of head start.
    pub p: i64,
    /// How long its runs are at work at a time.
    pub works: Ms,
    /// How long they sleep.
    pub sleeps: Ms,
    /// How often they fail at the end.
    pub fails: i64,
    /// Its `ts`.
    pub ts: Option<Ms>,
    /// Its `id`.
    pub id: Option<i64>,
    /// The clock has made it.
    pub of_clock: bool,
}

/// What is done to the world from outside, and when.
#[derive(Debug, Clone)]
pub enum Act {
    /// These events come in one request.
    Send(Vec<Event>),
    /// The run of this event, by its number, and function is cancelled.
    Cancel(usize, usize),
    /// The engine is killed and starts again: what was at work begins that anew, and nothing else changes.
    Kill,
    /// The function is paused, or goes on.
    Pause(usize, bool),
}

/// A world: what is declared, and what happens from outside.
#[derive(Clone)]
pub struct World {
    /// By number.
    pub functions: Vec<Function>,
    /// In order of time.
    pub acts: Vec<(Ms, Act)>,
}

/// All schedules, each with the number of its function.
pub fn clocks(functions: &[Function]) -> impl Iterator<Item = (usize, Clock)> {
    functions.iter().enumerate().flat_map(|(at, function)| function.clocks.iter().map(move |clock| (at, *clock)))
}

fn key(dice: &mut Dice) -> Key {
    *dice.pick(&[None, Some(Field::A), Some(Field::B)])
}

fn rate(dice: &mut Dice, most: i64) -> Rate {
    Rate { limit: dice.between(1, most), period: dice.between(500, 60_000), key: key(dice) }
}

/// Draws a schedule, which few functions have.
fn clock(dice: &mut Dice, number: i64) -> Option<Clock> {
    let seconds = dice.chance(25).then(|| dice.between(3, 9) * 3 + number);
    let jitter = if dice.chance(40) { dice.between(500, 1_900) } else { 0 };
    let missed = *dice.pick(&[Missed::Skip, Missed::RunOnce, Missed::RunAll]);
    seconds.map(|seconds| Clock { seconds, which: 0, jitter, missed, is_afar: false })
}

/// Draws a function; all who share a limit hold it in the same way.
fn function(dice: &mut Dice, number: i64, shared_holds: bool) -> Function {
    let limit = |dice: &mut Dice| Limit { limit: dice.between(1, 3) as usize, key: key(dice), holds: dice.chance(50), shared: false };
    let mut limits: Vec<Limit> = (0..*dice.pick(&[0, 0, 1, 1, 2])).map(|_| limit(dice)).collect();
    if dice.chance(40) {
        limits.truncate(1);
        // A larger one would hardly ever keep anybody from anything.
        limits.push(Limit { limit: 1, key: Some(Field::A), holds: shared_holds, shared: true });
    }
    let throttle = if dice.chance(40) { Some((rate(dice, 5), dice.between(0, 2))) } else { None };
    let rate_limit = if dice.chance(35) { Some(rate(dice, 4)) } else { None };
    let collect = dice.chance(35).then(|| {
        let (size, quiet, key) = (dice.chance(50).then(|| dice.between(2, 4) as usize), dice.between(500, 15_000), key(dice));
        let timeout = if size.is_some() || dice.chance(50) { quiet } else { quiet + dice.between(0, 20_000) };
        let below = dice.chance(40).then(|| dice.between(20, 90));
        Collect { size, quiet, timeout, key, below }
    });
    let batch = collect.filter(|collect| collect.size.is_some());
    let singleton = if collect.is_none() && dice.chance(30) { Some((dice.chance(50), key(dice))) } else { None };
    let mut function = Function {
        on: if dice.chance(40) { vec![0, 1] } else { vec![dice.below(2)] },
        below: dice.chance(20).then(|| dice.between(20, 90)),
        idempotency: if dice.chance(25) { Some(*dice.pick(&[Field::A, Field::B])) } else { None },
        rate_limit,
        singleton,
        throttle,
        limits,
        priority: dice.chance(35),
        start_timeout: dice.chance(15).then(|| dice.between(5_000, 60_000)),
        finish_timeout: dice.chance(15).then(|| dice.between(5_000, 60_000)),
        collect,
        clocks: clock(dice, number).into_iter().collect(),
        invokes: None,
        retries: *dice.pick(&[(1, 0), (1, 0), (2, 3_217), (3, 1_511)]),
        on_failure: dice.chance(30),
        cancel_on: dice.chance(15).then(|| dice.below(2)),
        listens: NEVER,
        longer: 1 + number * 7,
    };
    if let Some(batch) = batch {
        // What goes with a batch: no other keys than its own, and none of these.
        function.limits.retain(|limit| !limit.shared || batch.key == limit.key);
        function.limits.iter_mut().filter(|limit| limit.key.is_some()).for_each(|limit| limit.key = batch.key);
        if let Some((rate, _)) = &mut function.throttle {
            rate.key = rate.key.and(batch.key);
        }
        (function.idempotency, function.priority, function.cancel_on) = (None, false, None);
    }
    if let [one, other] = function.limits.as_mut_slice()
        && !(one.shared || other.shared)
        && one.key == other.key
        && one.holds == other.holds
    {
        // Two limits that count the same runs are an error.
        other.holds = !other.holds;
    }
    function
}

fn event(dice: &mut Dice, number: usize, now: Ms) -> Event {
    let value = |dice: &mut Dice| if dice.chance(10) { None } else { Some(dice.between(1, 4)) };
    Event {
        number,
        name: dice.below(2),
        a: value(dice),
        b: value(dice),
        x: dice.between(0, 99),
        p: if dice.chance(50) { 0 } else { dice.between(-700, 700) },
        works: dice.between(0, 4_000),
        sleeps: dice.between(1, 40_000),
        fails: *dice.pick(&[0, 0, 0, 1, 2, 3]),
        ts: dice.chance(10).then(|| now + dice.between(-9_000, 40_000)),
        id: dice.chance(15).then(|| dice.between(1, 3)),
        of_clock: false,
    }
}

/// The world of a seed.
pub fn world(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let shared_holds = dice.chance(50);
    let mut functions: Vec<Function> = (0..dice.between(1, 3)).map(|number| function(&mut dice, number, shared_holds)).collect();
    for at in 0..functions.len() - 1 {
        let invoked = at + 1 + dice.below(functions.len() - at - 1);
        if dice.chance(40) {
            functions[at].invokes = Some(invoked);
            // A run would wait for a slot that the one has which waits for it.
            functions[invoked].limits.retain(|limit| !limit.shared);
        }
    }
    // From dice of their own, so that the rest of a world does not hang on them.
    let mut own = Dice::new(!seed);
    for (number, function) in functions.iter_mut().enumerate() {
        if let [first] = function.clocks[..]
            && own.chance(40)
        {
            // Another one than the first, and than those of other functions.
            let thirds = own.between(3, 8);
            let seconds = (thirds + i64::from(thirds >= first.seconds / 3)) * 3 + number as i64;
            let jitter = if first.jitter > 0 && own.chance(50) { own.between(500, 1_900) } else { 0 };
            let missed = *own.pick(&[Missed::Skip, Missed::RunOnce, Missed::RunAll]);
            function.clocks.push(Clock { seconds, which: 1, jitter, missed, is_afar: false });
        }
    }
    for function in &mut functions {
        function.clocks.iter_mut().for_each(|clock| clock.is_afar = own.chance(30));
        if function.cancel_on.is_some() && own.chance(60) {
            function.listens = own.between(500, 20_000);
        }
    }
    // How late a start comes that has a jitter is not known beforehand, nor whether a pause finds it.
    let paused: Vec<usize> = (0..functions.len()).filter(|at| !functions[*at].has_jitter()).collect();
    let (mut now, mut sent) = (0, 0);
    let mut acts = Vec::new();
    for _ in 0..dice.between(5, 35) {
        now += dice.between(1, 6_000);
        let act = match dice.below(20) {
            0 if sent > 0 => Act::Cancel(dice.below(sent), dice.below(functions.len())),
            1 => Act::Kill,
            2 => Act::Send((0..dice.between(2, 5)).map(|at| event(&mut dice, sent + at as usize, now)).collect()),
            3 | 4 if !paused.is_empty() => Act::Pause(*dice.pick(&paused), dice.chance(60)),
            _ => Act::Send(vec![event(&mut dice, sent, now)]),
        };
        if let Act::Send(events) = &act {
            sent += events.len();
        }
        acts.push((now, act));
    }
    for function in paused {
        now += dice.between(1, 6_000);
        acts.push((now, Act::Pause(function, false)));
    }
    World { functions, acts }
}

fn key_yaml(key: Key) -> String {
    match key {
        None => String::new(),
        Some(Field::A) => ", key: event.data.a".to_owned(),
        Some(Field::B) => ", key: event.data.b".to_owned(),
    }
}

impl Function {
    /// Its handler, which does as its plan says; `work` takes time.
    fn script(&self, number: usize) -> String {
        let longer = self.longer;
        let invokes = self.invokes.map(|invoked| {
            let own = OF_CHILD * (number + 1);
            format!(
                "if told {{
                     step(\"middle\", || work(works));
                     let said = #{{ n: data.n + {own}, a: data.a, b: data.b, x: data.x, p: data.p, works: data.works,
                                   sleeps: data.sleeps, fails: data.fails }};
                     let well = true;
                     try {{ invoke(\"f{invoked}\", said); }} catch (e) {{ well = false; }}
                 }}"
            )
        });
        let further =
            self.clocks.get(1).map(|clock| format!("if !told && data.cron == \"{}\" {{ works += {FURTHER_WORKS}; }}", clock.schedule()));
        format!(
            "let data = event.data;
             let told = \"n\" in data;
             let works = if told {{ data.works + {longer} }} else {{ event.ts % {CLOCK_WORKS} + {longer} }};
             {}
             let sleeps = if told {{ data.sleeps + {longer} }} else {{ {longer} }};
             let fails = if told {{ data.fails }} else {{ 0 }};
             step(\"first\", || work(works));
             sleep(\"w\", sleeps + \"ms\");
             {}
             step(\"last\", || {{ work(works); if run.attempt <= fails {{ throw \"no\" }} 1 }});
             1",
            further.unwrap_or_default(),
            invokes.unwrap_or_default()
        )
    }
}

impl World {
    /// The schedule that the config has so.
    pub fn clock(&self, schedule: &str) -> Clock {
        let mut clocks = self.functions.iter().flat_map(|function| &function.clocks);
        *clocks.find(|clock| clock.schedule() == schedule).expect("it is one of the world's")
    }

    /// What is declared.
    pub fn yaml(&self) -> String {
        let mut yaml = "version: 1\nevents: { e/0: {}, e/1: {} }\nfunctions:\n".to_owned();
        let mut line = |text: String| writeln!(yaml, "{text}").expect("a text takes all");
        for (number, function) in self.functions.iter().enumerate() {
            let condition = function.below.map(|below| format!(", if: \"event.data.x < {below}\"")).unwrap_or_default();
            let on: Vec<String> = function.on.iter().map(|name| format!("{{ event: e/{name}{condition} }}")).collect();
            line(format!("  f{number}:\n    on: [{}]", on.join(", ")));
            if let Some(field) = function.idempotency {
                line(format!("    idempotency: event.data.{}", if field == Field::A { "a" } else { "b" }));
            }
            let rate = |rate: Rate| format!("limit: {}, period: {}ms{}", rate.limit, rate.period, key_yaml(rate.key));
            if let Some(limit) = function.rate_limit {
                line(format!("    rate_limit: {{ {} }}", rate(limit)));
            }
            if let Some((throttle, burst)) = function.throttle {
                line(format!("    throttle: {{ {}, burst: {burst} }}", rate(throttle)));
            }
            if let Some((cancels, key)) = function.singleton {
                line(format!("    singleton: {{ mode: {}{} }}", if cancels { "cancel" } else { "skip" }, key_yaml(key)));
            }
            let limit = |limit: &Limit| {
                let (hold, shared) = (if limit.holds { "run" } else { "active" }, if limit.shared { ", shared: s" } else { "" });
                format!("{{ limit: {}{}, hold: {hold}{shared} }}", limit.limit, key_yaml(limit.key))
            };
            if !function.limits.is_empty() {
                line(format!("    concurrency: [{}]", function.limits.iter().map(limit).collect::<Vec<_>>().join(", ")));
            }
            if function.priority {
                line("    priority: event.data.p".to_owned());
            }
            let timeouts = [("start", function.start_timeout), ("finish", function.finish_timeout)];
            let timeouts: Vec<String> = timeouts.iter().filter_map(|(name, at)| Some(format!("{name}: {}ms", (*at)?))).collect();
            line(format!("    timeouts: {{ {} }}", timeouts.join(", ")));
            let (attempts, wait) = function.retries;
            line(match attempts {
                1 => "    retries: 0".to_owned(),
                _ => format!("    retries: {{ attempts: {attempts}, backoff: fixed, initial: {wait}ms, jitter: 0 }}"),
            });
            if let Some(Collect { size, quiet, timeout, key, below }) = function.collect {
                let takes = below.map(|below| format!(", if: \"event.data.x < {below}\"")).unwrap_or_default();
                line(match size {
                    Some(size) => format!("    batch: {{ size: {size}, timeout: {timeout}ms{}{takes} }}", key_yaml(key)),
                    None => format!("    debounce: {{ period: {quiet}ms, timeout: {timeout}ms{} }}", key_yaml(key)),
                });
            }
            match function.clocks[..] {
                [] => {}
                [clock] => line(format!("    cron: {}", clock.yaml())),
                _ => line(format!("    cron: [{}]", function.clocks.iter().map(|clock| clock.yaml()).collect::<Vec<_>>().join(", "))),
            }
            if function.on_failure {
                line("    on_failure: handlers/failed.rhai".to_owned());
            }
            if let Some(name) = function.cancel_on {
                let timeout = if function.listens < NEVER { format!(", timeout: {}ms", function.listens) } else { String::new() };
                line(format!("    cancel_on: {{ event: e/{name}, if: \"async.data.a == event.data.a\"{timeout} }}"));
            }
        }
        yaml
    }

    /// What is declared, loaded.
    pub fn load(&self, host: &Arc<Host>) -> Arc<Project> {
        let folder = tempfile::tempdir().expect("a folder for the project");
        std::fs::create_dir(folder.path().join("handlers")).expect("a folder for the handler");
        std::fs::write(folder.path().join("events.yaml"), self.yaml()).expect("the project's file");
        std::fs::write(folder.path().join("handlers/failed.rhai"), "run.id").expect("the script for failures");
        for (number, function) in self.functions.iter().enumerate() {
            std::fs::write(folder.path().join(format!("handlers/f{number}.rhai")), function.script(number)).expect("the handler");
        }
        match Project::load(&folder.path().join("events.yaml"), host, &|_| None, Mode::Run) {
            Ok((project, _)) => Arc::new(project),
            Err(problems) => panic!("{}\n{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), self.yaml()),
        }
    }
}
