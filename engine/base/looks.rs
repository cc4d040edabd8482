//! A count of the entries that are looked at where many lie: the tests of what something costs go by it, since a count, unlike a time, is
//! the same on every machine. Outside of tests nothing is counted.

#[cfg(test)]
thread_local! {
    static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many entries were compared, or gone through.
#[cfg(test)]
pub(crate) fn looked(entries: usize) {
    LOOKS.with(|looks| looks.set(looks.get() + entries as u64));
}

/// So many entries were compared, or gone through.
#[cfg(not(test))]
pub(crate) fn looked(_: usize) {}

/// How many entries this thread looks at while it does something.
#[cfg(test)]
pub(crate) fn looks_of(work: impl FnOnce()) -> u64 {
    let before = LOOKS.with(std::cell::Cell::get);
    work();
    LOOKS.with(std::cell::Cell::get) - before
}
