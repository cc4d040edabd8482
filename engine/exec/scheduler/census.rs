//! Where the unfinished runs stand: looked up for whoever asks, so that nothing has to be counted along.

use crate::base::id::IdMap;
use crate::rules::RunState;

use super::super::metrics::Census;
use super::{Live, Scheduler};

impl Scheduler {
    pub(super) fn census(&self) -> Census {
        let mut census = Census { slots: self.queue.slots(), ..Census::default() };
        // A suspect is in no queue.
        let suspects: IdMap<()> = self.suspects.iter().map(|run| (*run, ())).collect();
        let holds_any = self.held.count() > 0;
        for (run, live) in self.live.iter() {
            let in_line = live.stop.is_none() && (self.queue.is_queued(*run) || suspects.contains_key(run));
            let held = holds_any && live.stop.is_none() && !in_line && self.held.has(*run);
            let state = match live {
                Live { stop: Some(_), .. } => RunState::Running,
                _ if held => RunState::Paused,
                _ if in_line => RunState::Queued,
                live => live.state,
            };
            if !census.functions.contains_key(&live.function) {
                census.functions.insert(live.function.clone(), Default::default());
            }
            let Some(standing) = census.functions.get_mut(&live.function) else { continue };
            standing.runs[state as usize] += 1;
            if in_line || held {
                standing.in_line += 1;
                if !live.begun {
                    standing.oldest = Some(standing.oldest.map_or(live.enter, |oldest| oldest.min(live.enter)));
                }
            }
        }
        for (function, counts) in self.dormant.counts() {
            let standing = census.functions.entry(function.clone()).or_default();
            standing.runs.iter_mut().zip(counts).for_each(|(all, more)| *all += more);
        }
        for function in self.parked.values() {
            census.functions.entry(function.clone()).or_default().runs[RunState::Parked as usize] += 1;
        }
        census
    }
}
