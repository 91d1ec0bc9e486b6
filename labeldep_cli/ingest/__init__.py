"""Foreign forms of label files, read into the one canonical table."""
