-- `jobs stats` counts all tasks. Out of the table that takes 2.6 s of 1,000,000, out of an index that
-- holds all it sums 0.16 s.
CREATE INDEX task_executions_totals ON task_executions
    (job_id, state, total_images, nb_errors, total_duration_ms);
