"""Where a queue can run, besides here. Each target has its folder; they don't know each other."""
