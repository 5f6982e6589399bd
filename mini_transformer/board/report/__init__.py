"""Turn rows into scores, and show them in a terminal and on a page."""
