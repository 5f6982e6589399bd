"""The tour: train a transformer to copy, find its circuit, and check the finding.

The finding is checked against a model whose circuit is known. `minilab tour` runs it. Everything it
does is one of the lab's public functions, in the order in which one would use them: `circuit` finds
and tests, `figure` draws, `run` tells the story.
"""

from mini_transformer.tour.run import Tour, run_tour

__all__ = ["Tour", "run_tour"]
