-- The machines that were launched for a job, and dollars an hour of each: what was done costs so
-- much also when EC2 knows the machine no more.
CREATE TABLE machines (
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name text NOT NULL,
    instance_id text NOT NULL,
    price_per_hour double precision,
    launched_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, name)
);
