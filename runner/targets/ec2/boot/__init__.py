"""What runs on a new machine until its queue is submitted."""
