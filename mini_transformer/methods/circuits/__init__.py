"""Find circuits of edges, and test whether a circuit explains the model."""
