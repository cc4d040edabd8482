//! Work that the engine would do on other threads, done at once: the simulation's clock must not go on meanwhile, and nothing may hang
//! on which thread is faster.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that does nothing but blocking work, one piece after the other.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime without drivers needs nothing")
}

/// A future whose blocking work goes to such a runtime, and is done before a poll of the future returns.
pub struct Aside<'a, F> {
    work: Pin<Box<F>>,
    aside: &'a Handle,
}

impl<'a, F: Future> Aside<'a, F> {
    pub fn new(work: F, aside: &'a Handle) -> Aside<'a, F> {
        Aside { work: Box::pin(work), aside }
    }
}

impl<F: Future> Future for Aside<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let answer = {
            let _aside = this.aside.enter();
            this.work.as_mut().poll(context)
        };
        // What was handed over before is done when this is, since there is one thread, which takes them in order.
        let (done, is_done) = mpsc::channel();
        drop(this.aside.spawn_blocking(move || done.send(())));
        // It fails only where the work did not come to be done, and then the future finds that out for itself.
        let _ = is_done.recv();
        answer
    }
}
