"""Compare two models with equal answers and different mechanisms.

Behaviour does not tell them apart, what they do inside does.
"""

from mini_transformer import toys
from mini_transformer.board.report.summary import Mechanism
from mini_transformer.methods import measure_distance_irrelevance, measure_gradient_symmetry
from mini_transformer.toys.trained import shipped
from mini_transformer.toys.trained.clock_pizza import draw_triples, measure_accuracy, run_all

__all__ = ["MODELS", "compare_mechanisms", "measure_mechanism"]

MODELS = ("clock", "pizza")


def compare_mechanisms(seeds: int = 3) -> list[Mechanism]:
    """Measure each model at each shipped seed: accuracy, and two symptoms of its mechanism.

    Source: Zhong et al. 2023 (2306.17844).

    >>> [found.accuracy for found in compare_mechanisms(seeds=1)]
    [1.0, 1.0]
    """
    return [
        measure_mechanism(name, seed)
        for name in MODELS
        for seed in shipped.list_seeds(name)[:seeds]
    ]


def measure_mechanism(name: str, seed: int) -> Mechanism:
    """Measure one model, to four digits."""
    model = toys.load(name, seed).model
    return Mechanism(
        name,
        seed,
        accuracy=round(measure_accuracy(model), 4),
        gradient_symmetry=round(measure_gradient_symmetry(model, *draw_triples()), 4),
        distance_irrelevance=round(measure_distance_irrelevance(run_all(model)), 4),
        accuracy_uniform=round(measure_accuracy(model, uniform=True), 4),
    )
