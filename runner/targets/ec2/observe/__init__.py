"""What is known of a machine and its queues: from EC2, SSM and the bucket."""
