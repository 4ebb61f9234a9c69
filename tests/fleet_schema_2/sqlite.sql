-- The embedded fleet. Times are seconds since the epoch, in UTC.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    config TEXT NOT NULL,
    queue_url TEXT,
    dlq_url TEXT,
    options TEXT NOT NULL DEFAULT '{}',
    paused TEXT,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
);
CREATE TABLE volumes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    w_id TEXT NOT NULL,
    i_id TEXT NOT NULL,
    s3_etag TEXT,
    UNIQUE (w_id, i_id)
);
CREATE TABLE workers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker_name TEXT NOT NULL,
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at REAL NOT NULL,
    last_heartbeat_at REAL NOT NULL,
    stopped_at REAL
);
CREATE TABLE task_executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_key TEXT NOT NULL,
    volume_id INTEGER REFERENCES volumes (id),
    params TEXT NOT NULL,
    s3_etag TEXT,
    state TEXT NOT NULL CHECK (state IN
        ('pending', 'running', 'done', 'retryable_failed', 'terminal_failed', 'cancelled')),
    status TEXT GENERATED ALWAYS AS
        (CASE WHEN state NOT IN ('pending', 'cancelled') THEN state END) VIRTUAL,
    epoch INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    run INTEGER NOT NULL DEFAULT 0,
    resume_run INTEGER,
    worker_id INTEGER REFERENCES workers (id),
    claim_key TEXT,
    lease_until REAL,
    not_before REAL NOT NULL,
    enqueued_at REAL NOT NULL,
    sent_at REAL,
    started_at REAL,
    done_at REAL,
    total_images INTEGER,
    nb_errors INTEGER,
    total_duration_ms REAL,
    avg_duration_per_page_ms REAL,
    metrics TEXT,
    error TEXT,
    dead_epoch INTEGER,
    dead_sent_at REAL,
    UNIQUE (job_id, task_key)
);
CREATE INDEX task_executions_due ON task_executions (job_id, not_before, id)
    WHERE state IN ('pending', 'retryable_failed');
CREATE INDEX task_executions_running ON task_executions (job_id) WHERE state = 'running';
CREATE INDEX task_executions_unsent ON task_executions (job_id, id)
    WHERE state IN ('pending', 'retryable_failed') AND sent_at IS NULL;
CREATE INDEX task_executions_dead_unsent ON task_executions (job_id, id)
    WHERE state = 'terminal_failed' AND dead_sent_at IS NULL;
CREATE INDEX task_executions_ended ON task_executions (job_id, done_at);
-- Workers that are to take no task any more, by name: of one worker, or of all of a machine's, also
-- of one that has yet to begin.
CREATE TABLE drains (
    job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    asked_at REAL NOT NULL,
    PRIMARY KEY (job_id, name)
);
