//! Work that goes on when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A future that becomes a task of its own where it is dropped before its end. While somebody waits, it costs no task.
pub(super) struct Persist<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// None once it has ended.
    work: Option<Pin<Box<F>>>,
}

/// Work that is done to its end even if the client hangs up meanwhile, which ends the handler.
pub(super) fn persist<F>(work: F) -> Persist<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    Persist { work: Some(Box::pin(work)) }
}

impl<F> Future for Persist<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // One that has ended is never polled again.
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<F> Drop for Persist<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        // What has panicked cannot go on, and without a runtime the process is about to end.
        if let Some(work) = self.work.take()
            && !std::thread::panicking()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_done_all_the_same() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, told) = oneshot::channel();
        let mut work = Box::pin(persist(async move {
            wait.await.unwrap();
            done.send(7).unwrap();
        }));
        assert!(work.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test]
    async fn who_waits_gets_the_result() {
        assert_eq!(persist(async { 7 }).await, 7);
    }
}
