"""Questions about a file that only its owner can answer, each with the command lines that answer it."""
