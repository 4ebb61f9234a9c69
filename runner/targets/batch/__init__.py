"""AWS Batch as a target: a small coordinator job drives the queue, its state is in S3."""
