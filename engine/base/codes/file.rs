//! E01xx: the file and its keys.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0101",
        title: "the config cannot be read",
        text: "\
The path leads to no file, to a folder, or to a file that this user may not read.

`stepwell init` makes a project. Commands look for `events.yaml` in this folder and then upwards; `-c FILE` or
STEPWELL_CONFIG names another one.",
    },
    Entry {
        code: "E0102",
        title: "a key is not known",
        text: "\
A map has a key that means nothing there, and an ignored key would be a silent mistake.

    functions:
      pay: { on: payment/initiate, retry: 3 }     # the key is `retries`

The help line names the nearest known key, or the map that the key belongs to. `stepwell schema` prints the whole
format; an editor that knows it completes the keys.",
    },
    Entry {
        code: "E0103",
        title: "a value has the wrong type",
        text: "\
A number stands where text is wanted, a text where a map is wanted, and so on.

    idempotency: 5            # an expression is text: idempotency: event.data.paymentId
    include: functions/*.yaml # a list: include: [functions/*.yaml]

YAML's own traps are off: `no`, `on` and `010` are text, `true` and `10` are not. Text that looks like a number or a
boolean is put in quotes.",
    },
    Entry {
        code: "E0104",
        title: "something is written twice",
        text: "\
A map has a key twice, or a list has an entry twice. Other YAML readers keep the last one in silence; here it is an
error, since two functions of one name are a mistake.

    functions:
      pay: { on: payment/initiate }
      pay: { on: payment/retry }       # a second name, or both events in one list: on: [payment/initiate, payment/retry]",
    },
    Entry {
        code: "E0105",
        title: "the file is not YAML",
        text: "\
The text does not follow the rules of YAML, so nothing beyond this place could be read. What happens most often:

    description: Pay: the button     # text with `: ` needs quotes: \"Pay: the button\"
    if: {{ x }}                      # text that begins with { [ * & ! % @ ` needs quotes
    \ton: a/b                         # a tab: YAML indents with spaces",
    },
    Entry {
        code: "E0106",
        title: "anchors, aliases, merge keys and tags are refused",
        text: "\
YAML can name a value (`&name`), repeat it (`*name`), merge maps (`<<`) and tag types (`!x`). A reader of the file then
has to look in two places to know what a function does, so these are refused.

Options for all functions stand under `defaults`; limits that functions share have a name: `concurrency: { limit: 5,
shared: NAME }`. Text that begins with one of these characters is put in quotes.",
    },
    Entry {
        code: "E0107",
        title: "the file is empty, no text, or too large",
        text: "\
The config is UTF-8 text of at most 8 MB, nested at most 64 deep, with at least one key. A byte-order mark at its start
is fine; UTF-16 and Latin-1 are not: save it as UTF-8. A file that is too large is split with `include`.",
    },
    Entry {
        code: "E0108",
        title: "a key is missing",
        text: "\
A map lacks a key that it cannot do without: a function has to say what starts it, a limit how many.

    functions:
      pay: { on: payment/initiate, concurrency: { limit: 1, key: event.data.userId } }

A list that has to name something and is empty is the same mistake: `on`, `cron`, `concurrency`, `cancel_on` and `include` are
left out where there is nothing to name. `secrets` and what allows something (`cors`, `hosts`, `allow`) may be empty, which says
that there is none.",
    },
    Entry {
        code: "E0109",
        title: "not a duration",
        text: "\
A length of time is a number with a unit: `500ms`, `30s`, `5m`, `2h`, `7d`, `2w`, or several of them, the largest first:
`1h30m`. A number alone has no unit and could be seconds or milliseconds, so it is refused. The longest is 100 years.",
    },
    Entry {
        code: "E0110",
        title: "not a size",
        text: "\
A number of bytes is written `512KB`, `64MB` or `1GB`, in whole numbers; the units count by 1024, and KiB, MiB and GiB
mean the same. A plain number is bytes.",
    },
    Entry {
        code: "E0111",
        title: "a value is out of range",
        text: "\
The type is right, and the value is more or less than the option allows:

    retries            0 to 20          (attempts: 1 to 21)
    concurrency.limit  at least 1, and at most two limits for a function
    cron               at most 10 schedules for a function
    engine.body        1B to 3MB
    limits.memory      at least 1MB
    jitter             0 to 1; of `cron`, at most the shortest time between two starts
    priority           -600 to 600, where it is the same number for every event
    time-outs          more than 0; `initial` of a back-off is not above its `max`",
    },
    Entry {
        code: "E0112",
        title: "not one of the allowed words",
        text: "\
The option takes one of a few words, and this is none of them. The message lists them.

    durability: fast      # full or normal
    hold: always          # run or active",
    },
    Entry {
        code: "E0113",
        title: "a number cannot be held exactly",
        text: "\
JSON inside the file (an `example`, an inline `schema`) holds whole numbers from -9223372036854775808 to
18446744073709551615, and decimals that a 64-bit float can hold. This one would be changed in silence. Put it in
quotes if text will do, or keep the schema in a file of its own.",
    },
    Entry {
        code: "E0114",
        title: "a name cannot be used",
        text: "\
Ids of functions, webhooks, shared limits and the app are letters, digits, `-` and `_`, up to 128 bytes, beginning with a
letter or digit: they stand in paths and tables. Names of variables and secrets are letters, digits and `_`. An event's
name is any text of up to 512 bytes without spaces; `*` is allowed only as the last part of a family: `stripe/*`.",
    },
    Entry {
        code: "E0115",
        title: "the name is reserved",
        text: "\
Event names under `stepwell/` are the engine's own: a function can be started by `stepwell/function.failed`, `.finished` and
`.cancelled`, and nobody can send them. For your events choose another prefix, such as the app's name:

    events:
      shop/order.paid: {}",
    },
    Entry {
        code: "E0116",
        title: "a function listens to an event that is not declared",
        text: "\
Such a function would never start, since an event that is not declared is refused. Declare it:

    events:
      payment/initiate: {}           # {} allows any data
      stripe/*: {}                   # a family: every name that begins with stripe/",
    },
    Entry {
        code: "W0116",
        title: "a function listens to an event that is not declared, and a similar name is",
        text: "\
With `unknown_events: accept` the event would be accepted, so this is a warning only: a name that differs by a letter from
a declared one is most often a slip. Declare the event to say that it is meant.",
    },
    Entry {
        code: "E0117",
        title: "a path leaves the config's folder, or cannot be one",
        text: "\
Every path in the file is relative to the folder of events.yaml and stays below it: no `..`, no `/` at the start, no link
that leads out, `/` between the parts. A handler ends in `.rhai`. So a project can be copied and backed up as one folder.",
    },
    Entry {
        code: "E0118",
        title: "a file is not there",
        text: "\
A handler, schema or included file that the config names does not exist. A function without `handler:` runs
`handlers/ID.rhai`, so the function `pay` needs handlers/pay.rhai.

    functions:
      pay: { on: payment/initiate, handler: handlers/payments/pay.rhai }",
    },
    Entry {
        code: "E0119",
        title: "`include` leads round in a circle, or a key stands in the wrong file",
        text: "\
A file includes itself, directly or over others; or an included file has a key that concerns the engine as a whole, such
as `engine` or `limits`: these stand in the main file. An included file may hold `events`, `functions`, `webhooks`,
`env`, `secrets` and `include`. Its paths, too, are relative to the folder of the main file.",
    },
    Entry {
        code: "W0120",
        title: "a pattern of `include` fits no file",
        text: "\
`*` and `?` stand for characters within one part of the path, `**` for any number of folders: `functions/*.yaml`,
`**/*.yaml`. Hidden folders are left out. A path without a pattern that does not exist is an error (E0118).",
    },
    Entry {
        code: "E0121",
        title: "functions that share a limit state it in two ways",
        text: "\
All functions that give one `shared` name count together, so they must agree on `limit` and `hold`:

    functions:
      charge: { on: a/b, concurrency: { limit: 5, shared: bank } }
      refund: { on: a/c, concurrency: { limit: 5, shared: bank } }     # 5 here too",
    },
    Entry {
        code: "E0122",
        title: "options exclude each other",
        text: "\
These do not go together:

    batch      with debounce, singleton, idempotency, priority or cancel_on
    batch      with a `key` of concurrency or throttle other than the batch's own
    debounce   with singleton
    concurrency: [a, b]   with the same `shared` name, or the same `key` and `hold`, in both
    on: stepwell/function.…   with idempotency, rate_limit, debounce, batch or singleton
    backoff: table   with initial, max or jitter
    backoff: fixed   with max

A batch stands for many events, so what is decided for one event (its priority, its idempotency key) has no meaning
for it. An event of the engine's own is stored with the end that it tells of, and starts its functions whatever came before.",
    },
    Entry {
        code: "E0123",
        title: "not an address to listen on",
        text: "\
`engine.listen` is an IP address and a port: `127.0.0.1:8288`, `0.0.0.0:8288` for every interface, `\"[::1]:8288\"` in quotes
for IPv6, or `localhost:8288`. Names are not looked up.",
    },
    Entry {
        code: "E0124",
        title: "not a network",
        text: "\
`http.allow` lists the private networks that scripts may reach: an address (`10.0.0.5`), or an address and the number of its
fixed bits (`10.0.0.0/8`, `fd00::/8`). Bits beyond the fixed ones are 0.",
    },
    Entry {
        code: "E0125",
        title: "a secret is not listed",
        text: "\
The file names secrets, and never holds their values. A name that is used has to be listed, so that the engine can
refuse to start without it:

    secrets: [STRIPE_WEBHOOK]
    webhooks:
      stripe: { scheme: stripe, secret: STRIPE_WEBHOOK, event: \"'stripe/' + body.type\" }",
    },
    Entry {
        code: "E0126",
        title: "the version of the format is not known",
        text: "\
`version: 1` is the only version of the format so far. A file with a higher one was written for a newer stepwell.
Versions of handlers are another matter: `versions`.",
    },
    Entry {
        code: "E0127",
        title: "a schedule cannot be read",
        text: "\
A schedule has five fields: minute, hour, day of the month, month, day of the week. Six are read as with the second
before them.

    cron: \"0 7 * * MON-FRI\"       # 7:00 from Monday to Friday
    cron: \"*/15 * * * *\"          # every 15 minutes
    cron: \"0 0 L * *\"             # the last day of each month
    cron: \"@daily\"                # as 0 0 * * *
    cron: [\"0 9 * * MON-FRI\", \"0 11 * * SAT,SUN\"]     # several, each by itself

A field is `*`, a number, a list `1,15`, a range `1-5`, or a step `*/15` or `10-50/20`. Months are 1 to 12 or JAN to DEC, days of
the week 0 to 7 (0 and 7 are Sunday) or SUN to SAT. The zone has a key of its own: `{ schedule: \"0 7 * * *\", tz: Europe/Berlin }`.",
    },
    Entry {
        code: "E0128",
        title: "a name is a secret and has a value in the file",
        text: "\
A name stands both in `env`, with a value, and in `secrets`. A secret's value comes from the environment alone, so that it
is never in the file nor in its history. Remove it from one of the two; a value that was in the file is no secret any
more and should be changed.",
    },
    Entry {
        code: "E0129",
        title: "something is declared in two files",
        text: "\
Two files that are included declare an event, function, webhook or variable of the same name. Neither wins: rename one or
remove it.",
    },
    Entry {
        code: "E0131",
        title: "a time zone is not known",
        text: "\
`tz` is the name of a zone in the IANA database, by continent and city, since such a zone knows when its clock is set:
`Europe/Berlin`, `America/New_York`, `Asia/Kolkata`; or `UTC`, the default. Distances such as `+01:00` are none.",
    },
    Entry {
        code: "E0132",
        title: "an event has to be named whole",
        text: "\
`cancel_on` finds the runs that an event cancels by its name, so a family such as `user/*` is not taken. List the events:

    cancel_on: [user/deleted, user/blocked]",
    },
    Entry {
        code: "E0133",
        title: "a database that cannot be used",
        text: "\
A database's `url` is `sqlite:` and the path of a file, or `postgres://user@host:port/name`. The password does not stand in
the file: `password` names the secret that has it. The engine's own database is not among them.

    databases:
      crm: { url: \"sqlite:data/crm.db\" }
      shop: { url: \"postgres://app@db.example.com/shop\", password: SHOP_PASSWORD }",
    },
    Entry {
        code: "E0134",
        title: "a mail server that cannot be used",
        text: "\
`smtp` is `smtp://host:port`, where TLS begins with STARTTLS, or `smtps://host:port`, where it is there from the start. A name
to log in with stands in it: `smtp://name@host`, and `password` names the secret for it. `from` is an address.

    email: { smtp: \"smtp://app@mail.example.com:587\", password: MAIL_PASSWORD, from: \"Shop <shop@example.com>\" }",
    },
    Entry {
        code: "E0135",
        title: "a command that cannot be allowed",
        text: "\
An entry of `exec.allow` is the name of a command, which is looked for in PATH, or its whole path; arguments are the
handler's. Shells and their like (`env`, `xargs`, `sudo`) are refused: whoever may run one may run everything.

    exec: { allow: [pdftotext, /usr/local/bin/label] }",
    },
    Entry {
        code: "W0136",
        title: "a secret seems to stand in the config",
        text: "\
A text looks like a secret: it has the mark of a key (of Stripe, GitHub, Slack, AWS and others), is a private key, or is long and random
under a name such as token, secret or password. A config lies in version control, where everybody reads it, and whoever had it once
keeps it.

    env: { STRIPE_KEY: sk_live_… }         # secrets: [STRIPE_KEY], and the value in the environment

Names under `secrets` take their values from the environment alone; scripts read them with `secret(name)`, and the engine keeps them
out of logs and results. Change a secret that was there already. Checksums, UUIDs and placeholders are not told of.",
    },
    Entry {
        code: "E0140",
        title: "a webhook that cannot be used",
        text: "\
`scheme` says how the sender signs. `stripe`, `github`, `slack` and `standard` say it all; `hmac` needs `signature`, with the header
that has it and, where the sender sends one, the header with the time, which has to be among what is signed. `tolerance` is how
old a signature may be, and so goes with a time alone. `secret` is the name of one secret, or of two while one takes the place of the other.

    webhooks:
      shop:
        scheme: hmac
        secret: SHOP_WEBHOOK
        signature: { header: X-Shop-Signature, timestamp: X-Shop-Time, signed: \"{X-Shop-Time}.{body}\" }
        event: \"'shop/' + body.kind\"",
    },
    Entry {
        code: "E0190",
        title: "not supported yet",
        text: "\
The value belongs to the format and is checked, and what it does comes with a later version: an engine's `database` on a server.
It is an error, since a file that asks for something must not run without it in silence. Remove it for now.",
    },
];
