"""Judge one file: read it, run it, check what its functions return, grade it."""
