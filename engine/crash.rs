//! Notes in a file that the process ends by its own fault: a failed allocation, a stack that ran out, a bad address.
//!
//! A kill from outside leaves no note, so the next engine can tell the two apart. The note is made by a handler of
//! fatal signals, which then lets the signal do what it would have done without it.
#![allow(unsafe_code)] // Signals cannot be handled without; each block says why it is sound.

use std::ffi::{CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;

/// The signals that a process raises by its own fault.
const FATAL: [c_int; 6] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];
/// What the note says.
const TEXT: &[u8] = b"crashed\n";

/// Where the note goes, and what each signal did before.
struct Plan {
    path: CString,
    before: [libc::sigaction; FATAL.len()],
}

/// Set once, before the first handler is.
static PLAN: OnceLock<Plan> = OnceLock::new();

/// From now on a crash of this process is noted in the file at `path`, which is made then. A second call does nothing.
pub fn note_in(path: &Path) {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return };
    // SAFETY: all zeros is a value of this plain C struct, and `sigaction` without a new action only fills it.
    let before = FATAL.map(|signal| unsafe {
        let mut old = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        libc::sigaction(signal, ptr::null(), &raw mut old);
        old
    });
    if PLAN.set(Plan { path, before }).is_err() {
        return;
    }
    for signal in FATAL {
        // SAFETY: all zeros is a value of the struct (no flags, an empty mask); `note` has the signature that SA_SIGINFO
        // asks for and lives as long as the program. SA_ONSTACK: a stack that ran out has no room for the handler; the
        // threads of the standard library have another one for this.
        unsafe {
            let mut new = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            new.sa_sigaction = note as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &raw const new, ptr::null_mut());
        }
    }
}

/// The handler: makes the note unless the signal was sent by somebody else, and lets the signal take its course.
extern "C" fn note(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let Some(plan) = PLAN.get() else { return };
    // SAFETY: the kernel hands a valid `siginfo_t`; `si_pid` is read only where somebody sent the signal, which is when it
    // is set. The other calls (open, write, sigaction, raise, getpid) may be made in a handler, and get pointers into a
    // static that never changes.
    unsafe {
        let is_sent = (*info).si_code <= 0;
        if !is_sent || (*info).si_pid() == libc::getpid() {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC;
            let file = libc::open(plan.path.as_ptr(), flags, 0o600 as libc::c_uint);
            if file >= 0 {
                // A disk without room for eight bytes keeps no note; then the end counts as one without a word.
                let _ = libc::write(file, TEXT.as_ptr().cast(), TEXT.len());
            }
        }
        for (known, before) in FATAL.iter().zip(&plan.before) {
            if *known == signal {
                libc::sigaction(signal, before, ptr::null_mut());
            }
        }
        if is_sent {
            libc::raise(signal);
        }
        // A fault happens again as soon as the handler returns.
    }
}
