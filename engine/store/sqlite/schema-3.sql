-- Version 3. Few runs fail or are cancelled, and whoever looks for them has no other way to them than to read all runs.
CREATE INDEX runs_broken ON runs (state) WHERE state IN (7, 8);
