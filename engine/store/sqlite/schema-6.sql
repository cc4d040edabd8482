-- Version 6. What an engine that starts has to know of a suspended run that it leaves in the store, in the order of the runs; see
-- rules::row::Dormant, and rules::row::RunState for the numbers: 2 sleeping, 3 waiting, 4 backing off.
CREATE INDEX runs_dormant ON runs (id, wake, function, state) WHERE state BETWEEN 2 AND 4 AND gates IS NULL AND invoked_by IS NULL;
