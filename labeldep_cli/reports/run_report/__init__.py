"""The sections of the page about runs."""
