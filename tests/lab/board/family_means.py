"""The mean headline of every method and every trivial answer of a family, over a few models."""

import contextlib
import inspect
from collections import defaultdict

import torch

from mini_transformer.board.families import find_family
from mini_transformer.board.problem import NotApplicable


def measure_means(family: str, models: int, problems: tuple[str, ...] = ()) -> dict[str, float]:
    """Ask all of them about tuning models, in this process."""
    record = find_family(family)
    found = defaultdict(list)
    for name in problems or record.names:
        for number in range(models):
            problem = record.build(name, number)
            answers = {"oracle": problem.oracle(), "random": problem.random(number)}
            for entrant, method in {**record.entrants, **record.references}.items():
                known = inspect.signature(method).parameters
                options = {key: value for key, value in problem.options.items() if key in known}
                with contextlib.suppress(NotApplicable):
                    answers[entrant] = method(*problem.arguments, **options)
            for entrant, answer in answers.items():
                read = record.check_answer(answer, problem.arguments)
                metrics = problem.measure(read)
                found[entrant] += [metrics[record.headline]] if metrics else []
    return {entrant: sum(scores) / len(scores) for entrant, scores in found.items()}


def check_margins(family: str, means: dict[str, float], data_free: tuple[str, ...] = ()) -> None:
    """Demand what the board promises of trivial answers."""
    record = find_family(family)
    best = max(means[name] for name in record.entrants)
    for name in record.references:
        assert means[name] <= best - 0.15, (name, means[name], best)
    for name in data_free:
        assert means[name] <= means["random"] + 0.1, (name, means[name], means["random"])
    assert means["oracle"] == torch.tensor(1.0)
