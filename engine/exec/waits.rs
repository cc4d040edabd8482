//! Waits as people reach them: signals that are sent from outside.

use std::sync::Arc;

use crate::base::{Json, RunId};
use crate::rules::{Resolution, waits};
use crate::store::{Lane, StoreError};

use super::{AcceptError, Engine};

impl Engine {
    /// Sends a signal with its data, JSON text, to every run that waits for it at the moment; gives how many there were.
    ///
    /// # Errors
    /// `Draining`, `Full`, or the store's error; a full disk may have let some of them through.
    pub async fn signal(&self, name: &str, data: Json) -> Result<usize, AcceptError> {
        self.signal_runs(name, data).await.map(|runs| runs.len())
    }

    /// As `signal`, and gives the runs, the one first that has waited longest; a run that waits twice is there twice.
    ///
    /// # Errors
    /// As those of `signal`.
    pub async fn signal_runs(&self, name: &str, data: Json) -> Result<Vec<RunId>, AcceptError> {
        if self.is_draining() {
            return Err(AcceptError::Draining);
        }
        let waiting = self.inner.waits().on_signal(name);
        let lists = waiting.iter().map(|wait| waits::resolve(wait, Resolution::Value(Arc::clone(&data)))).collect();
        let verdicts = self.inner.outcome(self.inner.store.commit(Lane::Steps, lists)).await.map_err(|error| match error {
            StoreError::Full => AcceptError::Full,
            error => AcceptError::Store(error),
        })?;
        let runs = waiting.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok()).map(|(wait, _)| wait.run).collect();
        self.inner.resolved(waiting.into_iter().zip(&verdicts));
        Ok(runs)
    }
}
