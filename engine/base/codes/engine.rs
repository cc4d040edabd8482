//! E05xx: the engine, the store and the commands.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0530",
        title: "no config was found",
        text: "\
Commands look for `events.yaml` in the working folder and then in each folder above it, and found none;
or the one that was named is not there.

    stepwell init hello && cd hello

makes a project; `-c path/to/events.yaml` or STEPWELL_CONFIG names one that lies elsewhere. Exit code 78.",
    },
    Entry {
        code: "E0531",
        title: "no engine answers",
        text: "\
The command needs a running engine, and nothing (or something else) answers at its address.

Start one with `stepwell dev`, or name it with `--url http://HOST:PORT` or STEPWELL_URL. Commands that only read fall back
to the database when no engine answers and none was named; those that change something cannot. Exit code 69.",
    },
    Entry {
        code: "E0532",
        title: "the engine does not let this command in",
        text: "\
The token or key is missing or is not the one that the engine was started with.

`runs`, `events`, `functions` use STEPWELL_ADMIN_TOKEN (or, to read, STEPWELL_READ_TOKEN); `send` uses the first key of
STEPWELL_EVENT_KEYS. Set them in this shell to the engine's values. Exit code 77.",
    },
    Entry {
        code: "E0533",
        title: "a file is there already",
        text: "\
The command would overwrite a file, and did nothing.

`init` overwrites with `--force`; `backup` wants a file name that is not taken. Exit code 73.",
    },
    Entry {
        code: "E0534",
        title: "there is nothing of that name or id",
        text: "\
No event, run or function has this id, or no event is declared under this name.

`stepwell runs ls`, `stepwell events ls` and `stepwell functions ls` show what is there. Ended runs are deleted after the
time that `retention` in events.yaml says. Exit code 3.",
    },
    Entry {
        code: "E0535",
        title: "the start of an id fits several",
        text: "\
Ids may be cut to their first characters as long as one id alone begins with them. The help lines list those that do:
add a character or two. Ids of the same day share their first characters. Exit code 2.",
    },
    Entry {
        code: "E0536",
        title: "the command line makes no sense",
        text: "\
An argument is not what the command takes: data that are no JSON object, a field without `=`, an address that is none.

    stepwell send payment/initiate userId=u1 amount=12
    stepwell send payment/initiate --data '{\"userId\": \"u1\", \"amount\": 12}'
    stepwell send payment/initiate --data @payment.json

Each command's `--help` ends with an example. Exit code 2.",
    },
    Entry {
        code: "E0537",
        title: "there is no database",
        text: "\
The engine makes its database when it first starts: `.stepwell/stepwell.db` beside events.yaml, unless `engine.database`
says otherwise. The command only reads, so it does not make one. `--database` names another file. Exit code 3.",
    },
    Entry {
        code: "E0538",
        title: "this address needs keys",
        text: "\
Other machines can reach the address that the engine is told to listen on, and then anybody could send events and read
runs. `stepwell keys new` makes an event key and an admin token:

    stepwell keys new > keys.env
    set -a; . ./keys.env; set +a
    stepwell run --listen 0.0.0.0:8288

Or let it listen on 127.0.0.1, the default. Exit code 78.",
    },
    Entry {
        code: "E0539",
        title: "the engine refused the request",
        text: "\
The engine answered, and said no: the data do not fit the event's schema, the run has ended already, the request is too
large. Its own words stand in the message, each single problem in a help line with its place. Nothing was stored. Exit code 1.",
    },
    Entry {
        code: "E0540",
        title: "a file or a stream failed",
        text: "\
The system refused to read or write: no such folder, no permission, no space, a device that fails. The message names
the file and the system's reason. Exit code 74.",
    },
    Entry {
        code: "E0541",
        title: "no diagnostic has this code",
        text: "\
`stepwell explain` takes a code as diagnostics show it in brackets: E0304, W0410. Without a code it lists all of them.
Exit code 3.",
    },
    Entry {
        code: "E0542",
        title: "the SQL statement is not accepted",
        text: "\
`stepwell sql` runs one statement that reads; the engine alone changes its database. What SQLite itself says of a
statement stands in the message.

    stepwell sql \"select name, sql from sqlite_schema\"

shows the tables. Their layout may change with a new version. Exit code 2.",
    },
    Entry {
        code: "E0543",
        title: "another engine has the database",
        text: "\
One database has one engine, so that nothing runs twice. The message names the process that holds it; the lock goes with
that process, also when it is killed, so there is never a stale one to remove.

Stop that engine, or give this one a database of its own with `--database`. Exit code 75.",
    },
    Entry {
        code: "E0544",
        title: "the database cannot be used",
        text: "\
The file is not the engine's, was written by a newer stepwell, is damaged, or the disk fails. The engine never repairs,
overwrites or recreates it in silence.

`stepwell doctor` looks the whole file through. For a damaged file: restore the last `stepwell backup`, or move the file
away and begin anew. After a failed write the engine stops itself, since what is on the disk is then unknown; a restart
goes on from what was acknowledged. Exit code 74.",
    },
    Entry {
        code: "E0545",
        title: "the event started no run",
        text: "\
It was accepted and stored, but no function wanted it: none is declared `on` this event, or each one's `if` was false.
The help lines say which. Exit code 4.",
    },
    Entry {
        code: "E0546",
        title: "it took too long",
        text: "\
The time that `--timeout` allows went by before every run had ended. The runs go on in the engine:

    stepwell runs ls

shows where they stand. Exit code 124.",
    },
    Entry {
        code: "E0547",
        title: "the engine cannot listen there",
        text: "\
The address is taken by another program, does not belong to this machine, or may not be used by this user (ports below
1024). Another stepwell on the same port is the usual reason: stop it, or choose another port with `--port` (`dev`),
`--listen` (`run`) or `engine.listen` in events.yaml. Exit code 74.",
    },
    Entry {
        code: "E0548",
        title: "no run waits for the signal",
        text: "\
A signal reaches the runs that wait for it at that moment with `wait_for_signal(name)`, and is not kept for later ones. Where
what comes may come early, send an event: `wait_for_event` looks back to the run's start.",
    },
    Entry {
        code: "W0549",
        title: "an event of --then did nothing",
        text: "\
`try --then` sent it, and it neither started a run nor ended a wait nor cancelled a run. The run that was to take it may have
ended before, or its `if` does not fit the data: by hand `stepwell runs get` says what a run waits for, and until when.",
    },
    Entry {
        code: "E0550",
        title: "a measurement failed",
        text: "\
`stepwell bench` starts an engine as a process of its own on a free port of this machine, and writes its databases into
a temporary folder. The message says which of that failed. `--dir` chooses another folder, on the disk that is to be
measured. A figure that could not be taken is never left out in silence: the whole measurement stops. Exit code 74.",
    },
    Entry {
        code: "E0551",
        title: "the function is not started by the clock",
        text: "\
`try --cron` starts a function as its schedule would, so the function has to have one. Of several it takes the first, or the one
that `--schedule` names as the file has it.

    functions:
      nightly-report: { cron: [\"0 3 * * *\", \"0 15 * * SUN\"] }

    stepwell try --cron nightly-report --schedule '0 15 * * SUN'

A function that events start is tried with its event: `stepwell try EVENT`. Exit code 3.",
    },
    Entry {
        code: "E0552",
        title: "the config is broken, and the one before stays in force",
        text: "\
A reload puts everything in force together, or nothing. The engine has read its config anew (`stepwell reload`, SIGHUP, or a
change that `stepwell dev` saw) and found the errors that are shown above this one; it goes on with the config that it had.

Mend the file and reload again. `stepwell validate` shows the same errors without an engine. Until then /health and the log
say so too. Exit code 78.",
    },
];
