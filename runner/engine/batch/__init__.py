"""Attempts as jobs of AWS Batch: the backend, how it finds its jobs again, and their files."""
