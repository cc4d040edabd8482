//! What a run stands on: its script may begin while its start is on its way to the disk, but it acts on nothing and hands over
//! nothing before the start is there.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Whether the start of a run is durable. It belongs to the thread that the run is on.
#[derive(Debug, Default)]
pub struct Footing {
    is_firm: Cell<Option<bool>>,
    is_demanded: Cell<bool>,
    settled: Notify,
}

impl Footing {
    /// Of a run whose start is durable, or that is started by nobody since it is only looked at.
    pub fn firm() -> Rc<Footing> {
        let footing = Footing::default();
        footing.is_firm.set(Some(true));
        Rc::new(footing)
    }

    /// Of a run whose start is on its way.
    pub fn open() -> Rc<Footing> {
        Rc::default()
    }

    /// Whether the start is known to be durable.
    pub fn is_firm(&self) -> bool {
        self.is_firm.get() == Some(true)
    }

    /// The script cannot go on before the start is durable.
    pub(super) fn demand(&self) {
        self.is_demanded.set(true);
    }

    /// Whether the script has come to something before which the start has to be durable, be it so or not.
    pub fn was_demanded(&self) -> bool {
        self.is_demanded.get()
    }

    /// It is known now whether the start is durable, or has been refused for good.
    pub fn settle(&self, is_firm: bool) {
        self.is_firm.set(Some(is_firm));
        self.settled.notify_waiters();
    }

    /// Waits until it is known; whether the start is durable.
    pub async fn settled(&self) -> bool {
        loop {
            let notified = self.settled.notified();
            if let Some(is_firm) = self.is_firm.get() {
                return is_firm;
            }
            notified.await;
        }
    }
}
