//! The queue as people see it: for each key who has its slots, how many wait, and what a throttle has left.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::RunId;

use super::{Bucket, Hold, Queue, SlotAt};

/// Holders of one key that are named; the others are only counted.
pub const HOLDERS_MOST: usize = 10;

/// What a key is a key of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// A limit on how many runs are active at once.
    Limit {
        /// Runs that may hold it at once.
        limit: u32,
        /// While what it is held.
        hold: Hold,
    },
    /// A throttle, with what is in its bucket. One that no run names may not know its rule: it is the function's then.
    Throttle(Bucket),
}

/// One key of a limit or a throttle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStand {
    /// Whose it is: the function's id and the number of its limit (`pay#0`), `shared NAME`, or `throttle FUNCTION`.
    pub scope: Arc<str>,
    /// The key's value as canonical JSON text; `null` where there is no key.
    pub key: Arc<str>,
    /// What it is a key of.
    pub rule: KeyRule,
    /// Runs that hold one of its slots.
    pub taken: u32,
    /// Some of them, at most `HOLDERS_MOST`, the oldest first.
    pub holders: Vec<RunId>,
    /// Runs in line that lack one of its slots.
    pub waiting: usize,
    /// The one of them that was accepted first.
    pub first: Option<RunId>,
}

/// Keys of a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Those for which most runs wait, then those that are held most, at most as many as were asked for.
    pub keys: Vec<KeyStand>,
    /// How many more there are.
    pub more: usize,
}

impl Queue {
    /// The keys that somebody holds, waits for, or has used up of late, at most `most` of them. It looks at every run in line, and at every
    /// run that holds something, so it is for people alone: whoever shows it keeps it for twenty times as long as it took (`exec::Rested`),
    /// and no event, run or call of the API asks for it.
    pub fn survey(&self, most: usize) -> Survey {
        let mut waiting: Vec<(usize, Option<RunId>)> = vec![(0, None); self.slots.len()];
        for line in self.lines.iter().flatten() {
            let first = line.orders().map(|order| order.run).min();
            for at in &line.slots {
                if let Some((count, oldest)) = waiting.get_mut(*at as usize) {
                    *count += line.len();
                    *oldest = oldest.iter().copied().chain(first).min();
                }
            }
        }
        let used = |at: usize| self.slots[at].as_ref().is_some_and(|slot| slot.taken > 0 || slot.throttled.is_some());
        let mut places: Vec<usize> = (0..self.slots.len()).filter(|at| used(*at) || waiting[*at].0 > 0).collect();
        let rank = |at: &usize| {
            let slot = self.slots[*at].as_ref();
            let name = slot.map(|slot| slot.name.clone());
            (std::cmp::Reverse((waiting[*at].0, slot.map_or(0, |slot| slot.taken))), name)
        };
        if places.len() > most {
            // The names tell keys of one size apart, which a first choice among very many needs not.
            places.sort_unstable_by_key(|at| {
                (std::cmp::Reverse((waiting[*at].0, self.slots[*at].as_ref().map_or(0, |slot| slot.taken))), *at)
            });
        }
        let more = places.len().saturating_sub(most);
        places.truncate(most);
        places.sort_by_cached_key(rank);
        let mut holders = self.holders(&places);
        let stand = |at: usize| {
            let slot = self.slots[at].as_ref()?;
            let rule = slot.bucket().map_or(KeyRule::Limit { limit: slot.limit, hold: slot.hold }, KeyRule::Throttle);
            let (scope, key) = slot.name.clone();
            let (waiting, first) = waiting[at];
            Some(KeyStand {
                scope,
                key,
                rule,
                taken: slot.taken,
                holders: holders.remove(&(at as SlotAt)).unwrap_or_default(),
                waiting,
                first,
            })
        };
        Survey { keys: places.into_iter().filter_map(stand).collect(), more }
    }

    /// Some of the runs that hold each of these slots.
    fn holders(&self, places: &[usize]) -> BTreeMap<SlotAt, Vec<RunId>> {
        let taken = |at: usize| self.slots[at].as_ref().is_some_and(|slot| slot.taken > 0 && slot.throttled.is_none());
        let mut holders: BTreeMap<SlotAt, Vec<RunId>> =
            places.iter().filter(|at| taken(**at)).map(|at| (*at as SlotAt, Vec::new())).collect();
        if holders.is_empty() {
            return holders;
        }
        for (run, entry) in self.runs.iter().filter(|(_, entry)| entry.holds != 0) {
            for (bit, at) in entry.slots.iter().enumerate() {
                if entry.holds & (1 << bit) != 0
                    && let Some(found) = holders.get_mut(at)
                {
                    found.push(*run);
                }
            }
        }
        for found in holders.values_mut() {
            found.sort_unstable();
            found.truncate(HOLDERS_MOST);
        }
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Order, Throttle, Want};
    use super::*;
    use crate::base::{Id, Millis, Span};

    fn limit(scope: &str, key: &str, limit: u32) -> Want {
        Want { scope: scope.into(), key: key.into(), limit, hold: Hold::Run, throttle: None }
    }

    fn push(queue: &mut Queue, run: i64, wants: &[Want]) {
        queue.push(Order { fresh: true, enter_ms: run, run: Id(run) }, wants);
    }

    #[test]
    fn each_key_says_who_holds_it_and_who_waits() {
        let mut queue = Queue::default();
        queue.advance(Millis(100));
        for run in 1..=4 {
            push(&mut queue, run, &[limit("f#0", "\"u1\"", 1)]);
        }
        push(&mut queue, 5, &[limit("f#0", "\"u2\"", 1)]);
        assert_eq!(queue.admit(9), [Id(1), Id(5)]);
        let survey = queue.survey(9);
        assert_eq!((survey.keys.len(), survey.more), (2, 0));
        let first = &survey.keys[0];
        assert_eq!((&*first.scope, &*first.key, first.taken, first.waiting), ("f#0", "\"u1\"", 1, 3));
        assert_eq!((first.holders.as_slice(), first.first), (&[Id(1)][..], Some(Id(2))));
        assert_eq!(first.rule, KeyRule::Limit { limit: 1, hold: Hold::Run });
        assert_eq!((survey.keys[1].waiting, survey.keys[1].holders.as_slice()), (0, &[Id(5)][..]));
        let one = queue.survey(1);
        assert_eq!((one.keys.len(), one.more, &*one.keys[0].key), (1, 1, "\"u1\""));
        queue.remove(Id(1));
        assert_eq!(queue.admit(9), [Id(2)]);
        assert_eq!(queue.survey(9).keys[0].holders, [Id(2)]);
        (2..=5).for_each(|run| queue.remove(Id(run)));
        assert_eq!(queue.survey(9), Survey::default(), "nobody is left");
    }

    #[test]
    fn a_throttle_says_what_is_left_and_when_it_opens() {
        let rule = Throttle { limit: 1, period: Span::seconds(10), burst: 1 };
        let mut queue = Queue::default();
        queue.advance(Millis(100_000));
        for run in 1..=3 {
            push(&mut queue, run, &[Want::start("f", &"null".into(), rule)]);
        }
        let bucket = |queue: &Queue| match queue.survey(9).keys[0].rule {
            KeyRule::Throttle(bucket) => bucket,
            other => panic!("{other:?}"),
        };
        assert_eq!((bucket(&queue).rule, bucket(&queue).starts(Millis(100_000))), (rule, 2));
        queue.admit(9);
        let survey = queue.survey(9);
        assert_eq!((&*survey.keys[0].scope, survey.keys[0].waiting), ("throttle f", 1));
        assert_eq!((bucket(&queue).starts(Millis(100_000)), bucket(&queue).opens(0)), (0, Millis(110_000)));
        assert!(survey.keys[0].holders.is_empty(), "a start that was given is not held");
    }
}
