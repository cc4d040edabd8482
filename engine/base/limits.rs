//! Every fixed limit of the engine, each with its unit in the name and its reason beside it.

/// Longest event name, in bytes (Inngest's clients may send up to this).
pub const EVENT_NAME_BYTES: usize = 512;
/// Longest step name, in bytes; longer ones make keys and pages unreadable.
pub const STEP_NAME_BYTES: usize = 200;
/// Longest key of `kv`, in bytes; it is a key of an index.
pub const KV_KEY_BYTES: usize = 512;
/// Largest value under a key of `kv`, in bytes: it is read and written whole.
pub const KV_VALUE_BYTES: usize = 1024 * 1024;
/// Most keys of `kv` that one step changes: they go into one list of writes, which is committed whole.
pub const KV_CHANGES: usize = 1_000;
/// Largest result of one step, in bytes; a result is read back at every replay.
pub const STEP_RESULT_BYTES: usize = 4 * 1024 * 1024;
/// Longest id that a sender may give an event, in bytes; it is a key of an index.
pub const EVENT_ID_BYTES: usize = 512;
/// Deepest nesting of arrays and objects in an event's data, below the 128 levels at which the JSON parser gives up.
pub const JSON_DEPTH: usize = 100;
/// Most events in one request (Inngest's own limit, so that stock SDKs fit).
pub const EVENTS_PER_REQUEST: usize = 5_000;
/// Bytes of events that may wait for their commit, over all requests, before a sender is told to come again. A slow disk then
/// holds back the senders and does not fill the memory; to a disk that keeps up this is more than a second of work.
pub const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Bytes that a waiting event counts for besides its request's body: its rows, those of its runs, and what decides on them.
pub const WAITING_EVENT_BYTES: usize = 1024;
/// Default largest request body, in bytes.
pub const BODY_DEFAULT_BYTES: u64 = 1024 * 1024;
/// The largest request body that a config may allow, in bytes.
pub const BODY_MOST_BYTES: u64 = 3 * 1024 * 1024;
/// Most retries that a function or step may ask for.
pub const RETRIES_MOST: u32 = 20;
/// Window of event ids and idempotency keys, in milliseconds: 24 hours.
pub const DEDUPE_WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// Longest sleep, in milliseconds: one year.
pub const SLEEP_MOST_MS: i64 = 366 * 24 * 60 * 60 * 1000;
/// Runs that execute at once over all executor threads: twice a transaction, so that scripts go on while the writer is busy with
/// the records of others. With as many as one transaction takes, writer and executors waited for each other.
pub const RUNS_EXECUTING: usize = 1_024;
/// Runs that hold a coroutine at once, executing or waiting inside a step (40,000 meet the kernel's map count).
pub const COROUTINES_MOST: usize = 20_000;
/// Virtual stack of one coroutine, in bytes, where a run's memory does not ask for more. The kernel gives memory only for
/// what is touched; 64 script levels touch up to 2 MB.
pub const COROUTINE_STACK_BYTES: usize = 64 * 1024 * 1024;
/// Times a run's memory that its coroutine's stack has room for. Values may lie in each other as deep as the memory allows,
/// and Rhai drops them level by level: a chain of closures takes twice its memory of stack in a debug build.
pub const COROUTINE_STACK_SHARE: usize = 4;
/// Script call levels, reached long before the coroutine's stack ends.
pub const CALL_LEVELS: usize = 64;
/// Rows that one write transaction takes before it is flushed; larger batches gave steps a p99 of 40 to 90 ms.
pub const BATCH_ROWS: usize = 512;
/// Default memory of one run, in bytes.
pub const RUN_MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// Default number of records in one run.
pub const RUN_STEPS: u32 = 10_000;
/// Default size of one run's journal, in bytes.
pub const RUN_JOURNAL_BYTES: u64 = 16 * 1024 * 1024;
/// A secret shorter than this cannot be told from ordinary text when output is searched for it.
pub const SECRET_LEAST_BYTES: usize = 8;
/// Longest value of a concurrency or idempotency key that is kept as it is, in bytes; a longer one is kept as its hash.
pub const KEY_BYTES: usize = 512;
/// Operations of a script between two records, or within one attempt of a step: a loop that does not end is stopped
/// after some seconds, also where no clock moves.
pub const RUN_OPERATIONS: u64 = 100_000_000;
/// Events that one `wait_for_any` takes: each is an entry of the index.
pub const WANTED_MOST: usize = 20;
/// Branches of one `parallel` that are under way at once, unless it says otherwise.
pub const BRANCHES_DEFAULT: usize = 32;
/// The most that it may say: each has a stack of its own.
pub const BRANCHES_MOST: usize = 256;
/// Events of one `batch`: a handler sees all of them at once, in its run's memory.
pub const BATCH_EVENTS_MOST: u32 = 1_000;
/// Bytes of its events' data at which a batch is full, whatever its `size` says: as values of a script they take several times
/// as much of their run's memory, and the event that tells of its end holds them all. Its last event may go beyond.
pub const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Longest name of a channel, and of a topic, in bytes; they stand in addresses.
pub const CHANNEL_NAME_BYTES: usize = 200;
/// Largest message to a channel, in bytes: several have to wait for a slow listener at once.
pub const CHANNEL_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of messages that wait for one listener before it misses the oldest of them. With as many listeners as a server takes, each
/// of another channel and none of them reading, that is 128 MB.
pub const CHANNEL_WAITING_BYTES: usize = 256 * 1024;
