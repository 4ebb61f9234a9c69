"""The verbs of `runner schedule`: what they ask, show and do."""
