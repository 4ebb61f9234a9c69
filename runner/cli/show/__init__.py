"""How things look to people: tables, live views, progress, text."""
