//! Who is about to change which of the scripts' values: one step at a time, from its change until that is durable.
//!
//! A step that counts has to know what it counts to, and may still fail: so the next one waits until it is decided.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// The keys that are held. All runs of an engine share one of these.
#[derive(Debug, Default)]
pub struct Keys {
    held: Mutex<HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
}

/// A key that is held; it is let go when this is dropped.
#[derive(Debug)]
pub struct HeldKey {
    key: Arc<str>,
    guard: Option<OwnedMutexGuard<()>>,
    keys: Arc<Keys>,
}

impl Keys {
    /// Holds a key, once nobody else does. Who asked first comes first.
    pub async fn hold(self: Arc<Self>, key: Arc<str>) -> HeldKey {
        let lock = Arc::clone(self.held.lock().unwrap_or_else(PoisonError::into_inner).entry(Arc::clone(&key)).or_default());
        let guard = Some(lock.lock_owned().await);
        HeldKey { key, guard, keys: self }
    }
}

impl HeldKey {
    /// The key.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut held = self.keys.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits for it has a share in it.
        if held.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            held.remove(&self.key);
        }
    }
}
