//! Flow control as people see it: who holds and who waits for each key, what throttles and rate limits have left, and which
//! debounces and batches are open.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::base::{Millis, RunId};
use crate::project::Project;
use crate::rules::Hold;
use crate::rules::gates::{Bucket, RateLimit, Throttle};
use crate::rules::queue::{KeyRule, KeyStand, Survey};

use super::Engine;
use super::scheduler::Message;

/// What the gates and the queue know at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    /// The keys of limits on concurrency that somebody holds or waits for, those with most waiting runs first.
    pub limits: Vec<LimitKey>,
    /// The keys of throttles that somebody waits for or has used of late.
    pub throttles: Vec<ThrottleKey>,
    /// The keys of rate limits that have let something through of late, the fullest first.
    pub rates: Vec<RateKey>,
    /// The debounces and batches that are open, those that close next first.
    pub windows: Vec<OpenWindow>,
    /// The keys of singletons that a run has.
    pub singletons: Vec<SingletonKey>,
    /// Further keys that were left out, of all kinds.
    pub more: usize,
}

/// One key of a limit on concurrency.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitKey {
    /// The function; none for a limit that several share.
    pub function: Option<Arc<str>>,
    /// The number of the limit among the function's, from 0.
    pub number: usize,
    /// The name under which functions share it.
    pub shared: Option<Arc<str>>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// Runs that may hold it at once.
    pub limit: u32,
    /// While what it is held.
    pub hold: Hold,
    /// Runs that hold it.
    pub running: u32,
    /// Some of them, the oldest first.
    pub holders: Vec<RunId>,
    /// Runs in line for it.
    pub waiting: usize,
    /// The oldest of them, and since when it is in line.
    pub oldest: Option<(RunId, Millis)>,
}

/// One key of a throttle.
#[derive(Debug, Clone, PartialEq)]
pub struct ThrottleKey {
    /// The function.
    pub function: Arc<str>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// The rule in force.
    pub rule: Throttle,
    /// Starts that it gives at once.
    pub left: u32,
    /// When it gives the next one, where it gives none now.
    pub opens: Option<Millis>,
    /// Runs in line for it.
    pub waiting: usize,
    /// The oldest of them, and since when it is in line.
    pub oldest: Option<(RunId, Millis)>,
}

/// One key of a rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct RateKey {
    /// The function.
    pub function: Arc<str>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// The rule in force.
    pub rule: RateLimit,
    /// Events that count at the moment.
    pub used: usize,
    /// When one of them counts no more.
    pub frees: Option<Millis>,
}

/// A run that collects events.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenWindow {
    /// The function.
    pub function: Arc<str>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// It is a batch; else a debounce.
    pub is_batch: bool,
    /// The run.
    pub run: RunId,
    /// Its events.
    pub events: u32,
    /// So many make a batch full; none for a debounce.
    pub size: Option<u32>,
    /// When its first event came.
    pub since: Millis,
    /// When it closes, unless a further event puts it off or fills it.
    pub closes: Millis,
}

/// A key of a singleton, and the run that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SingletonKey {
    /// The function.
    pub function: Arc<str>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// The run.
    pub run: RunId,
}

/// What the scheduler answers: its keys, each with when its oldest run in line entered it.
pub(super) type Answer = (Survey, Vec<Option<Millis>>);

impl Engine {
    /// What the gates and the queue know now: at most `most` keys of each kind. It looks at all runs that are in line or hold a slot, so
    /// it is not to be asked many times a second: keep the answer in a `Rested`.
    pub async fn flow(&self, most: usize) -> Flow {
        let (reply, answer) = oneshot::channel();
        self.inner.tell(Message::Flow { most, reply });
        // A scheduler that has stopped answers nothing.
        let (survey, entered) = answer.await.unwrap_or_default();
        let (now, project) = (self.inner.clock.now(), self.project());
        let mut flow = Flow { more: survey.more, ..Flow::default() };
        for (stand, entered) in survey.keys.into_iter().zip(entered) {
            flow.add(&project, stand, entered, now);
        }
        self.inner.gates().survey(&project, &mut flow, most, now);
        flow
    }
}

impl Flow {
    fn add(&mut self, project: &Project, stand: KeyStand, entered: Option<Millis>, now: Millis) {
        let KeyStand { scope, key, rule, taken, holders, waiting, first } = stand;
        let oldest = first.map(|run| (run, entered.unwrap_or_else(|| run.made_at())));
        match rule {
            KeyRule::Throttle(bucket) => {
                let function: Arc<str> = scope.strip_prefix("throttle ").unwrap_or(&scope).into();
                // One that was taken up from the store does not know its rule before a run names it.
                let Some(rule) = project.function(&function).and_then(|function| function.throttle) else { return };
                let bucket = Bucket { rule, ..bucket };
                let left = bucket.starts(now);
                let opens = (left == 0).then(|| bucket.opens(0));
                self.throttles.push(ThrottleKey { function, key, rule, left, opens, waiting, oldest });
            }
            KeyRule::Limit { limit, hold } => {
                let shared: Option<Arc<str>> = scope.strip_prefix("shared ").map(Arc::from);
                let own = scope.rsplit_once('#').filter(|_| shared.is_none());
                let function = own.map(|(function, _)| Arc::from(function));
                let number = own.and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
                self.limits.push(LimitKey { function, number, shared, key, limit, hold, running: taken, holders, waiting, oldest });
            }
        }
    }
}
