-- Version 5. An open wait for one kind of event is found by a value that a field of the event has to have, so that an engine that starts need
-- not read them all. Of one that is not open any more, or that is not found so, both are NULL.
ALTER TABLE waits ADD COLUMN field INTEGER; -- a name that says which event and which field
ALTER TABLE waits ADD COLUMN value INTEGER; -- a hash
CREATE INDEX waits_pinned ON waits (field, value);
