//! What runs in line wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::id::{IdMap, IdSet};
use crate::base::{Millis, RunId};

use super::line::Line;
use super::{LineAt, Order, Queue, SlotAt, Throttle};

/// Why a run stands in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// All slots of a limit are taken.
    Limit {
        /// Whose limit it is, as in `Want`.
        scope: Arc<str>,
        /// The key's value.
        key: Arc<str>,
        /// Runs that may hold it at once.
        limit: u32,
        /// The run that took one last, if it has it still.
        holder: Option<RunId>,
    },
    /// A throttle gives no start yet.
    Throttle {
        /// The key's value.
        key: Arc<str>,
        /// The rule.
        rule: Throttle,
        /// Runs of the key that stand before it; those beyond `AHEAD_MOST` are not counted.
        ahead: usize,
        /// When it can start, if all before it do.
        at: Millis,
    },
}

/// Runs before one that are counted for an answer.
pub const AHEAD_MOST: usize = 100_000;

/// Runs that are asked about and wait for one throttle, and the lines in which they stand.
#[derive(Default)]
struct Asked {
    runs: IdSet,
    lines: BTreeSet<LineAt>,
}

impl Queue {
    /// The first slot that is full of those that a queued run needs, for each of these runs that stands in line and lacks one. The lines
    /// of a throttle are gone through once, however many of the runs wait for it.
    pub fn blocked(&self, runs: &[RunId]) -> IdMap<Blocked> {
        let mut found = IdMap::default();
        let mut throttled: BTreeMap<SlotAt, Asked> = BTreeMap::new();
        for &run in runs {
            let Some(line) = self.runs.get(&run).and_then(|entry| entry.line) else { continue };
            let Some(at) = self.full_slot(line) else { continue };
            let Some(slot) = self.slots[at as usize].as_ref() else { continue };
            if slot.throttled.is_some() {
                let asked = throttled.entry(at).or_default();
                asked.runs.insert(run);
                asked.lines.insert(line);
            } else {
                let (scope, key) = slot.name.clone();
                found.insert(run, Blocked::Limit { scope, key, limit: slot.limit, holder: slot.holder });
            }
        }
        for (at, asked) in throttled {
            let Some((slot, bucket)) = self.slots[at as usize].as_ref().and_then(|slot| Some((slot, slot.bucket()?))) else { continue };
            for (run, ahead) in self.ranks(at, &asked) {
                let (key, at) = (Arc::clone(&slot.name.1), bucket.opens(ahead as u64));
                found.insert(run, Blocked::Throttle { key, rule: bucket.rule, ahead, at });
            }
        }
        found
    }

    /// How many runs stand before each of these, at most `AHEAD_MOST`.
    fn ranks(&self, at: SlotAt, asked: &Asked) -> Vec<(RunId, usize)> {
        let line = |at: &LineAt| self.lines[*at as usize].as_ref();
        let mut own: Vec<Order> =
            asked.lines.iter().filter_map(line).flat_map(Line::orders).filter(|order| asked.runs.contains(&order.run)).collect();
        own.sort_unstable();
        let (Some(last), Some(slot)) = (own.last().copied(), self.slots[at as usize].as_ref()) else { return Vec::new() };
        // At each of them, how many stand between it and the one before.
        let mut between = vec![0_usize; own.len()];
        let others = slot.parked.iter().take_while(|(head, _)| *head < last).filter_map(|(_, at)| line(at));
        for order in others.flat_map(Line::orders) {
            let behind = own.partition_point(|own| *own <= order);
            if let Some(count) = between.get_mut(behind) {
                *count += 1;
                if behind == 0 && *count == AHEAD_MOST {
                    // So many stand before the first of them.
                    break;
                }
            }
        }
        let ahead = between.iter().scan(0, |ahead: &mut usize, count| {
            *ahead = (*ahead + count).min(AHEAD_MOST);
            Some(*ahead)
        });
        own.iter().map(|order| order.run).zip(ahead).collect()
    }
}
