"""The result store in S3: its calls, multipart uploads, and versions of objects."""
