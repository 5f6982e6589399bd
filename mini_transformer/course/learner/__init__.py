"""What a learner does in a workspace: the next exercise, hints, grades, a map."""
