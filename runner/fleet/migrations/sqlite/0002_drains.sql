-- Workers that are to take no task any more, by name: of one worker, or of all of a machine's, also
-- of one that has yet to begin.
CREATE TABLE drains (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    asked_at REAL NOT NULL,
    PRIMARY KEY (job_id, name)
);
