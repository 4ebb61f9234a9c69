"""The loop that joins the pure scheduler with processes, the database and the result store."""
