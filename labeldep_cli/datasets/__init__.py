"""Data sets: label spaces, splits, and one file for each source."""
