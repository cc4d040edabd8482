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
A duration, a time, a number or a step's name that stands in the handler as a literal is not one, or not one that the function
takes. Durations are 500ms, 30s, 5m, 2h, 7d or 1h30m, for a sleep or wait a year at most; times are RFC 3339; a step's name has 1 to
200 bytes and no `#`, and so has that of a sleep, a wait or a signal; `limit` of `parallel` is 1 to 256, `settle` true or false, a `race`
has 1 to 256 branches, and branches are closures: without parameters, or with the item alone. `retries` of a step is 0 to 20, its `timeout` more than 0, its
`backoff` table, exponential, linear or fixed, a duration, or a map of which each part has an effect. `wait_for_any` takes 1 to 20
entries that each name their `event`; `send_event` 1 to 5000 events with names. A channel's name and a topic have 1 to 200 bytes.

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
    Entry {
        code: "E0312",
        title: "a script reads a property that the schema does not have",
        text: "\
The path can never have a value: the schema of each event that starts the function (or that the wait gives) allows only
properties that it declares, and this is none of them. Or it goes on into a text or a number.

    let user = event.data.userID;          // the schema has `userId`

A schema is taken with its `$ref`s, and each way through `anyOf`, `oneOf` and `if` counts: where one of them has the property, or
where one of several events has it, nothing is said. Variables, closures and loops are followed as far as that is certain:
`let d = event.data; d.userID`, `for item in event.data.items { item.skuu }`.",
    },
    Entry {
        code: "W0312",
        title: "a script reads a property that is probably misspelled",
        text: "\
The schema allows further properties, so the path may have a value; but it declares one with almost the same name.
`additionalProperties: false` in the schema makes this an error, and has such events refused. `stepwell explain E0312` has the
error that this is the mild form of.",
    },
    Entry {
        code: "W0313",
        title: "a field that may be missing is used as if it were there",
        text: "\
The schema does not require this field (or allows null), so it is `()` in some events, and a property, a method, a
calculation or a loop over it fails then. Where it may be missing, ask for it with `?.`, give a default, or test it:

    event.data.address.city                          // fails without an address
    event.data.address?.city                         // () without one
    (event.data.address ?? #{ city: \"none\" }).city
    if event.data.address != () { event.data.address.city }

What a wait with a `timeout` gives is `()` when the time is over, so it is asked for in the same way.

A field that the handler tests anywhere, or that the function's `if` in events.yaml looks at, counts as known to be missing at
times, and so does one within a `try`. To read it and hand it on is no mistake: null is a value. A field that is always there
belongs into the schema's `required`.",
    },
    Entry {
        code: "E0314",
        title: "what a script sends does not fit its schema",
        text: "\
The data that stand in `send_event` or `invoke` are held against the schema of the event, or of the one event that starts the
function: a key that the schema does not allow, a required one that is missing, a value of another type, a text that does not
match. The engine would refuse it when the handler comes to that line, with every attempt.

    send_event(\"payment/expired\", #{ userID: event.data.userId })     // the schema has `userId`

What is computed is not looked at: `#{ amount: event.data.amount + 1 }` has the key `amount`, with any value.",
    },
    Entry {
        code: "W0314",
        title: "a script sends a property that is probably misspelled",
        text: "\
The schema allows further properties, so it would be accepted; but it declares one with almost the same name.
`stepwell explain E0314` has the error that this is the mild form of.",
    },
    Entry {
        code: "W0315",
        title: "a secret seems to stand in a script",
        text: "\
A text looks like a secret: it has the mark of a key (of Stripe, GitHub, Slack, AWS and others), is a private key, or is long and random
in a variable or under a key such as token, secret or password. A script lies in version control, and each version of it in the
database, so that whoever reads either has it.

    http::get(url, #{ auth: \"sk_live_…\" })        // auth: secret(\"STRIPE_KEY\")

List the name under `secrets` in events.yaml and set it in the environment; the engine then keeps the value out of logs and results.
Change a secret that was there already. Checksums, UUIDs and placeholders are not told of.",
    },
    Entry {
        code: "E0316",
        title: "an argument has a type that the function does not take",
        text: "\
The function or method exists with this number of arguments, and none of its forms takes such a value at the caret. Only values whose
type is certain are looked at: literals, and what functions of the handler API give.

    regex::test(\"^a\", 5)              // regex::test(pattern: text, text: text)
    hash::sha256(#{ a: 1 })             // hash::sha256(json::stringify(#{ a: 1 }))

docs/handlers.md lists the functions with the types of their arguments.",
    },
    Entry {
        code: "E0317",
        title: "a closure outlives its turn of a loop",
        text: "\
All turns of a `for` have one variable, and a closure does not copy what it captures. One that is put into a list, a map or a variable
from outside of the loop, also one that a `map` has made, sees the last item when it runs, and so do all of its siblings:

    let work = [];
    for item in items { work.push(|| step(`send-${item.id}`, || item.id)); }
    parallel(work)                                                          // the last item, again and again

Give each item to one closure, or copy the variable first:

    parallel(items, |item| step(`send-${item.id}`, || item.id))
    for item in items { let x = item; work.push(|| step(`send-${x.id}`, || x.id)); }

A closure that is used within the turn that makes it is right, as that of a `step`.",
    },
];
