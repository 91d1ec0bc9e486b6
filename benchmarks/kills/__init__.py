"""Commands that are killed at seeded moments: what the same command, run again, makes of what they left."""
