"""A run made ready to label images."""
