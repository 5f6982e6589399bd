"""What a lecturer does with a folder of submissions: a sandbox, judges, a gradebook."""
