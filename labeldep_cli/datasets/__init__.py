"""Data sets: label spaces, splits, and a module for each source."""
