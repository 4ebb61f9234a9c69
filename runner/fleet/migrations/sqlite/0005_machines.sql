-- The machines that were launched for a job, and dollars an hour of each: what was done costs so
-- much also when EC2 knows the machine no more.
CREATE TABLE machines (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    price_per_hour REAL,
    launched_at REAL NOT NULL,
    PRIMARY KEY (job_id, name)
);
