//! E03xx: scripts when they are compiled.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0301",
        title: "a script does not parse",
        text: "\
The text breaks the rules of Rhai at the caret: a bracket or quote that is not closed, a missing `;`, a word where none
belongs. Words that Rhai reserves are quoted as keys of a map:

    wait_for_event(\"otp/received\", #{ \"if\": \"…\", timeout: \"10m\" })",
    },
    Entry {
        code: "E0302",
        title: "an import cannot be followed",
        text: "\
The path of an `import` is a text in quotes, relative to handlers/, without `.rhai` and without `..`, and the file is there:

    import \"lib/prices\" as prices;      // handlers/lib/prices.rhai

It cannot be computed while the script runs, since all files of a handler are part of its version.",
    },
    Entry {
        code: "E0303",
        title: "imported files do not work together",
        text: "\
Two files import each other, there are too many of them, or the code of one fails while it is loaded. Outside of its
functions an imported file can only define constants: it has no event, no run and no steps.",
    },
    Entry {
        code: "E0304",
        title: "a function is not known",
        text: "\
The script calls a function that neither it nor the handler API has, or one that a handler must not call.

    let charge = setp(\"charge-card\", || 1);      // step

The help line names the nearest function. A function with the right name and the wrong number of arguments counts as unknown
too.",
    },
    Entry {
        code: "E0309",
        title: "a handler's file cannot be read",
        text: "\
The file is there and could not be read: no permission, no UTF-8 text, too large, or a stored version of it is damaged. The
message says which; the handlers are read again at each `stepwell validate`, `run` and `dev`.",
    },
];
