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
        code: "E0305",
        title: "a function does not take so many arguments",
        text: "\
The function exists, but not with this number of arguments; the help line shows how it is called.

    sleep(1, 2, 3)              // sleep(duration), or sleep(name, duration)",
    },
    Entry {
        code: "E0306",
        title: "there is no such variable",
        text: "\
The handler uses a variable that was not declared before. `event` and `run` are the script's own: a `fn` sees nothing of the
script around it, so pass them as arguments, or use a closure.

    fn total(event) { event.data.amount }
    total(event)",
    },
    Entry {
        code: "E0307",
        title: "an effect outside of a step",
        text: "\
HTTP requests and other effects work inside a step only. Outside of one they would happen again at each replay.

    let rate = http::get(\"https://example.com/rate\").json;                   // refused
    let rate = step(\"get-rate\", || http::get(\"https://example.com/rate\").json);",
    },
    Entry {
        code: "E0308",
        title: "a durable call inside a step",
        text: "\
`step`, `sleep` and the like make a record of their own, and a step is recorded as a whole. Call them before or after it.

    step(\"a\", || { sleep(\"1m\"); 1 })     // refused
    sleep(\"1m\");
    step(\"a\", || 1)",
    },
    Entry {
        code: "E0309",
        title: "a handler's file cannot be read",
        text: "\
The file is there and could not be read: no permission, no UTF-8 text, too large, or a stored version of it is damaged. The
message says which; the handlers are read again at each `stepwell validate`, `run` and `dev`.",
    },
    Entry {
        code: "E0310",
        title: "a literal argument is wrong",
        text: "\
A duration, a time or a step's name that stands in the handler as a literal is not one. Durations are 500ms, 30s, 5m, 2h, 7d
or 1h30m; times are RFC 3339; a step's name has 1 to 200 bytes and no `#`.

    sleep(\"1 hour\")             // sleep(\"1h\")",
    },
    Entry {
        code: "N0311",
        title: "steps of one name in a loop",
        text: "\
The steps of a loop all have the same name, so their keys are x, x#2, x#3. That works; but a name with the index in it shows
which is which, and keeps its key when another round is added in front.

    for item in items { step(`send-${item.id}`, || item.id); }",
    },
];
