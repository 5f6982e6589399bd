"""The course: exercises, their graders, a learner's loop and a lecturer's gradebook."""
