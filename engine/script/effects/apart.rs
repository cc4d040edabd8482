//! Work of a step that others do, while the script waits: where it waits, in a task of its own, or on a thread that may block.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::base::limits::COROUTINES_MOST;
use crate::base::{Span, alloc};
use crate::script::attempt::Attempt;
use crate::script::error::{Fault, Thrown};

/// Places for what all runs do outside at once. Without a bound, calls took the last descriptor from the database, which is a
/// failed disk to the engine.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(places())));

/// Tasks of a thread that may be about to begin at once. Thousands that begin together would only stand in line for the processor,
/// each with a connection and its buffers; in turn, most find the connection of one that is done. With fewer than a processor can serve in the time
/// that a near server takes to answer, some 20 ms, it would stand idle.
const BEGIN_AT_ONCE: usize = 320;
/// How long a task counts as beginning that is not done before: from then on it waits for somebody else, and is in nobody's way.
const BEGINS: Duration = Duration::from_millis(50);

thread_local! {
    /// Places for what begins on this thread.
    static BEGINNING: Arc<Semaphore> = Arc::new(Semaphore::new(BEGIN_AT_ONCE));
}

/// How much all runs may do outside at once: a third of the descriptors that the process may have. Connections that are kept for the
/// next call of a host may take another third; those to many hosts are closed soon, so that they seldom come together.
pub(super) fn places() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let most = descriptors.map_or(COROUTINES_MOST, |most| usize::try_from(most / 3).unwrap_or(COROUTINES_MOST));
    most.clamp(1, COROUTINES_MOST)
}

/// A task that ends where nobody waits for it any more.
pub(super) struct Task<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the outcome of the work is: its own, or why there is none.
pub(super) enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It took longer than it may.
    Late,
    /// It broke off.
    Broken(String),
}

fn demand_world(attempt: &Attempt, what: &str) -> Result<(), Fault> {
    // A test of handlers acts on nothing, and waits for nothing but its own clock: what it asks is answered before it comes here.
    if attempt.call.surroundings.outside.is_some() {
        return Err(Thrown::last("E0433", format!("{what} is not done in a test")).fault());
    }
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(());
    }
    Err(Thrown::last("E0433", format!("{what}: there is nothing outside of the engine here")).fault())
}

/// Waits for work, which is polled where the script waits. What it allocates and frees is its own.
fn wait<T>(attempt: &Attempt, mut work: Pin<&mut impl Future<Output = T>>, timeout: Option<Span>) -> Result<Option<T>, Fault> {
    let polled = std::future::poll_fn(|context| alloc::uncounted(|| work.as_mut().poll(context)));
    // One timer does for both ends.
    match timeout {
        Some(timeout) => attempt.wait_in_step_until(polled, attempt.now().after(timeout)),
        None => attempt.wait_in_step(polled).map(Some),
    }
}

fn wait_for<T>(attempt: &Attempt, task: JoinHandle<T>, timeout: Option<Span>) -> Result<Outcome<T>, Fault> {
    let mut task = Task(task);
    let joined = wait(attempt, Pin::new(&mut task.0), timeout);
    alloc::uncounted(|| drop(task));
    Ok(match joined? {
        Some(Ok(done)) => Outcome::Done(done),
        Some(Err(error)) => Outcome::Broken(error.to_string()),
        None => Outcome::Late,
    })
}

/// Waits until it is this one's turn to begin. That is soon, and nobody outside is waited for: so the run stays among those at work, and
/// where thousands would call at once, most of them have not begun yet.
fn turn(attempt: &Attempt) -> Result<Option<OwnedSemaphorePermit>, Fault> {
    let beginning = BEGINNING.with(Arc::clone);
    match Arc::clone(&beginning).try_acquire_owned() {
        Ok(place) => Ok(Some(place)),
        // It is never closed.
        Err(_) => Ok(attempt.wait_at_work(beginning.acquire_owned())?.ok()),
    }
}

/// Does the work, which has a place among those that begin until it is done, or has taken as long as a beginning may.
async fn begun<T>(place: Option<OwnedSemaphorePermit>, mut work: Pin<Box<impl Future<Output = T>>>) -> T {
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = tokio::time::sleep(BEGINS) => drop(place),
    }
    work.await
}

/// Does the work once it has a place among all that are under way. Whoever waits for one is in nobody's way.
async fn placed<T>(work: impl Future<Output = T>) -> T {
    // It is never closed, and what has no place would only fail at its socket.
    let _place = PLACES.acquire().await;
    work.await
}

/// Does it where the script waits, when it is its turn: no task has to be made, woken and awaited. It is for what takes little of a stack.
/// A branch is polled whenever another one of its run goes on, so its work is done in a task all the same.
pub(super) fn call<T: Send + 'static>(
    attempt: &Attempt,
    what: &str,
    timeout: Option<Span>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Outcome<T>, Fault> {
    if attempt.is_branch() {
        return task(attempt, what, timeout, work);
    }
    demand_world(attempt, what)?;
    let turn = turn(attempt)?;
    let mut work = alloc::uncounted(|| Box::pin(begun(turn, Box::pin(placed(work)))));
    let done = wait(attempt, work.as_mut(), timeout);
    alloc::uncounted(|| drop(work));
    Ok(done?.map_or(Outcome::Late, Outcome::Done))
}

/// Does it in a task of its own, when it is its turn. What the task allocates and frees is its own; only what reaches the script counts
/// for the run.
pub(super) fn task<T: Send + 'static>(
    attempt: &Attempt,
    what: &str,
    timeout: Option<Span>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Outcome<T>, Fault> {
    demand_world(attempt, what)?;
    let turn = turn(attempt)?;
    // The work is put into its box first: what is handed on is moved several times until it is a task, and each future that has another
    // one in it has room for it twice.
    wait_for(attempt, alloc::uncounted(|| tokio::spawn(begun(turn, Box::pin(placed(work))))), timeout)
}

/// Does it on a thread that may block. Whoever does not wait any more leaves it to its end.
pub(super) fn thread<T: Send + 'static>(
    attempt: &Attempt,
    what: &str,
    timeout: Option<Span>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Outcome<T>, Fault> {
    demand_world(attempt, what)?;
    let work = async {
        let place = Arc::clone(&PLACES).acquire_owned().await;
        // It has its place for as long as it runs, also where nobody waits any more.
        tokio::task::spawn_blocking(move || (work(), drop(place)).0).await
    };
    let outcome = wait_for(attempt, alloc::uncounted(|| tokio::spawn(work)), timeout)?;
    Ok(match outcome {
        Outcome::Done(Ok(done)) => Outcome::Done(done),
        Outcome::Done(Err(error)) => Outcome::Broken(error.to_string()),
        Outcome::Late => Outcome::Late,
        Outcome::Broken(why) => Outcome::Broken(why),
    })
}
