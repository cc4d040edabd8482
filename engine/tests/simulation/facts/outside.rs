//! What is seen of the engine from outside: the effects of steps, what the client was told, how engines begin and end, and what has to
//! hold when everything is over.

use std::sync::Arc;

use stepwell::base::{EventId, Millis, RunId, Span};
use stepwell::rules::{Ending, Kind, RunState};

use super::{Effect, Errand, Facts, Run, WINDOW, keys, planned};

impl Facts {
    // The steps.

    /// The effect of a step begins. Answers what it is to do.
    pub fn effect(&mut self, id: RunId, key: &str, attempt: u32, seen: String, now: Millis) -> Errand {
        self.note(now, &format!("{id} effect of `{key}`, attempt {attempt}"));
        let nothing = Errand { breaks: false, takes_ms: 0 };
        let plan = Arc::clone(&self.plan);
        let (life, unclean) = (self.life, self.unclean.clone());
        let Some(run) = self.runs.get(&id) else {
            self.broken(format!("I5: an effect of {id}, which is not there"));
            return nothing;
        };
        // A cancel reaches a run that executes as soon as the engine hears that it is on disk.
        let cancelled = run.state == RunState::Cancelled && run.heard.is_none_or(|heard| heard == now);
        let state = run.state;
        let due = run.straight.due.clone();
        let is_due = due.iter().find(|wanted| wanted.kind == Kind::Step && wanted.key == key);
        let failed = run.failed.get(key).copied().unwrap_or(0);
        let errand = plan.functions[run.function].versions[run.runs_on].step(key);
        self.hold(cancelled || state == RunState::Running, || format!("an effect of {id} `{key}` while it is {}", state.word()));
        self.hold(is_due.is_some(), || format!("I5: an effect of {id} `{key}` where {:?} is due", keys(&due)));
        let is_early = is_due.is_some_and(|wanted| now < wanted.not_before) && !self.is_set_back();
        self.hold(!is_early, || format!("I9: an effect of {id} `{key}` before the end of the sleep before it"));
        self.hold(attempt == failed + 1, || format!("I4: {id} `{key}`: attempt {attempt} after {failed} that failed"));
        let effects = self.effects.entry((id, key.to_owned())).or_default();
        let again = effects.iter().any(|old| old.attempt == attempt && !unclean.contains(&old.life));
        let differs = effects.iter().any(|old| old.seen != seen);
        effects.push(Effect { life, attempt, seen });
        self.hold(!again, || format!("I4: {id} `{key}`: attempt {attempt} began again without a crash"));
        self.hold(!differs, || format!("{id} `{key}` sees another recorded value than before"));
        errand.map_or(nothing, |step| Errand { breaks: attempt <= step.breaks, takes_ms: step.takes_ms })
    }

    /// Whether the code between steps is to throw here.
    pub fn throws(&mut self, id: RunId, site: &str) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        let most = self.plan.functions[run.function].versions[run.runs_on].throws(site).unwrap_or(0);
        let count = self.throws.entry((id, site.to_owned())).or_insert(0);
        let throws = *count < most;
        *count += u32::from(throws);
        throws
    }

    // The client and the engines.

    /// The client was told that a request was accepted under these ids.
    pub fn told(&mut self, request: usize, ids: &[EventId], now: Millis) {
        self.note(now, &format!("request {request} accepted: {ids:?}"));
        for (number, id) in ids.iter().enumerate() {
            let first = self.told.insert((request, number), *id).unwrap_or(*id);
            let accepted = |id: &EventId| self.events.get(id).map_or(Millis(0), |event| event.accepted);
            let over = accepted(id) >= accepted(&first).after(WINDOW);
            self.hold(first == *id || over, || format!("G7: event {number} of request {request} is {id}, and was {first}"));
            self.check_stored(request, number, *id);
        }
    }

    /// I1: what was acknowledged is stored.
    fn check_stored(&mut self, request: usize, number: usize, id: EventId) {
        let sent = self.plan.requests[request].events[number].clone();
        let stored = self.events.get(&id).map(planned);
        let same = stored.is_some_and(|stored| stored.name == sent.name && stored.data == sent.data);
        self.hold(same, || format!("I1: event {id} was acknowledged and is not on disk as it was sent"));
    }

    /// The versions of one edition's handlers, by hash.
    pub fn has_version(&mut self, hash: Arc<str>, function: usize, version: usize) {
        self.versions.insert(hash, (function, version));
    }

    /// The hash of the version that a run's journal was made with.
    pub fn version_of(&self, id: RunId) -> Option<Arc<str>> {
        let run = self.runs.get(&id)?;
        let made_with = (run.function, run.made_with?);
        self.versions.iter().find(|(_, version)| **version == made_with).map(|(hash, _)| Arc::clone(hash))
    }

    /// A run that can be done again: the n-th of those that have ended or are parked, and whose functions collect and skip nothing. One
    /// that is parked is cancelled by that.
    pub fn replayed(&mut self, number: usize) -> Option<RunId> {
        let plan = Arc::clone(&self.plan);
        let is_over = |run: &Run| run.state.is_terminal() || run.state == RunState::Parked;
        let fits = |(id, run): (&RunId, &Run)| (is_over(run) && !plan.functions[run.function].gates.ask()).then_some(*id);
        let all: Vec<RunId> = self.runs.iter().filter_map(fits).collect();
        let id = *all.get(number % all.len().max(1))?;
        let run = self.runs.get_mut(&id)?;
        run.cancelled |= run.state == RunState::Parked;
        Some(id)
    }

    /// Whether a run that is not stored any more may have been deleted.
    pub fn is_swept(&self, id: RunId) -> bool {
        let kept = self.plan.kept.map(Span::seconds);
        let Some(((run, kept), swept)) = self.runs.get(&id).zip(kept).zip(self.swept) else { return false };
        run.ended.is_some_and(|ended| swept.since(ended.max(id.made_at())) > kept)
    }

    pub fn engine_starts(&mut self, edition: usize, now: Millis) {
        self.life += 1;
        (self.edition, self.editions) = (edition, vec![(Millis(i64::MIN), edition)]);
        self.refused.clear();
        self.starting.clear();
        self.unsure.clear();
        for run in self.runs.values_mut() {
            run.known.get_or_insert(now);
            run.heard.get_or_insert(now);
            run.begun.get_or_insert(now);
            run.former.iter_mut().for_each(|(_, told)| *told = told.or(Some(now)));
        }
        self.pauses_are_known(now);
        self.note(now, &format!("engine {} starts", self.life));
    }

    pub fn engine_died(&mut self, end: Ending, now: Millis) {
        self.note(now, if end == Ending::Clean { "engine stopped" } else { "engine died" });
        if end != Ending::Clean {
            self.unclean.insert(self.life);
            for run in self.runs.values_mut().filter(|run| run.state == RunState::Running) {
                run.deaths += if end == Ending::Crashed { 3 } else { 1 };
            }
        }
    }

    /// Whether the engines' clock was ever set back.
    pub(super) fn is_set_back(&self) -> bool {
        self.plan.deaths.iter().any(|death| death.jump_ms < 0) || self.plan.jumps.iter().any(|jump| jump.by_ms < 0)
    }

    /// I3: whether every run has ended, or is parked for a reason that holds.
    pub fn all_ended(&self) -> bool {
        let waits = |id: RunId, run: &Run| run.state == RunState::Waiting && run.wake.is_none() && !self.has_news(id);
        // The clock starts others for ever.
        let is_clocks = |run: &Run| !self.plan.functions[run.function].gates.crons.is_empty();
        self.runs.iter().all(|(id, run)| run.state.is_terminal() || run.state == RunState::Parked || is_clocks(run) || waits(*id, run))
    }

    /// What has to hold when everything is over.
    pub fn check_end(&mut self) {
        let told: Vec<((usize, usize), EventId)> = self.told.iter().map(|(at, id)| (*at, *id)).collect();
        for ((request, number), id) in told {
            self.check_stored(request, number, id);
        }
        let mut missing = Vec::new();
        for (id, run) in &self.runs {
            for record in run.records.iter().filter(|record| record.kind == Kind::Step) {
                let effects = self.effects.get(&(*id, record.key.to_string())).map(Vec::as_slice).unwrap_or_default();
                if (1..=record.attempts).any(|nth| !effects.iter().any(|effect| effect.attempt == nth)) {
                    missing.push(format!("I4: {id} `{}` did not have the effect of each of its attempts", record.key));
                }
            }
        }
        missing.into_iter().for_each(|what| self.broken(what));
        self.check_still_waiting();
        self.check_ticks();
    }
}
