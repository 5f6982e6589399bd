"""One problem of the board: what a method is called with, how its answer is measured, the right answer and a random one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Metrics = dict[str, float]


@dataclass(frozen=True)
class Trap:
    """A problem built so that a method says something false.

    `what` is one sentence: why a method is fooled. `verdict` is the false verdict that it provokes. `falls` reads the metrics of an answer
    and says whether the method fell for it.

    >>> trap = Trap("The variable is written and never read.", "it is used", lambda metrics: metrics["causal_use"] > 0.5)
    >>> trap.falls({"causal_use": 0.0})
    False
    """

    what: str
    verdict: str
    falls: Callable[[Metrics], bool]


@dataclass(frozen=True)
class Control:
    """A second run of the same method, on labels that mean nothing; `add(metrics, answer)` gives the metrics with it."""

    arguments: tuple[Any, ...]
    add: Callable[[Metrics, Any], Metrics]


@dataclass(frozen=True)
class Problem:
    """What one entrant is given at one seed, and the truth that its answer is measured against.

    `arguments` is what the method is called with, `untrained` the same from an untrained model. `measure` maps an answer of the right
    type and shape to its metrics; `measure_untrained`, where there is one, does so for an answer about the untrained model, in that model.
    `oracle()` is the right answer and `random(seed)` a random one, both in the method's return type. `n_prompts` is the batch
    size, the unit of "one forward pass". `note` says what is known, which set of right answers there is, and against which member of it
    an answer is measured.

    >>> problem = Problem("erasure", "a case/a label", 0, (), (), lambda answer: {"kept": answer}, lambda: 1.0, float, 8)
    >>> problem.measure(problem.oracle())
    {'kept': 1.0}
    """

    family: str
    name: str
    seed: int
    arguments: tuple[Any, ...]
    untrained: tuple[Any, ...]
    measure: Callable[[Any], Metrics]
    oracle: Callable[[], Any]
    random: Callable[[int], Any]
    n_prompts: int
    note: str = ""
    trap: Trap | None = None
    measure_untrained: Callable[[Any], Metrics] | None = None  # None: as `measure`
    control: Control | None = None
