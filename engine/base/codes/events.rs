//! E02xx: events, schemas and expressions.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0201",
        title: "a schema file cannot be read",
        text: "\
The file is there, but cannot be read as UTF-8 text, or is larger than 4 MB. A schema describes data and is small;
save it as UTF-8.",
    },
    Entry {
        code: "E0202",
        title: "a schema file is not JSON",
        text: "\
A schema file is plain JSON: no comments, no comma behind the last entry, every name in double quotes. A name that is
written twice in one object is an error too, since JSON readers keep the last one in silence.

    { \"type\": \"object\", \"required\": [\"userId\"], }     // the last comma is one too many",
    },
    Entry {
        code: "E0203",
        title: "a schema is no JSON Schema",
        text: "\
The JSON is well formed, but is no schema of JSON Schema 2020-12: a keyword has a value that it cannot have, a type does
not exist, a pattern is no regular expression.

    type: text                # the types are string, number, integer, boolean, object, array, null
    required: userId          # a list: required: [userId]",
    },
    Entry {
        code: "E0204",
        title: "a $ref is remote",
        text: "\
Nothing is fetched for a schema: a project has to start without a network, and to mean the same thing tomorrow. Save the
schema below the config's folder, and refer to the file, relative to the one that the $ref stands in.

    { \"$ref\": \"https://example.com/user.json\" }     // save it as schemas/user.json
    { \"$ref\": \"user.json\" }                         // and write this in a file of schemas/",
    },
    Entry {
        code: "E0205",
        title: "a $ref leaves the folder",
        text: "\
A schema may be made of files below the config's folder alone. A path that leads out of it is refused, be it absolute, with
`..`, or by a symbolic link: copy the file into the folder.",
    },
    Entry {
        code: "E0206",
        title: "a $ref leads nowhere",
        text: "\
There is no such file, or no such place within it. A path is relative to the file that the $ref stands in (for a schema
that is written in events.yaml, to the config's folder); what follows `#` is a JSON pointer.

    { \"$ref\": \"#/$defs/user\" }          // in the same file
    { \"$ref\": \"parts/user.json#/$defs/id\" }",
    },
    Entry {
        code: "E0207",
        title: "an expression reads a property that the schema does not have",
        text: "\
The path can never have a value: the event's schema declares the properties that it allows (`additionalProperties: false`),
and this is none of them. Or the path reads a field of the event itself that does not exist; the fields are id, name,
data and ts, and what the sender wrote is under data.

    concurrency: { limit: 1, key: event.data.userID }     # the schema has `userId`
    if: event.amount > 0                                  # event.data.amount",
    },
    Entry {
        code: "W0207",
        title: "an expression reads a property that is probably misspelled",
        text: "\
The schema allows further properties, so the path may have a value; but it declares one with almost the same name. Or a
function has several events, and the property is declared for some of them alone: for the others the value is null. Or the clock
alone starts the function: what it sends has `cron`, `tz`, `at` and `missed`, so that the option never applies, or all runs have one key.
`stepwell explain E0207` has the error that this is the mild form of.",
    },
    Entry {
        code: "E0208",
        title: "an example does not fit its schema",
        text: "\
The example of an event is sent by `try --example` and `send --example`, and shown in documentation, so it has to be an
event that the engine accepts: an object that fits the event's schema. Mend whichever of the two is wrong.",
    },
    Entry {
        code: "W0209",
        title: "a schema names another draft",
        text: "\
Every schema is read as JSON Schema 2020-12, whatever its `$schema` says. Most schemas of earlier drafts mean the same
there; a list in `items` is the exception: it is called `prefixItems` now.",
    },
    Entry {
        code: "W0210",
        title: "nothing checks a format",
        text: "\
`format` is asserted: a text that is no e-mail address does not pass `format: email`. The formats that are known are
date, date-time, duration, email, hostname, ipv4, ipv6, json-pointer, regex, relative-json-pointer, time, uri,
uri-reference, uri-template and uuid. Another name checks nothing; use `pattern` with a regular expression.",
    },
    Entry {
        code: "E0211",
        title: "an expression cannot be read",
        text: "\
Keys, `if`, `idempotency` and `priority` are expressions in CEL (https://cel.dev): paths, numbers, texts in single quotes,
comparisons, `&&`, `||`, `!`, and `a ? b : c`. The pattern that `matches` is given is read with them.

    key: event.data.userId
    if: \"event.data.amount > 0 && event.data.plan == 'pro'\"
    priority: \"event.data.plan == 'pro' ? 120 : 0\"

YAML takes `: ` and ` #` within a plain value for its own, so put an expression that holds one in quotes.",
    },
    Entry {
        code: "E0212",
        title: "an expression uses an unknown name",
        text: "\
The variable is `event`, with the fields id, name, data and ts. A word without it is not a text: texts stand in quotes.

    key: userId                            # key: event.data.userId
    if: event.data.plan == pro             # if: event.data.plan == 'pro'

The functions are CEL's own (size, matches, int, double, string, type, has) and, behind a dot, all, contains, endsWith,
exists, filter, indexOf, join, lowerAscii, map, matches, replace, size, split, startsWith, substring, trim, upperAscii.",
    },
    Entry {
        code: "E0213",
        title: "a secret is missing",
        text: "\
`secrets:` lists names; the values come from the environment alone, never from a file. `run` and `dev` do not start without
them, so that a handler does not fail in the night for want of a key.

    STRIPE_KEY=… stepwell run",
    },
    Entry {
        code: "N0213",
        title: "a secret is missing, which matters once the engine runs",
        text: "\
`validate` and `plan` work without the values of the secrets; this note says which ones `run` and `dev` will ask for.
`try` goes without them too, and fails only in a handler that reads one.",
    },
    Entry {
        code: "E0214",
        title: "a secret is too short",
        text: "\
The engine replaces every secret in logs, errors and pages, and refuses results that contain one. It finds them by their
text, and a text of less than 8 bytes occurs by chance. Use a longer one.",
    },
    Entry {
        code: "E0215",
        title: "a script reads an environment variable that is not listed",
        text: "\
`env(name)` gives what events.yaml lists under `env`, with a default that the real environment overrides; so a project says
what it depends on, and a misspelled name is found before anything runs.

    env: { API_BASE: \"https://api.example.com\" }",
    },
    Entry {
        code: "E0216",
        title: "a script reads a secret that is not listed",
        text: "\
`secret(name)` gives what events.yaml lists under `secrets`; so the engine knows which texts it has to keep out of logs and
results, and says at its start which ones are missing.

    secrets: [STRIPE_KEY]",
    },
    Entry {
        code: "N0217",
        title: "a handler sleeps or waits while it holds its concurrency slot",
        text: "\
With `hold: run`, the default, a run keeps its slot from its first start to its end, sleeps and waits included, so that the
runs of a key never overlap. The other runs of its key wait that long. Where they may overlap with a run that sleeps or waits,
write `hold: active`: the slot is free meanwhile, and taken again before the run goes on.",
    },
    Entry {
        code: "E0218",
        title: "an event that is named is not declared",
        text: "\
The event that `send_event`, `wait_for_event` or `wait_for_any` names is not declared under `events`, so it could be neither
sent nor come; or the one that a webhook makes. A family such as `stripe/*` declares names, but is none itself.

    events:
      otp/received: {}",
    },
    Entry {
        code: "E0219",
        title: "a handler invokes a function that is not there",
        text: "\
`invoke` names a function by its id, the key under `functions` in events.yaml, not by the path of its handler.

    functions:
      charge-card: { on: card/charge }     # invoke(\"charge-card\", #{ amount: 5 })",
    },
    Entry {
        code: "E0220",
        title: "what was sent is no event",
        text: "\
An event is an object with a `name` (1 to 512 bytes, without spaces) and `data`, which is an object.

    {\"name\": \"payment/initiate\", \"data\": {\"userId\": \"u1\", \"amount\": 1200}}",
    },
    Entry {
        code: "E0221",
        title: "an event's data do not fit its schema",
        text: "\
The event was refused and nothing of it was stored. Each violation comes with a JSON pointer into the event, what is wrong
there, and often the nearest right word. The schema is the one that events.yaml names for the event.",
    },
    Entry {
        code: "E0222",
        title: "an event is not declared",
        text: "\
Only events that are declared under `events` are accepted, so that a misspelled name is noticed by its sender.

    events:
      user/deleted: {}         # any data
      stripe/*: {}             # a family of names

`unknown_events: accept` takes the others too; they are stored without a check.",
    },
    Entry {
        code: "E0223",
        title: "an event's name is reserved",
        text: "\
Names that begin with `stepwell/` belong to events that the engine itself makes, so nobody else can send them. Choose
another first part.",
    },
    Entry {
        code: "E0224",
        title: "a webhook cannot use its secret",
        text: "\
The secret in the environment is not of the form that the webhook's `scheme` has. With `standard` it is the word `whsec_` and the
key in base64, as the sender shows it; with the other schemes any text is one.

    webhooks:
      resend: { scheme: standard, secret: RESEND_WEBHOOK, event: \"'resend/' + body.type\" }",
    },
];
