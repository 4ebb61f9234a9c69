"""What `runner doctor --batch` looks at: one small file for each thing that can be wrong.

Nothing is changed but for one small object in the bucket, which is written and removed.
"""
