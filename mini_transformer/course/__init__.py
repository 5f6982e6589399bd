"""The course: exercises and hints, a learner's workspace and progress, and the grading of answers."""
