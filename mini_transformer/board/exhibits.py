"""Two models with equal answers and different mechanisms: behaviour does not tell them apart, what they do inside does."""

from typing import Any

from mini_transformer import toys
from mini_transformer.methods import measure_distance_irrelevance, measure_gradient_symmetry
from mini_transformer.toys import shipped
from mini_transformer.toys.clock_pizza import draw_triples, measure_accuracy, run_all

MODELS = ("clock", "pizza")


def compare_mechanisms(seeds: int = 3) -> list[dict[str, Any]]:
    """One entry per model and shipped seed: accuracy on all pairs, and the two symptoms of Zhong et al. 2023 (2306.17844).

    >>> [entry["accuracy"] for entry in compare_mechanisms(seeds=1)]
    [1.0, 1.0]
    """
    return [
        measure_mechanism(name, seed)
        for name in MODELS
        for seed in shipped.list_seeds(name)[:seeds]
    ]


def measure_mechanism(name: str, seed: int) -> dict[str, Any]:
    """The numbers of one model, to four digits."""
    model = toys.load(name, seed).model
    figures = {
        "accuracy": measure_accuracy(model),
        "gradient_symmetry": measure_gradient_symmetry(model, *draw_triples()),
        "distance_irrelevance": measure_distance_irrelevance(run_all(model)),
        "accuracy_uniform": measure_accuracy(model, uniform=True),
    }
    return {
        "model": name,
        "seed": seed,
        **{figure: round(value, 4) for figure, value in figures.items()},
    }
