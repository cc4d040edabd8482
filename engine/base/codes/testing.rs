//! E06xx: tests of handlers.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0601",
        title: "a test is of a function that is not there",
        text: "\
`function` at the head of a file of tests, and each entry of `with`, is the id of a function of events.yaml.

    # tests/charge.test.yaml
    function: charge
    tests: []

`stepwell functions ls` lists them.",
    },
    Entry {
        code: "E0602",
        title: "a test extends what it cannot",
        text: "\
`extends` names another test of the same file, whose event, mocks, sendings and expectations are taken over. The name is
written as there, and the tests must not lead round in a circle.

    tests:
      - name: pays
        event: payment/initiate
      - { name: pays over crashes, extends: pays, crash_after_each_step: true }",
    },
    Entry {
        code: "E0603",
        title: "a mock cannot be read",
        text: "\
A mock says what it answers, and what with: `http` a method (or `ANY`) and a whole URL, `db` the name of a database and a statement,
`email` an address, `exec` a command with its arguments. `*` stands for any text; a URL without `?` fits with any query.

    mocks:
      - { http: \"POST https://api.example.com/charges\", reply: [{ status: 500 }, { json: { id: ch_1 } }] }
      - { http: \"GET https://api.example.com/users/*\", reply: { json: { name: Ada } } }
      - { db: \"shop select * from users *\", reply: { rows: [{ id: u1, name: Ada }] } }
      - { email: \"*@example.com\", reply: {} }
      - { exec: \"pdftotext *\", reply: { stdout: Hello } }",
    },
    Entry {
        code: "E0604",
        title: "an entry of `send` does not say what is sent",
        text: "\
Each entry sends one event, or one signal, or cancels the run, at its virtual time after the start:

    send:
      - { at: 5m, name: otp/received, data: { userId: u1, code: \"123456\" } }
      - { at: 1h, signal: approve/c1, data: { by: ada } }
      - { at: 2h, cancel: the customer called }",
    },
    Entry {
        code: "W0605",
        title: "a file of tests has no tests",
        text: "\
The list under `tests` is empty, so the file shows nothing. Write a test, or delete the file.

    tests:
      - name: greets
        event: hello/said
        expect: { status: completed }",
    },
    Entry {
        code: "E0606",
        title: "a test sets a variable that nobody can read",
        text: "\
`env` in a test gives values to `env(name)` and `secret(name)`. Scripts can only read what events.yaml lists under `env` or
`secrets`, so another name would have no effect. The machine's own environment is never read in tests; a secret that a
test does not set has a value of its own, which cannot be mistaken for a real one.",
    },
    Entry {
        code: "E0607",
        title: "nothing starts the test",
        text: "\
A test has an `event`, which starts the run as it does in the engine; or `cron: true`, for a function with a schedule, and the
schedule itself for one of several; or it `extends` a test that has one of these.

    - name: reports
      cron: true
      expect: { status: completed }",
    },
    Entry {
        code: "E0608",
        title: "a test begins at no time",
        text: "\
`now` is the virtual time at which a test begins, as RFC 3339: `2026-03-29T00:30:00Z`, or with an offset,
`2026-03-29T01:30:00+01:00`. Without it tests begin at 2026-01-01T00:00:00Z, so that their times are always the same.",
    },
    Entry {
        code: "E0609",
        title: "an expression of a test reads a field that is not there",
        text: "\
In `assert` stand `run`, the first run of the tested function, `runs`, all of them, and `event`, the test's first event. A run
has id, function, status, output, error, reason, steps, attempts, results (by step), events_sent, logs, calls, published, started_ms
and ended_ms (since the test's start), duration_ms and key. In the `if` of a mock stands `request`, with step and attempt, and of HTTP method, url,
path, headers, query, json, text; of a statement database, sql, params; of a mail to, cc, bcc, from, reply_to, subject, text, html, attachments;
of a command command, args, stdin.",
    },
    Entry {
        code: "E0610",
        title: "a test's expectation is not met",
        text: "\
The caret stands under the expectation, with what there was beside it; where values differ, their lines follow, `-` for what
was expected and `+` for what came. Below stands what the run did, step by step. `stepwell test -v NAME` shows its log too.

A test that says nothing of how its run ends expects that it does not fail.",
    },
    Entry {
        code: "E0611",
        title: "a test's run asked for something that is not mocked",
        text: "\
There is no network in tests, no database, mail server or command: they would be slow, differ from day to day, and charge somebody's
card. Each request is answered by the first of the test's `mocks` that fits, and one that no mock answers fails the test, whatever the
script makes of it.
The help line is the mock that is missing; its `reply` is yours to fill in.",
    },
    Entry {
        code: "E0612",
        title: "with a crash the run ends in another way",
        text: "\
Under `crash_after_each_step` and `crash_anywhere` the engine is cut off at commits, and a new one goes on. A handler must come to
the same end then: the same state, steps, attempts and events. What was done in a step that was not recorded yet is done again.

The usual reason is a script that goes by something other than its records, such as the count of its own tries.",
    },
    Entry {
        code: "E0613",
        title: "a test does not come to an end",
        text: "\
A test is over once every run has ended, or waits for what nobody will send any more. This one went on for ten years of virtual
time, or for thousands of crashes, or its engine could not go on. A loop around a `sleep` without an end is the usual reason.",
    },
    Entry {
        code: "E0614",
        title: "a test started no run",
        text: "\
The test's event was accepted, but no run of the tested function came of it: it is not started by this event, its `if` is false,
or a gate such as `idempotency` or `rate_limit` kept it out. The help line says which. Where that is what the test shows:

    expect: { runs: 0 }",
    },
    Entry {
        code: "E0615",
        title: "there are no such tests",
        text: "\
Tests are the files `*.test.yaml` below the folder `tests` beside events.yaml, and a filter chooses those whose file, function or
name contains it. Exit code 4. A test is some lines:

    # tests/greet.test.yaml
    function: greet
    tests:
      - name: greets by name
        event: { name: hello/said, data: { name: Ada } }
        expect: { status: completed, steps: [compose, deliver] }",
    },
];
