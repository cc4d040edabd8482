//! E04xx: scripts when they run.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0401",
        title: "a name cannot be a step's",
        text: "\
A step's name is a text of 1 to 200 bytes without `#`, which marks the second and later steps of one name: `x#2`. Take a
short name that says what the step does, such as `charge-card`; in a loop add the item's own id.",
    },
    Entry {
        code: "E0402",
        title: "a step inside a step",
        text: "\
`step`, `sleep`, the waits, `invoke`, `send_event`, `parallel` and `race` record something of their own, and a step's closure is
recorded as a whole, so they do not work inside one. Call them before or after it:

    let user = step(\"load\", || http::get(url).json);
    sleep(\"1h\");",
    },
    Entry {
        code: "E0403",
        title: "an effect outside of a step",
        text: "\
What acts on the world (`http::`, `db::`, `email::`, `exec::`, `kv::`, `publish`) works inside a step only: the code between steps
runs again at each replay, and would act again each time.

    let user = step(\"load-user\", || http::get(url).json);",
    },
    Entry {
        code: "E0404",
        title: "a value cannot be stored as JSON",
        text: "\
The result of a step, of the run or of an event holds something that JSON has no form for: a closure or function pointer, a
range, a number that is none, or values nested too deep. Return the plain data instead: texts, numbers, booleans, `()`,
arrays and maps. Times of `now()` are stored as RFC 3339 text.",
    },
    Entry {
        code: "E0405",
        title: "a value is too large",
        text: "\
A result is read back at every replay of its run, so its size is limited (4 MB for a step). Store the data elsewhere, such as
a file or a bucket, and return a reference to it.",
    },
    Entry {
        code: "E0406",
        title: "a secret would be stored or shown",
        text: "\
A value contains a secret of the config, or is one. Secrets are never stored, sent in a URL or body, or put into an event:
they would be in the database and in every page that shows the run. Send them as `auth` or in `headers`, and leave them
out of what a step returns.",
    },
    Entry {
        code: "E0407",
        title: "an argument makes no sense",
        text: "\
A function of the handler API got a value of the right kind that it cannot use: a text that is no duration, time, URL or
JSON, an option that does not exist, a sleep of more than a year. The message names it. Since another try would meet
the same value, it is not tried again.",
    },
    Entry {
        code: "E0408",
        title: "the run has more records than are allowed",
        text: "\
Each step, sleep, wait and sent event of a run is a record in its journal, and all are read at a replay. `limits.steps` (10000)
and `limits.journal` (16MB) in events.yaml bound them. A loop over many items handles several in one step, or sends an
event for each, so that each has a run of its own.",
    },
    Entry {
        code: "E0410",
        title: "a step changes a variable from outside",
        text: "\
A step's closure changed a variable that it captured. At a replay the closure does not run again, its stored result is
returned at once, and the change would be lost.

    let total = 0;
    step(\"add\", || total += 1);              // lost at the next replay
    let total = step(\"add\", || total + 1);   // return the value instead",
    },
    Entry {
        code: "W0410",
        title: "a step seems to change a variable from outside",
        text: "\
An assignment in a step's closure changes a variable that the closure captured. When the step runs, that is the error E0410.

    let total = 0;
    step(\"add\", || total += 1);              // lost at the next replay
    let total = step(\"add\", || total + 1);   // return the value instead",
    },
    Entry {
        code: "E0411",
        title: "a branch changes a variable from outside",
        text: "\
Each branch of `parallel` or `race` works on its own copy of what it captured: branches that changed the same variable would give
another result each time. Return the value, and put the results together afterwards:

    let parts = parallel(event.data.items, |item| step(`price-${item}`, || item.len()));
    let total = parts.reduce(|sum, part| sum + part, 0);",
    },
    Entry {
        code: "W0411",
        title: "a branch seems to change a variable from outside",
        text: "\
An assignment in a closure of `parallel` or `race` changes a variable that the closure captured. When the branch runs, that is the error E0411.

    let total = 0;
    parallel(items, |item| { total += item.len(); });                                    // each branch has its own `total`
    let total = parallel(items, |item| item.len()).reduce(|sum, part| sum + part, 0);    // return the value instead",
    },
    Entry {
        code: "E0412",
        title: "a run needs more memory than it may",
        text: "\
The script's values took more than `limits.memory` (64MB), and that attempt was ended; other runs are not touched. Keep less
in variables, work in portions, or raise the limit in events.yaml.

Where the engine itself has no memory left for a script's stack (`ulimit -v`, a system that promises no more than it has), the run
waits for a second at a time until there is some, and no attempt is counted.",
    },
    Entry {
        code: "E0413",
        title: "a script computes for too long",
        text: "\
The script did very many operations without reaching a step, which is most often a loop that does not end. Work that is
really that long is split into steps.",
    },
    Entry {
        code: "E0414",
        title: "an attempt of a step took too long",
        text: "\
One attempt of a step took longer than its time-out, and was ended; it counts as failed and is tried again. What it did to
the world up to then stays done. Raise `timeouts.step` in events.yaml, or give the step one of its own:

    step(\"slow\", #{ timeout: \"20m\" }, || …)",
    },
    Entry {
        code: "E0415",
        title: "the engine made a mistake",
        text: "\
A function of the engine failed in a way that it never should. That attempt failed; the engine and the other runs go on. Please
report it with the message and the script's line.",
    },
    Entry {
        code: "E0416",
        title: "a variable or secret is not listed",
        text: "\
`env(name)` and `secret(name)` read only what events.yaml lists, so that a reader of the file sees what the handlers depend on:

    env: { API_BASE: \"https://api.example.com\" }
    secrets: [STRIPE_KEY]",
    },
    Entry {
        code: "E0417",
        title: "a secret is not in the environment",
        text: "\
The secret is listed in events.yaml, and the environment of this process does not have it. `run` and `dev` do not start
without it; `try` goes on until a script reads it. Start with it set: STRIPE_KEY=… stepwell try …",
    },
    Entry {
        code: "E0418",
        title: "a request got no answer",
        text: "\
The name was not found, the connection failed or broke, or no answer came within the time-out. The step is tried again with
its back-off. `http.timeout` in events.yaml or the option `timeout` of the call say how long to wait.",
    },
    Entry {
        code: "E0419",
        title: "a request was answered with an error",
        text: "\
The server answered with a status of 400 or more. 5xx and 429 are tried again, and `Retry-After` is honoured; another 4xx ends
the step at once, since the same request would get the same answer. A status that the script wants to handle is allowed:

    let res = http::get(url, #{ allow_status: [404] });",
    },
    Entry {
        code: "E0420",
        title: "an address may not be reached",
        text: "\
The host is in a private network, on this machine, or a cloud's metadata service. Scripts reach public addresses only, so that
a URL from an event cannot be used to look inside; redirects are checked too. Networks that they may reach are listed:

    http: { allow: [\"10.0.0.0/8\"] }

`stepwell dev` and `try` allow private addresses.",
    },
    Entry {
        code: "E0421",
        title: "an answer is too large",
        text: "\
The body of an answer is read as a whole, and at most 16 MB are. Ask for less, page by page, or let another service fetch
large files.",
    },
    Entry {
        code: "E0422",
        title: "calls lie too deep in each other",
        text: "\
At most 64 calls of functions and closures may lie in each other. Write the recursion as a loop, or go over a list of what is
left to do.",
    },
    Entry {
        code: "E0423",
        title: "a run invokes a function that is not there",
        text: "\
`invoke` was called with the id of no function. The id is the key under `functions` in events.yaml. It was looked for when the
run came to that line; a later try would find the same, so the step fails at once.",
    },
    Entry {
        code: "E0424",
        title: "an invoked run would wait for its turn for ever",
        text: "\
The function comes under a concurrency limit whose slots are held by runs that wait for it, or for others behind it in line: the run
that invokes it, one that invoked that, or several that each invoked one. They hold their slots until they end, so none would ever go
on. A run's own slots are looked at before the other run is stored; a circle of several runs is found a second or so after it has come
to be, and broken at its youngest run in line, which is cancelled. Give the functions different keys or limits, raise the limit, write
`hold: active`, so that a run frees its slot while it waits, or give `invoke` a `timeout`. The StepError can be caught.",
    },
    Entry {
        code: "E0425",
        title: "an invoked run did not end in time",
        text: "\
The `timeout` of `invoke` was over before the other run had ended. The other run is cancelled, and the StepError can be caught:

    let total = 0;
    try { total = invoke(\"add-up\", #{ items: event.data.items }, #{ timeout: \"1h\" }); } catch (e) { log::warn(e.message); }",
    },
    Entry {
        code: "E0426",
        title: "an invoked run failed or was cancelled",
        text: "\
The run that `invoke` started ended without a result. Its own page and trace say why; the message here repeats it, and what it
handed to `fail` is in the StepError's `data`. The step is not tried again: the other run has had attempts of its own.",
    },
    Entry {
        code: "E0427",
        title: "another step holds a key of kv",
        text: "\
A step that changes a value under a key holds the key until it is recorded or has failed, so that no count is lost or given
out twice. This one has waited for ten seconds, and is tried again. Two steps that wait for each other's keys look like that:
change keys in the same order everywhere, and at the end of a step, not before a slow call.",
    },
    Entry {
        code: "E0428",
        title: "a token is not valid",
        text: "\
`jwt::verify` got a token that is signed with another key or algorithm, has expired, is not yet valid, or is for somebody
else. The message says which. The algorithm is the one that the handler names, never the one in the token.",
    },
    Entry {
        code: "E0430",
        title: "a database refused a statement",
        text: "\
`db::query` or `db::exec` named a database that is not in events.yaml, or the database said no: the message has its own words.
A server that is not there, a file that is locked, and a transaction that met another one are tried again; a statement
that is wrong is not.",
    },
    Entry {
        code: "E0431",
        title: "a mail was not handed over",
        text: "\
There is no mail server in events.yaml, it could not be reached, or it did not take the mail. What the server calls permanent
(a 5xx answer) ends the step; anything else is tried again.",
    },
    Entry {
        code: "E0432",
        title: "a command was not run, or failed",
        text: "\
`exec::run` runs only commands that `exec.allow` of events.yaml lists, by the very name that the handler uses. A command
that ends with another status than 0, by a signal, or not within its `timeout` fails the attempt, unless `allow_status` lists
its status.",
    },
    Entry {
        code: "E0433",
        title: "nothing outside can be reached here",
        text: "\
The script runs where there is no engine around it that could do what it asks of the network, a database, a mail server or
the system. In tests of handlers mocks answer all of that.",
    },
];
