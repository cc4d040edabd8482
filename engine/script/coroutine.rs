//! The coroutine that a script runs on, the future that drives it, and the pool of their stacks.
//!
//! A script is synchronous; where a native function has to wait, `wait` polls a future on the script's own stack and
//! switches back to the driver while it is pending. The driver is an ordinary future: it is polled on an executor
//! thread, resumes the coroutine with the waker of that poll, and is ready when the script has returned.
//!
//! Nothing here knows what a step is. Two rules keep it sound: a coroutine never leaves its thread (the type is not
//! `Send`), and it is never dropped while it is suspended: it is resumed with `Signal::End`, which every `wait` answers
//! with `Ended`, until it returns.
#![allow(unsafe_code)] // Switching stacks and reaching the switch from natives needs raw pointers; each block says why it is sound.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corosensei::stack::{self, StackPointer};
use corosensei::{CoroutineResult, Yielder};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

use crate::base::alloc::{self, Account};

/// Stacks that a thread keeps for the next coroutine where fewer than that are in use; otherwise it keeps as many as are. More are
/// given back to the kernel. As many as run at once under full load on two threads: mapping a stack, touching it first and unmapping
/// it costs more than a short script.
const POOLED: usize = 512;
/// What a pooled stack keeps of its memory, from its top; deeper pages are given back to the kernel.
const KEPT_BYTES: usize = 64 * 1024;
/// A stack that was used no deeper than this, as far as was noted, is put back as it is.
const SHALLOW_BYTES: usize = 32 * 1024;
/// A shallow stack is given a look all the same each time that it has served so many coroutines, since what natives need
/// below the script is not noted.
const TRIM_EVERY: u32 = 64;
/// The smallest stack, in bytes: room for the deepest calls.
const STACK_LEAST_BYTES: usize = 8 * 1024 * 1024;
/// The pages at the low end that nobody may touch; the kernel's page size divides it on every platform we know.
const GUARD_BYTES: usize = 64 * 1024;
/// A coroutine that ends within so many resumptions after it was told to; one that does not is left suspended for ever.
const LAST_WORDS: u32 = 1_000_000;

/// The script is to end: its driver is gone or was told to stop. Whoever gets it returns at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

/// Why a coroutine gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// A native function panicked, with this message.
    Panicked(String),
    /// It asked for far more memory than its account allows, in one native call; its stack stays behind for ever.
    Starved,
    /// No memory for its stack.
    NoStack,
}

/// What a coroutine is resumed with.
enum Signal {
    /// Go on; the waker is to be given to whatever is waited for.
    Go(Waker),
    /// End.
    End,
}

/// Why a coroutine switched back.
enum Switch {
    /// It waits; its waker will be called.
    Waiting,
    /// It must never be resumed.
    Starved,
}

/// What is set up on the thread whenever the coroutine is resumed, and taken down whenever it switches back.
pub(super) trait Local {
    /// The script goes on, on this thread.
    fn enter(&self);
    /// The script has switched back.
    fn leave(&self);
    /// Whether the driver has to end the script now; asked before each resumption, with the waker that is to be called
    /// when that changes.
    fn stopped(&self, waker: &Waker) -> bool;
    /// The memory account, before it goes on.
    fn account(&self) -> Account;
    /// Takes the account back, after it has switched back.
    fn keep(&self, account: Account);
}

type Inner<T> = corosensei::Coroutine<Signal, Switch, Result<T, String>, Stack>;

/// A script under way: a future that is ready with what the script's body returned.
pub(super) struct Coroutine<T> {
    inner: Option<Inner<T>>,
    local: Rc<dyn Local>,
    /// The size of the stack that was asked for, in bytes.
    wanted: usize,
    /// The lowest address of its stack that was noted.
    lowest: usize,
}

/// What a native function needs to switch back to the driver; lives on the coroutine's own stack.
struct Frame<'a> {
    yielder: &'a Yielder<Signal, Switch>,
    waker: RefCell<Waker>,
    ended: Cell<bool>,
}

thread_local! {
    /// The frame of the coroutine that runs on this thread at the moment.
    static CURRENT: Cell<Option<NonNull<Frame<'static>>>> = const { Cell::new(None) };
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { stacks: Vec::new(), in_use: 0 }) };
    /// The lowest address that `note_depth` was called at since the running coroutine was resumed.
    static LOWEST: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Notes how deep the running coroutine's stack is at the moment; the script host calls it at each operation.
#[inline]
pub(super) fn note_depth() {
    let here = 0u8;
    let address = (&raw const here).addr();
    if address < LOWEST.get() {
        LOWEST.set(address);
    }
}

impl<T: 'static> Coroutine<T> {
    /// A coroutine that will call `body` on a stack of this size. Nothing runs before the first poll.
    pub(super) fn new(local: Rc<dyn Local>, stack_bytes: usize, body: impl FnOnce() -> T + 'static) -> Result<Coroutine<T>, Broken> {
        let bytes = stack_bytes.max(STACK_LEAST_BYTES).next_multiple_of(GUARD_BYTES);
        let stack = match POOL.with_borrow_mut(|pool| pool.take(bytes)) {
            Some(stack) => stack,
            // A system that promises memory strictly may refuse a large mapping; then the script gets a small one, for this time.
            None => Stack::new(bytes).or_else(|| Stack::new(STACK_LEAST_BYTES)).ok_or(Broken::NoStack)?,
        };
        POOL.with_borrow_mut(|pool| pool.in_use += 1);
        let inner = Inner::with_stack(stack, move |yielder, signal: Signal| run(yielder, signal, body));
        Ok(Coroutine { inner: Some(inner), local, wanted: bytes, lowest: usize::MAX })
    }

    fn resume(&mut self, signal: Signal) -> Option<CoroutineResult<Switch, Result<T, String>>> {
        let inner = self.inner.as_mut()?;
        // A driver may be polled within another coroutine's driver, never within a coroutine; the cell is put back for tests that do.
        let outer = CURRENT.take();
        self.local.enter();
        let before = alloc::swap(Account { starve, ..self.local.account() });
        let outer_lowest = LOWEST.replace(self.lowest);
        let result = inner.resume(signal);
        self.lowest = LOWEST.replace(outer_lowest);
        self.local.keep(alloc::swap(before));
        self.local.leave();
        CURRENT.set(outer);
        Some(result)
    }

    /// Gives the stack of a coroutine that has returned to the pool. One that is smaller than was asked for goes back to the system:
    /// memory is short, nobody asks the pool for that size, and another thread may have no stack at all.
    fn put_back(&mut self) {
        if let Some(inner) = self.inner.take() {
            let mut stack = inner.into_stack();
            if stack.bytes < self.wanted {
                return;
            }
            stack.served += 1;
            if stack.top().saturating_sub(self.lowest) > SHALLOW_BYTES || stack.served % TRIM_EVERY == 0 {
                stack.trim();
            }
            POOL.with_borrow_mut(|pool| pool.put_back(stack));
        }
    }
}

/// The root of every coroutine: the one place that catches panics.
fn run<T>(yielder: &Yielder<Signal, Switch>, signal: Signal, body: impl FnOnce() -> T) -> Result<T, String> {
    let (waker, ended) = match signal {
        Signal::Go(waker) => (waker, false),
        Signal::End => (Waker::noop().clone(), true),
    };
    let frame = Frame { yielder, waker: RefCell::new(waker), ended: Cell::new(ended) };
    frame.make_current();
    let result = std::panic::catch_unwind(AssertUnwindSafe(body));
    CURRENT.set(None);
    result.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "a panic without words".to_owned(), |text| (*text).to_owned()),
    })
}

impl Frame<'_> {
    /// Makes the frame reachable for natives, until the next switch.
    fn make_current(&self) {
        CURRENT.set(Some(NonNull::from(self).cast()));
    }

    /// Switches back to the driver until it resumes.
    fn switch(&self) -> Result<(), Ended> {
        if self.ended.get() {
            return Err(Ended);
        }
        let signal = self.yielder.suspend(Switch::Waiting);
        self.make_current();
        match signal {
            Signal::Go(waker) => {
                self.waker.replace(waker);
                Ok(())
            }
            Signal::End => {
                self.ended.set(true);
                Err(Ended)
            }
        }
    }
}

/// Calls `work` with the frame of the running coroutine; none outside of one.
fn with_frame<R>(work: impl FnOnce(&Frame<'_>) -> R) -> Option<R> {
    let frame = CURRENT.get()?;
    // SAFETY: `CURRENT` holds a frame only while the coroutine whose stack the frame lives on is running on this thread:
    // `run` and `switch` set it on that very stack, `run` clears it before the frame is dropped, and `resume` takes it away
    // as soon as the coroutine has switched back. Code that reads it runs on that stack, above the frame, so the frame
    // outlives the reference, whose lifetime is bound to this call.
    Some(work(unsafe { frame.as_ref() }))
}

/// Waits for `future` on the running coroutine. `Ended` at once where the script is to end, and outside of a coroutine.
pub(super) fn wait<F: Future>(future: F) -> Result<F::Output, Ended> {
    with_frame(|frame| {
        let mut future = pin!(future);
        loop {
            if frame.ended.get() {
                return Err(Ended);
            }
            let waker = frame.waker.borrow().clone();
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
            drop(waker);
            frame.switch()?;
        }
    })
    .unwrap_or(Err(Ended))
}

/// Lets the thread's other work go on, and goes on afterwards.
pub(super) fn pause() -> Result<(), Ended> {
    with_frame(|frame| {
        frame.waker.borrow().wake_by_ref();
        frame.switch()
    })
    .unwrap_or(Ok(()))
}

/// Whether the running coroutine was told to end.
pub(super) fn is_ended() -> bool {
    with_frame(|frame| frame.ended.get()).unwrap_or(false)
}

/// The allocator's last line: one native call is about to allocate far too much. It cannot fail there without
/// aborting the process, so the coroutine is suspended for ever, with all that it holds.
fn starve() {
    with_frame(|frame| {
        loop {
            frame.yielder.suspend(Switch::Starved);
        }
    });
}

impl<T: 'static> Future for Coroutine<T> {
    type Output = Result<T, Broken>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T, Broken>> {
        let stopped = self.local.stopped(context.waker());
        let signal = if stopped { Signal::End } else { Signal::Go(context.waker().clone()) };
        match self.resume(signal) {
            Some(CoroutineResult::Yield(Switch::Waiting)) => {
                if stopped {
                    // It was told to end and waits again all the same: tell it again.
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            Some(CoroutineResult::Yield(Switch::Starved)) => {
                if let Some(inner) = self.inner.take() {
                    std::mem::forget(inner);
                }
                Poll::Ready(Err(Broken::Starved))
            }
            Some(CoroutineResult::Return(result)) => {
                self.put_back();
                Poll::Ready(result.map_err(Broken::Panicked))
            }
            None => Poll::Ready(Err(Broken::NoStack)),
        }
    }
}

impl<T> Drop for Coroutine<T> {
    fn drop(&mut self) {
        // A thread that ends may drop its pool before its last coroutine; then nobody counts any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.in_use = pool.in_use.saturating_sub(1);
        });
        let Some(mut inner) = self.inner.take() else { return };
        if !inner.started() || inner.done() {
            return;
        }
        let outer = CURRENT.take();
        self.local.enter();
        let before = alloc::swap(Account { starve, ..self.local.account() });
        let mut ended = false;
        for _ in 0..LAST_WORDS {
            match inner.resume(Signal::End) {
                CoroutineResult::Return(_) => {
                    ended = true;
                    break;
                }
                CoroutineResult::Yield(Switch::Waiting) => {}
                CoroutineResult::Yield(Switch::Starved) => break,
            }
        }
        self.local.keep(alloc::swap(before));
        self.local.leave();
        CURRENT.set(outer);
        if !ended {
            // Dropping it would unwind it by force, and abort the process if that fails.
            std::mem::forget(inner);
        }
    }
}

/// The stacks of a thread that no coroutine lives on.
struct Pool {
    stacks: Vec<Stack>,
    /// The thread's coroutines.
    in_use: usize,
}

impl Pool {
    fn take(&mut self, bytes: usize) -> Option<Stack> {
        let at = self.stacks.iter().rposition(|stack| stack.bytes == bytes)?;
        Some(self.stacks.swap_remove(at))
    }

    /// Keeps it. Where that is one too many, it goes, and another one with it, since load that falls needs ever fewer.
    fn put_back(&mut self, stack: Stack) {
        self.stacks.push(stack);
        if self.stacks.len() > POOLED.max(self.in_use) {
            self.stacks.truncate(self.stacks.len() - 2);
        }
    }
}

/// Memory for a coroutine: address space that the kernel fills as it is touched, with a guard below.
struct Stack {
    low: NonNull<u8>,
    bytes: usize,
    /// Coroutines that it was put back from.
    served: u32,
}

impl Stack {
    /// A stack of so many bytes, a multiple of the page size.
    fn new(bytes: usize) -> Option<Stack> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that anyone has.
        let low = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }.ok()?;
        let stack = Stack { low: NonNull::new(low.cast())?, bytes, served: 0 };
        // SAFETY: both ranges lie within the mapping just made, which nobody else knows yet. A huge page would cost 2 MB a stack.
        unsafe {
            mprotect(low, GUARD_BYTES, MprotectFlags::empty()).ok()?;
            // A kernel without huge pages refuses; then there are none to fear.
            let _ = madvise(low, bytes, Advice::LinuxNoHugepage);
        }
        Some(stack)
    }

    /// The address above its first byte.
    fn top(&self) -> usize {
        self.low.addr().get() + self.bytes
    }

    /// Gives the pages below `KEPT_BYTES` back to the kernel.
    fn trim(&self) {
        let unused = self.bytes - GUARD_BYTES - KEPT_BYTES;
        // SAFETY: no coroutine lives on this stack, and the range lies within the mapping, so nobody reads these pages again
        // before writing them.
        unsafe {
            let low = self.low.as_ptr().add(GUARD_BYTES);
            // Where the kernel refuses, the pages stay; that costs memory and nothing else.
            let _ = madvise(low.cast(), unused, Advice::LinuxDontNeed);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this address and length, and no coroutine lives on it any more: corosensei
        // drops a stack after its coroutine.
        let _ = unsafe { munmap(self.low.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: the range is mapped, writable above the guard, guarded below, aligned to pages (so to 16 bytes), larger than
// `MIN_STACK_SIZE`, and neither moves nor goes away while the `Stack` lives.
unsafe impl stack::Stack for Stack {
    fn base(&self) -> StackPointer {
        StackPointer::MIN.max(StackPointer::new(self.top()).expect("a mapping does not end at address 0"))
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.low.as_ptr() as usize).expect("a mapping is not at address 0")
    }
}
