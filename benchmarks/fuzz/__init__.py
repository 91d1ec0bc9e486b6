"""Mutants of the files that labeldep reads: what becomes of a command that is given one."""
