"""The machine that we run on, as it describes itself."""
