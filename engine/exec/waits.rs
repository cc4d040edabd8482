//! Waits as people see them: signals that are sent from outside, and why a run waits.

use std::sync::Arc;

use crate::base::{Json, Millis, Span};
use crate::rules::{Resolution, RunRow, WaitRow, WaitState, What, waits};
use crate::store::{Lane, StoreError};

use super::{AcceptError, Engine, Inner};

impl Engine {
    /// Sends a signal with its data, JSON text, to every run that waits for it at the moment; gives how many there were.
    ///
    /// # Errors
    /// `Draining`, `Full`, or the store's error; a full disk may have let some of them through.
    pub async fn signal(&self, name: &str, data: Json) -> Result<usize, AcceptError> {
        if self.is_draining() {
            return Err(AcceptError::Draining);
        }
        let waiting = self.inner.waits().on_signal(name);
        let lists = waiting.iter().map(|wait| waits::resolve(wait, Resolution::Value(Arc::clone(&data)))).collect();
        let verdicts = self.inner.store.commit(Lane::Steps, lists).await.map_err(|error| match error {
            StoreError::Full => AcceptError::Full,
            error => {
                self.inner.fail(error.clone());
                AcceptError::Store(error)
            }
        })?;
        self.inner.resolved(waiting.into_iter().zip(&verdicts));
        Ok(verdicts.iter().filter(|verdict| verdict.is_ok()).count())
    }
}

impl Inner {
    /// What a run waits for, and until when: a sentence.
    pub(super) fn why_waiting(&self, run: &RunRow, now: Millis) -> String {
        let rows = self.store.waits(run.id).unwrap_or_default();
        let open: Vec<String> = rows.iter().filter(|row| row.state == WaitState::Open).map(|row| self.waits_for(row, now)).collect();
        if open.is_empty() { "it waits; goes on as soon as it gets its turn".to_owned() } else { open.join("; ") }
    }

    fn waits_for(&self, row: &WaitRow, now: Millis) -> String {
        let what = match &*row.what {
            What::Run(child) => match self.store.run(*child) {
                Ok(Some(child)) => format!("run {} of `{}`, which is {}", child.id, child.function, child.state.word()),
                _ => row.what.words(),
            },
            what => what.words(),
        };
        let until = match row.until {
            Some(until) if until > now => format!("gives up in {}", Span(until.since(now).0.max(1000) / 1000 * 1000)),
            Some(_) => "its time is over".to_owned(),
            None => "without a time-out".to_owned(),
        };
        format!("waits for {what}; {until}")
    }
}
