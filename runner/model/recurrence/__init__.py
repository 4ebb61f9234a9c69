"""When something recurs: cron and rate expressions, and the times they mean."""
