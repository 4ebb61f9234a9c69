"""What runs on a new machine before runner is there."""
