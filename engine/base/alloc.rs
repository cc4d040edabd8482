//! The counting allocator: mimalloc, with a count of bytes per thread that can be swapped.
//!
//! A run's memory is bounded by it. While a script's coroutine is resumed, the thread counts for that run; at all other
//! times it counts for nobody. The count is a thread's own plain cell, so counting costs about a nanosecond.
//!
//! A count can be off by what is allocated for one owner and freed for another; whoever hands memory over does so
//! within `uncounted`.
#![allow(unsafe_code)] // A global allocator cannot be written without; each block says why it is sound.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::mem::MaybeUninit;

use mimalloc::MiMalloc;

/// The allocator of every binary that links the engine.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// mimalloc, counted.
#[derive(Debug)]
struct Counting;

/// What a thread counts for at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Bytes allocated and not freed; below zero where more was freed than allocated.
    pub bytes: i64,
    /// An allocation that would go beyond this many bytes calls `starve` first.
    pub most: i64,
    /// Called on the thread that is about to allocate too much; if it returns, the allocation goes on.
    pub starve: fn(),
}

impl Account {
    /// The account of nobody: never starves.
    pub const NOBODY: Account = Account { bytes: 0, most: i64::MAX, starve: nothing };
}

fn nothing() {}

thread_local! {
    // Without a destructor and made at compile time: reading them neither allocates nor runs code, at any time of a thread's life.
    static BYTES: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(i64::MAX) };
    static STARVE: Cell<fn()> = const { Cell::new(nothing) };
}

/// Makes this thread count for `account` from now on, and returns what it counted for so far.
pub fn swap(account: Account) -> Account {
    Account { bytes: BYTES.replace(account.bytes), most: MOST.replace(account.most), starve: STARVE.replace(account.starve) }
}

/// The bytes of the account that this thread counts for.
#[inline]
pub fn bytes() -> i64 {
    BYTES.get()
}

/// Calls `work` and forgets what it allocated and freed.
pub fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    /// Goes back to the account also where `work` panics.
    struct Back(Account);
    impl Drop for Back {
        fn drop(&mut self) {
            swap(self.0);
        }
    }
    let _back = Back(swap(Account::NOBODY));
    work()
}

#[inline]
fn add(size: usize) {
    let bytes = BYTES.get().wrapping_add(size as i64);
    BYTES.set(bytes);
    if bytes > MOST.get() {
        starve();
    }
}

#[cold]
fn starve() {
    // The limit is taken away first: what is called may allocate.
    MOST.set(i64::MAX);
    STARVE.get()();
}

#[inline]
fn subtract(size: usize) {
    BYTES.set(BYTES.get().wrapping_sub(size as i64));
}

/// The alignment that mimalloc gives every block, in bytes, without being asked.
const ALIGNED: usize = 8;

// SAFETY: every method hands its arguments unchanged to mimalloc, which keeps the contract of `GlobalAlloc`, and returns
// what mimalloc returned. The counting beside it touches thread-local cells that have no destructor and never allocates.
// Blocks of a greater alignment go through mimalloc's functions for that, which take twice the time; a block may be freed and
// grown by either kind of function.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        if layout.align() <= ALIGNED {
            // SAFETY: any size may be asked for, and the block is aligned to `ALIGNED`.
            return unsafe { libmimalloc_sys::mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the contract of `alloc` for this layout.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        if layout.align() <= ALIGNED {
            // SAFETY: as in `alloc`.
            return unsafe { libmimalloc_sys::mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed` for this layout.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: the caller promises that `block` came from this allocator with this layout, so it came from mimalloc with it.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        subtract(layout.size());
        add(size);
        if layout.align() <= ALIGNED {
            // SAFETY: the caller promises that `block` came from this allocator, so it came from mimalloc.
            return unsafe { libmimalloc_sys::mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: as for `dealloc`, and the caller promises that `size` is a valid size for the layout's alignment.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Bytes at the end of the C library's heaps that it keeps for itself once they are free.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 16 * 1024 * 1024;

/// Lets the C library keep what is freed. SQLite allocates from it, for each transaction anew, and by default it gives 128 KiB and more
/// back to the kernel at once: each time all threads of the process are interrupted, and the next transaction's memory comes page by page.
/// To be called once, before there are threads.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers and changes settings of the allocator alone (mallopt(3)); no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

unsafe extern "C" {
    /// Of mimalloc's own header, `mimalloc.h`; the crate has it with a feature that brings another crate.
    fn mi_collect(force: bool);
}

/// Gives the system what was freed: by itself the allocator does so as it goes on, and whoever waits for something for hours does not go on.
pub fn give_back() {
    // SAFETY: it may be called at any time, and touches no memory that is in use.
    unsafe { mi_collect(true) }
}

/// From this size on, in bytes, memory is worth large pages: less is not known to be filled.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 * 1024 * 1024;

/// Asks the system for large pages (of 2 MB on most machines) beneath room that is about to be filled: half of the scheduler's time in a start
/// with a million runs went into small ones. Does nothing for a small room, or where the system has none.
pub fn prefer_large_pages<T>(room: &mut [MaybeUninit<T>]) {
    #[cfg(target_os = "linux")]
    {
        let page = rustix::param::page_size();
        let (start, end) = (room.as_ptr().addr().next_multiple_of(page), room.as_ptr_range().end.addr() / page * page);
        if end.saturating_sub(start) < LARGE {
            return;
        }
        let first = room.as_mut_ptr().cast::<u8>().with_addr(start).cast();
        // SAFETY: the range lies within `room`, and the advice changes nothing of what is in it.
        let advised = unsafe { rustix::mm::madvise(first, end - start, rustix::mm::Advice::LinuxHugepage) };
        if let Err(error) = advised {
            tracing::debug!(%error, "no large pages");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = room;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_what_is_allocated_freed_and_grown() {
        let before = swap(Account::NOBODY);
        let mut text: Vec<u8> = Vec::with_capacity(1_000);
        assert_eq!(bytes(), 1_000);
        text.reserve_exact(5_000);
        assert_eq!(bytes(), 5_000);
        uncounted(|| std::mem::forget(Box::new([0u8; 64])));
        assert_eq!(bytes(), 5_000);
        drop(text);
        assert_eq!(swap(before).bytes, 0);
    }
}
