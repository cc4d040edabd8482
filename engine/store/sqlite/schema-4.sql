-- Version 4. A function may have several schedules, and stands in each of them by itself.
CREATE TABLE crons_by_schedule (
    function INTEGER NOT NULL,
    schedule TEXT NOT NULL, -- with its zone
    last INTEGER NOT NULL,
    due INTEGER,
    PRIMARY KEY (function, schedule)
) STRICT, WITHOUT ROWID;
INSERT INTO crons_by_schedule (function, schedule, last, due) SELECT function, schedule, last, due FROM crons;
DROP TABLE crons;
ALTER TABLE crons_by_schedule RENAME TO crons;
