"""What an AWS account needs so that queues run on Batch: making it, and looking at it."""
