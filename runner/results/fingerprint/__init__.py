"""What a job has read and made, by content: walked, hashed, remembered and compared."""
