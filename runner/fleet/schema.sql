-- Made of runner's migrations; `runner-fleet migrate` brings a database as far.
BEGIN;
CREATE TABLE IF NOT EXISTS schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL);
-- 0001_tables
-- The fleet in PostgreSQL. A row of task_executions is a task; its state is the truth, and status
-- is the same in the words of the enum: NULL for what has not started or was cancelled.
CREATE TYPE task_status AS ENUM ('running', 'done', 'retryable_failed', 'terminal_failed');
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    config text NOT NULL,
    queue_url text,
    dlq_url text,
    options text NOT NULL DEFAULT '{}',
    paused text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE TABLE volumes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    w_id text NOT NULL,
    i_id text NOT NULL,
    s3_etag text,
    UNIQUE (w_id, i_id)
);
CREATE TABLE workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_name text NOT NULL,
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    last_heartbeat_at timestamptz NOT NULL,
    stopped_at timestamptz
) WITH (fillfactor = 50);
CREATE TABLE task_executions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_key text NOT NULL,
    volume_id bigint REFERENCES volumes (id),
    params text NOT NULL,
    s3_etag text,
    state text NOT NULL CHECK (state IN
        ('pending', 'running', 'done', 'retryable_failed', 'terminal_failed', 'cancelled')),
    status task_status GENERATED ALWAYS AS (CASE state
        WHEN 'running' THEN 'running'::task_status
        WHEN 'done' THEN 'done'::task_status
        WHEN 'retryable_failed' THEN 'retryable_failed'::task_status
        WHEN 'terminal_failed' THEN 'terminal_failed'::task_status END) STORED,
    epoch bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,
    run bigint NOT NULL DEFAULT 0,
    resume_run bigint,
    worker_id bigint REFERENCES workers (id),
    claim_key text,
    lease_until timestamptz,
    not_before timestamptz NOT NULL,
    enqueued_at timestamptz NOT NULL,
    sent_at timestamptz,
    started_at timestamptz,
    done_at timestamptz,
    total_images bigint,
    nb_errors bigint,
    total_duration_ms double precision,
    avg_duration_per_page_ms double precision,
    metrics text,
    error text,
    dead_epoch bigint,
    dead_sent_at timestamptz,
    UNIQUE (job_id, task_key)
) WITH (fillfactor = 70);
CREATE INDEX task_executions_due ON task_executions (job_id, not_before, id)
    WHERE state IN ('pending', 'retryable_failed');
CREATE INDEX task_executions_running ON task_executions (job_id) WHERE state = 'running';
CREATE INDEX task_executions_unsent ON task_executions (job_id, id)
    WHERE state IN ('pending', 'retryable_failed') AND sent_at IS NULL;
CREATE INDEX task_executions_dead_unsent ON task_executions (job_id, id)
    WHERE state = 'terminal_failed' AND dead_sent_at IS NULL;
CREATE INDEX task_executions_ended ON task_executions (job_id, done_at);
INSERT INTO schema_migrations VALUES (1, '0001_tables', now());
-- 0002_drains
-- Workers that are to take no task any more, by name: of one worker, or of all of a machine's, also
-- of one that has yet to begin.
CREATE TABLE drains (
    job_id bigint NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name text NOT NULL,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, name)
);
INSERT INTO schema_migrations VALUES (2, '0002_drains', now());
-- 0003_max_running
-- How many tasks of a job may run at once, over all workers; NULL: as many as there are workers for.
ALTER TABLE jobs ADD COLUMN max_running bigint;
INSERT INTO schema_migrations VALUES (3, '0003_max_running', now());
-- 0005_machines
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
INSERT INTO schema_migrations VALUES (5, '0005_machines', now());
COMMIT;
