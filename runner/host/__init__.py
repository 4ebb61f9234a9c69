"""The machine that runner lives on, as its service manager and its cloud show it."""
