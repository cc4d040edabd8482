//! What stands between an event and a run of a function, what cancels its runs, and the clock that starts it.

use std::fmt::Write;

use serde_json::Value;

use super::super::dice::Dice;
use super::super::program::Match;
use super::super::swarm::{Feature, Swarm};

/// A field of the data that is a key; none where there is no key.
pub type Key = Option<&'static str>;

#[derive(Debug, Clone, Default)]
pub struct Gates {
    pub rate: Option<Rate>,
    /// Whether it cancels, and its key.
    pub singleton: Option<(bool, Key)>,
    /// With the burst.
    pub throttle: Option<(Rate, i64)>,
    /// The edition of the project from which on its throttle is another one. Neither of the two has a burst then.
    pub rethrottled: Option<(usize, Rate)>,
    /// A minute of head start for each `b`.
    pub priority: bool,
    pub collect: Option<Collect>,
    pub cancel_on: Vec<CancelOn>,
    /// Starts by the clock.
    pub crons: Vec<Cron>,
}

/// A schedule of a function, beside others maybe.
#[derive(Debug, Clone, Copy)]
pub struct Cron {
    /// Between two starts.
    pub seconds: i64,
    /// What becomes of missed ones.
    pub missed: &'static str,
    /// The edition of the project from which on it is there.
    pub from: usize,
    /// The edition of the project from which on it is there no longer.
    pub gone_from: Option<usize>,
}

impl Cron {
    /// As the config has it.
    pub fn schedule(&self) -> String {
        format!("*/{} * * * * *", self.seconds)
    }

    fn is_there(&self, edition: usize) -> bool {
        self.from <= edition && self.gone_from.is_none_or(|gone| edition < gone)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub limit: i64,
    pub seconds: i64,
    pub key: Key,
}

#[derive(Debug, Clone, Copy)]
pub enum Collect {
    Debounce { seconds: i64, timeout: Option<i64>, key: Key },
    Batch { size: usize, seconds: i64, key: Key },
}

#[derive(Debug, Clone, Copy)]
pub struct CancelOn {
    pub event: usize,
    pub how: Match,
    pub timeout: Option<i64>,
}

/// The value of a key as it is stored; `null` where the field is missing, or there is no key.
pub fn value(key: Key, data: &Value) -> String {
    key.and_then(|key| data.get(key)).map_or_else(|| "null".to_owned(), Value::to_string)
}

fn key(dice: &mut Dice) -> Key {
    dice.chance(70).then(|| *dice.pick(&["a", "b"]))
}

fn rate(dice: &mut Dice) -> Rate {
    Rate { limit: dice.between(1, 3), seconds: dice.between(1, 120), key: key(dice) }
}

impl Gates {
    pub fn random(dice: &mut Dice, swarm: &Swarm, events: usize) -> Gates {
        let mut gates = Gates::default();
        let collects = swarm.meets(Feature::Collects, dice);
        if collects && dice.chance(50) {
            let collect = Collect::Batch { size: dice.between(2, 4) as usize, seconds: dice.between(1, 300), key: key(dice) };
            gates.collect = Some(collect);
        } else if collects {
            let seconds = dice.between(1, 60);
            let timeout = dice.chance(50).then(|| seconds * dice.between(1, 4));
            gates.collect = Some(Collect::Debounce { seconds, timeout, key: key(dice) });
        }
        let is_batch = matches!(gates.collect, Some(Collect::Batch { .. }));
        if swarm.meets(Feature::RateLimits, dice) {
            gates.rate = Some(rate(dice));
        }
        if !collects && swarm.meets(Feature::Singletons, dice) {
            gates.singleton = Some((dice.chance(50), key(dice)));
        }
        if !is_batch && swarm.meets(Feature::Throttles, dice) {
            gates.throttle = Some((rate(dice), dice.between(0, 2)));
        }
        gates.priority = !is_batch && swarm.meets(Feature::Priorities, dice);
        if !is_batch && swarm.meets(Feature::CancelOns, dice) {
            let timeout = dice.chance(30).then(|| dice.between(1, 120));
            gates.cancel_on.push(CancelOn { event: dice.below(events), how: Match::random(dice), timeout });
        }
        gates
    }

    pub fn is_batch(&self) -> bool {
        matches!(self.collect, Some(Collect::Batch { .. }))
    }

    /// Its throttle in an edition of the project, with the burst.
    fn throttle_in(&self, edition: usize) -> Option<(Rate, i64)> {
        let other = self.rethrottled.filter(|(from, _)| *from <= edition).map(|(_, rate)| (rate, 0));
        self.throttle.map(|own| other.unwrap_or(own))
    }

    /// Whether an event may come to something else than a run of its own.
    pub fn ask(&self) -> bool {
        self.rate.is_some() || self.singleton.is_some() || self.collect.is_some()
    }

    /// What a function declares of them in an edition; `more` starts at once than the throttle says.
    pub fn write(&self, text: &mut String, edition: usize, more: i64) {
        let mut line = |line: String| {
            let _ = writeln!(text, "    {line}");
        };
        let key = |key: Key| key.map(|key| format!(", key: event.data.{key}")).unwrap_or_default();
        let rate = |rate: Rate| format!("limit: {}, period: {}s{}", rate.limit, rate.seconds, key(rate.key));
        if let Some(limit) = self.rate {
            line(format!("rate_limit: {{ {} }}", rate(limit)));
        }
        if let Some((cancels, of)) = self.singleton {
            line(format!("singleton: {{ mode: {}{} }}", if cancels { "cancel" } else { "skip" }, key(of)));
        }
        if let Some((limit, burst)) = self.throttle_in(edition) {
            line(format!("throttle: {{ {}, burst: {} }}", rate(limit), burst + more));
        }
        if self.priority {
            line("priority: event.data.b * 60".to_owned());
        }
        match self.collect {
            Some(Collect::Debounce { seconds, timeout, key: of }) => {
                let timeout = timeout.map(|timeout| format!(", timeout: {timeout}s")).unwrap_or_default();
                line(format!("debounce: {{ period: {seconds}s{timeout}{} }}", key(of)));
            }
            Some(Collect::Batch { size, seconds, key: of }) => line(format!("batch: {{ size: {size}, timeout: {seconds}s{} }}", key(of))),
            None => {}
        }
        for CancelOn { event, how, timeout } in &self.cancel_on {
            let condition = how.cel().map(|cel| format!(", if: \"{cel}\"")).unwrap_or_default();
            let timeout = timeout.map(|timeout| format!(", timeout: {timeout}s")).unwrap_or_default();
            line(format!("cancel_on: [{{ event: thing/{event}{condition}{timeout} }}]"));
        }
        let cron = |cron: &Cron| format!("{{ schedule: \"{}\", missed: {} }}", cron.schedule(), cron.missed);
        let mut crons: Vec<String> = self.crons.iter().filter(|cron| cron.is_there(edition)).map(cron).collect();
        if edition % 2 == 1 {
            // Where a schedule stands among others is of no account.
            crons.reverse();
        }
        match crons.as_slice() {
            [] => {}
            [one] => line(format!("cron: {one}")),
            several => line(format!("cron: [{}]", several.join(", "))),
        }
    }

    /// One of them less.
    pub fn simpler(&mut self, at: usize) -> Option<()> {
        match at {
            0 => self.rate.take().map(drop),
            1 => self.singleton.take().map(drop),
            2 => self.throttle.take().map(drop),
            3 => std::mem::take(&mut self.priority).then_some(()),
            4 => self.collect.take().map(drop),
            5 => self.cancel_on.pop().map(drop),
            6 => (self.crons.len() > 1).then(|| self.crons.truncate(1)),
            7 => self.rethrottled.take().map(drop),
            _ => {
                let on = self.cancel_on.iter_mut().find(|on| on.how != Match::Any)?;
                on.how = Match::Any;
                Some(())
            }
        }
    }
}

/// How many ways there are to make them simpler.
pub const WAYS: usize = 9;
