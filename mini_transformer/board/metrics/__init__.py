"""Compare an answer with the truth: pure functions of tensors, one file per family."""
