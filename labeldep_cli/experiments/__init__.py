"""Training, scoring and comparing runs on an open project."""
