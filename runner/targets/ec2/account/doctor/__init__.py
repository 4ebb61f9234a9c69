"""What `runner doctor` looks at: one small file for each thing that can be wrong.

Nothing is changed but for one small object, which is written and removed.
"""
