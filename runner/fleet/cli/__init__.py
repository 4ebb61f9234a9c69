"""The commands ``runner-fleet`` and ``bec``: one program."""
