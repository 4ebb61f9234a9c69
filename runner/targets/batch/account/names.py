"""The names of what `runner setup --batch` makes, by which drivers and `doctor` find it."""

from __future__ import annotations

JOB_ROLE = "runner-batch-job"
EXECUTION_ROLE = "runner-batch-execution"
COORDINATOR_ROLE = "runner-batch-coordinator"
INSTANCE_ROLE = "runner-batch-instance"
"""Its instance profile has the same name."""

POLICY = "runner-batch"
"""The managed policy for people."""

LOG_GROUP = "/aws/batch/job"
"""Where Batch writes what containers print (Batch User Guide, "Using the awslogs log driver")."""

DEFINITIONS = "runner-*"
"""The job definitions that runner registers by itself; others are allowed by name."""

JOB_QUEUE = "runner"
"""The job queue that is made where none is named."""
