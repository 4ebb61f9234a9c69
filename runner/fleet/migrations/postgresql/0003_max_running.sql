-- How many tasks of a job may run at once, over all workers; NULL: as many as there are workers for.
ALTER TABLE jobs ADD COLUMN max_running bigint;
