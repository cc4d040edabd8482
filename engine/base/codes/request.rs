//! E051x: what is wrong with a request that sends events.

use super::Entry;

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        code: "E0510",
        title: "the body of a request is not JSON",
        text: "\
`POST /e` takes JSON: one event or an array of events. Nothing was stored. The message names the line and column where
the text stops being JSON; a comma after the last entry, single quotes and comments are the usual reasons.

    curl localhost:8288/e/KEY -d '{\"name\": \"payment/initiate\", \"data\": {\"userId\": \"u1\"}}'",
    },
    Entry {
        code: "E0511",
        title: "there is no event where one should be",
        text: "\
The body, or an entry of its array, is a text, a number, null or an array. An event is an object with a `name` and, most
often, `data`. Nothing was stored.

    {\"name\": \"payment/initiate\", \"data\": {\"userId\": \"u1\"}}",
    },
    Entry {
        code: "E0512",
        title: "too many events in one request",
        text: "\
One request takes at most 5,000 events, and all or none of them are stored. Send the rest in further requests; an `id` on
each event makes it safe to send a request again.",
    },
    Entry {
        code: "E0513",
        title: "a field of an event is missing or is not of its kind",
        text: "\
An event's fields: `name` (a text of 1 to 512 bytes, required), `data` (an object; `{}` where it is missing), `id` (a text of
at most 512 bytes without control characters: the same name and id within 24 hours start nothing again), `ts` (whole
milliseconds since 1970; 0 or missing for now), `user` (an object), `v` (a text). Other fields are ignored. A value that is
no object goes into a field of `data`:

    {\"name\": \"sensor/read\", \"data\": {\"value\": 17}}",
    },
    Entry {
        code: "E0514",
        title: "an event's time is out of range",
        text: "\
`ts` is in milliseconds since 1970 and lies between 1980 and 2100; 0 stands for now. A time in seconds falls before 1980
and is refused, since the runs would otherwise bear a wrong time without a word: multiply it by 1000.",
    },
    Entry {
        code: "E0515",
        title: "a key stands twice in one object",
        text: "\
JSON does not say which of two values of one key counts, and readers differ, so one of them would be lost without a word.
Nothing was stored. The pointer names the key; send it once, or make its values an array.",
    },
    Entry {
        code: "E0516",
        title: "data are nested too deep",
        text: "\
Arrays and objects may be nested 100 levels deep in an event's `data` and `user`. Deeper ones are most often a mistake of
the program that made them (a structure that holds itself). Nothing was stored.",
    },
    Entry {
        code: "E0517",
        title: "a text is not Unicode",
        text: "\
The body has to be UTF-8, and an escape such as `\\ud83d` stands for half of a character: only together with its other half
is it a text. Texts that were cut in the middle of an emoji look like this. Nothing was stored; cut by characters instead.",
    },
];
