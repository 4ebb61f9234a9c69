"""Attempts as jobs of AWS Batch: what is submitted, what is stored for it, what runs inside."""
