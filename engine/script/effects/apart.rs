//! Work of a step that is done off its stack: in a task of its own, or on a thread that may block.

use tokio::task::JoinHandle;

use crate::base::{Span, alloc};
use crate::script::attempt::Attempt;
use crate::script::error::{Fault, Thrown};

/// A task that ends where nobody waits for it any more.
struct Task<T>(JoinHandle<T>);

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
    // A test of handlers acts on nothing, and waits for nothing but its own clock.
    if attempt.call.surroundings.outside.is_some() {
        let thrown = Thrown::last("E0418", format!("{what} is not done in a test: there is nothing that answers in its place"));
        return Err(thrown.help("what a test answers is http::* alone").fault());
    }
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(());
    }
    Err(Thrown::last("E0418", format!("{what}: there is nothing outside of the engine here")).fault())
}

fn wait<T>(attempt: &Attempt, task: JoinHandle<T>, timeout: Option<Span>) -> Result<Outcome<T>, Fault> {
    let mut task = Task(task);
    let timer = timeout.map(|timeout| attempt.ports.clock.sleep_until(attempt.now().after(timeout), false));
    let late = async {
        match timer {
            Some(timer) => timer.await,
            None => std::future::pending().await,
        }
    };
    let outcome = attempt.wait_in_step(async {
        tokio::select! {
            biased;
            joined = &mut task.0 => joined.map_or_else(|error| Outcome::Broken(error.to_string()), Outcome::Done),
            () = late => Outcome::Late,
        }
    });
    alloc::uncounted(|| drop(task));
    outcome
}

/// Does it in a task of its own. What the task allocates and frees is its own; only what reaches the script counts for the run.
pub(super) fn task<T: Send + 'static>(
    attempt: &Attempt,
    what: &str,
    timeout: Option<Span>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Outcome<T>, Fault> {
    demand_world(attempt, what)?;
    wait(attempt, alloc::uncounted(|| tokio::spawn(work)), timeout)
}

/// Does it on a thread that may block. Whoever does not wait any more leaves it to its end.
pub(super) fn thread<T: Send + 'static>(
    attempt: &Attempt,
    what: &str,
    timeout: Option<Span>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Outcome<T>, Fault> {
    demand_world(attempt, what)?;
    wait(attempt, alloc::uncounted(|| tokio::task::spawn_blocking(work)), timeout)
}
