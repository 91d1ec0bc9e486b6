"""One module a command: each composes the rooms below, prints nothing, and returns what the command line shows."""
