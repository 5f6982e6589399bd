"""Look at a run: attention, logits, lenses, units. Nothing is changed."""
