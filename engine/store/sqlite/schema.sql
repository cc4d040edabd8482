-- Version 2. Times are milliseconds since 1970 UTC; JSON is kept as BLOB; states and kinds by the numbers of rules::row.

CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Function ids, event names, handler versions and places in scripts recur in every row: each is stored once.
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    name INTEGER NOT NULL,
    data BLOB NOT NULL,
    sender_id TEXT,
    ts INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    extra BLOB
) STRICT;

CREATE INDEX events_name ON events (name);

-- What gates said about an event; kind and value by the numbers of rules::outcome.
CREATE TABLE outcomes (
    event INTEGER NOT NULL,
    function INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (event, function, kind)
) STRICT, WITHOUT ROWID;

-- The columns stand in the order of use: the first ones are read and written with each change of state.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    rev INTEGER NOT NULL,
    state INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    suspects INTEGER NOT NULL,
    function INTEGER NOT NULL,
    event INTEGER NOT NULL,
    created INTEGER NOT NULL,
    enter INTEGER, -- where it differs from created
    started INTEGER,
    ended INTEGER,
    wake INTEGER,
    priority_ms INTEGER NOT NULL,
    version INTEGER,
    keys TEXT, -- one a line
    idempotency TEXT,
    gates TEXT, -- JSON
    output BLOB,
    error BLOB,
    reason TEXT,
    replay_of INTEGER,
    invoked_by INTEGER
) STRICT;
CREATE INDEX runs_event ON runs (event);
CREATE INDEX runs_replay ON runs (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX runs_function ON runs (function);
CREATE INDEX runs_open ON runs (ended) WHERE ended IS NULL;

CREATE TABLE steps (
    run INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    key TEXT NOT NULL,
    kind INTEGER NOT NULL,
    failed INTEGER NOT NULL, -- 1: result is an error
    result ANY NOT NULL, -- JSON as BLOB, or the time that a sleep ends as INTEGER
    attempts INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    line INTEGER,
    PRIMARY KEY (run, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    error BLOB NOT NULL,
    next INTEGER,
    line INTEGER,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE logs (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level INTEGER NOT NULL,
    message TEXT NOT NULL,
    data BLOB,
    step TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- A row stays until its run ends: it says which event the run has had. The ids are in the order of opening.
CREATE TABLE waits (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    key TEXT NOT NULL,
    what BLOB NOT NULL, -- JSON
    opened INTEGER NOT NULL,
    until INTEGER,
    state INTEGER NOT NULL, -- 0 open, 1 resolved, 2 recorded
    event INTEGER,
    failed INTEGER NOT NULL DEFAULT 0, -- 1: result is an error
    result BLOB,
    UNIQUE (run, kind, key)
) STRICT;
CREATE INDEX waits_event ON waits (event) WHERE event IS NOT NULL;

-- The events of a batch after the first, which is the run's own.
CREATE TABLE batched (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    event INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX batched_event ON batched (event);

CREATE TABLE event_keys (
    name INTEGER NOT NULL,
    key TEXT NOT NULL,
    event INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    name INTEGER NOT NULL,
    key TEXT NOT NULL,
    run INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

-- Where a function that is started by the clock stands in its schedule.
CREATE TABLE crons (function INTEGER PRIMARY KEY, schedule TEXT NOT NULL, last INTEGER NOT NULL, due INTEGER) STRICT;

-- What counting gates have counted: for a rate limit a row for each event that it let through, for a throttle one a key.
CREATE TABLE windows (
    function INTEGER NOT NULL,
    gate INTEGER NOT NULL, -- rules::gates::Gate
    key TEXT NOT NULL,
    entry INTEGER NOT NULL,
    value INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (function, gate, key, entry)
) STRICT, WITHOUT ROWID;

-- What scripts keep under keys of their own.
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX kv_by_expires ON kv (expires) WHERE expires IS NOT NULL;

CREATE TABLE pauses (function TEXT PRIMARY KEY, paused INTEGER NOT NULL, since INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE sources (hash TEXT PRIMARY KEY, files BLOB NOT NULL) STRICT, WITHOUT ROWID;
