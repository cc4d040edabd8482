//! E04xx: scripts when they run.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[Entry {
    code: "E0410",
    title: "a step changes a variable from outside",
    text: "\
A step's closure changed a variable that it captured. At a replay the closure does not run again, its stored result is
returned at once, and the change would be lost.

    let total = 0;
    step(\"add\", || total += 1);              // lost at the next replay
    let total = step(\"add\", || total + 1);   // return the value instead",
}];
