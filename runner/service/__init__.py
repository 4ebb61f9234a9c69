"""Who builds an engine and lives around it: the foreground run and the daemon."""
