"""What a problem of the board is, and what a family of problems is.

A family asks one kind of question, such as "which edges do the task?". A problem asks it of many
models, one per seed. A method is a plain function with the parameters of its family.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mini_transformer import toys
from mini_transformer.nearest import find_nearest
from mini_transformer.toys.trained import shipped

__all__ = [
    "Build",
    "Control",
    "Family",
    "Method",
    "Metrics",
    "NotApplicable",
    "Problem",
    "Trap",
    "list_cases",
]

Metrics = dict[str, float]
Method = Callable[..., Any]
Build = Callable[[str, int], "Problem"]  # from a problem's name and a seed


class NotApplicable(Exception):
    """Raised by a method that cannot answer a problem, such as one of another ablation.

    The row of that method stays empty, and is no failure.
    """


@dataclass(frozen=True)
class Trap:
    """A problem built so that a method says something false.

    `what` is one sentence: why a method is fooled. `verdict` is the false verdict that the trap
    provokes. `falls` reads the metrics of an answer and says whether the method fell for it.

    >>> what = "The variable is written and never read."
    >>> trap = Trap(what, "it is used", lambda metrics: metrics["causal_use"] > 0.5)
    >>> trap.falls({"causal_use": 0.0})
    False
    """

    what: str
    verdict: str
    falls: Callable[[Metrics], bool]


@dataclass(frozen=True)
class Control:
    """A second run of the same method, on labels that mean nothing.

    `add(metrics, answer)` returns the metrics together with those of the second answer.
    """

    arguments: tuple[Any, ...]
    add: Callable[[Metrics, Any], Metrics]


@dataclass(frozen=True)
class Problem:
    """What one entrant is given of one model, and the truth that judges its answer.

    `arguments` is what the method is called with, `untrained` the same from an untrained model.
    `measure` maps an answer of the right type and shape to its metrics. If there is a
    `measure_untrained`, it does so for an answer about the untrained model. `oracle()` is the right
    answer and `random(seed)` a random one, both in the method's return type. `n_prompts` is the
    batch size, the unit of "one forward pass". `options` are the values of parameters that a method
    may name, see `Family.options`. `note` says what is known, and against which right answer an
    answer is measured if there are several.

    >>> given = {"arguments": (), "untrained": (), "oracle": lambda: 1.0, "random": float}
    >>> measure = lambda answer: {"kept": answer}
    >>> problem = Problem("erasure", "a toy/a label", 0, measure=measure, n_prompts=8, **given)
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
    options: Mapping[str, Any] = field(default_factory=dict)
    untrained_options: Mapping[str, Any] | None = None  # None: as `options`


@dataclass(frozen=True)
class Family:
    """Everything that the board knows about one kind of question.

    A method takes `parameters` (name to meaning), in this order, and may name some of `options`;
    it returns what `returns` describes. `headline` is one of `metrics` (name to meaning), from 0 to
    1, where 1 is the right answer. `read(answer, *arguments)` returns the answer as
    `Problem.measure` takes it; it raises ValueError if the answer cannot be judged. `level` names
    what such an answer scores, if there are several ways: only answers of one level are ranked
    together.

    The judge is in another process than the method. Numbers, tensors and containers cross as they
    are, the dataclasses in `data` by their fields. Of any other answer the judge has `fields`,
    which cross when it is given, and `calls`, which run where the method ran.

    `problems` maps each problem, `case/variant`, to the function that builds it. `traps` does the
    same for problems with a trap, be they new or one of `problems`. `quick` are those of a first
    look. `models` says of how many models a problem is asked by default, `shipped` how many there
    are of those that are no more than some: there `seed % shipped[name]` is the model's number.
    `entrants` are the built-in methods; the first also runs on an untrained model. `references` are
    trivial methods that others must beat. `place` orders the families in a report.
    """

    name: str
    parameters: Mapping[str, str]
    returns: str
    headline: str
    metrics: Mapping[str, str]
    read: Callable[..., Any]
    problems: Mapping[str, Build]
    quick: tuple[str, ...]
    entrants: Mapping[str, Method]
    references: Mapping[str, Method] = field(default_factory=dict)
    traps: Mapping[str, Build] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    models: int = 3
    shipped: Mapping[str, int] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    data: tuple[type, ...] = ()
    level: Callable[[Any], str] = lambda answer: ""
    place: int = 100

    @property
    def signature(self) -> str:
        """Write what a method takes and returns."""
        options = ["*", *(f"{name}=None" for name in self.options)] if self.options else []
        return f"method({', '.join([*self.parameters, *options])}) -> {self.returns}"

    @property
    def names(self) -> list[str]:
        """List all problems in the order of the report."""
        return list(dict.fromkeys([*self.problems, *self.traps]))

    def list_problems(
        self, cases: str | Sequence[str] | None = None, quick: bool = False
    ) -> list[str]:
        """List all problems, those of a `quick` look, or those of `cases` (toys or problems).

        A case that this family does not have gives nothing.
        """
        if cases is None:
            return [name for name in self.names if name in self.quick or not quick]
        wanted = list_cases(cases)
        return [name for name in self.names if name in wanted or name.split("/")[0] in wanted]

    def list_numbers(self, name: str, models: int | None = None) -> list[int]:
        """List the numbers of the first `models` models of a problem, by default as many as usual.

        Of those that are shipped there may be fewer.
        """
        wanted = self.models if models is None else models
        return list(range(min(wanted, self.shipped.get(name, wanted))))

    def build(self, name: str, seed: int = 0) -> Problem:
        """Build the problem of that name. Raise KeyError, with the nearest name, if there is none.

        >>> from mini_transformer.board.families import find_family
        >>> find_family("probe").build("planted/unread").trap.verdict
        'the model uses the label'
        """
        if name not in self.names:
            nearest = find_nearest(name, self.names)
            raise KeyError(
                f"the family {self.name!r} has no problem {name!r}; nearest: {nearest!r}"
            )
        make = self.traps.get(name) or self.problems[name]
        return make(name, seed)

    def check_answer(self, answer: Any, arguments: tuple[Any, ...]) -> Any:
        """Read what a method returned, arrays as tensors.

        Raise ValueError, with one sentence, if it cannot be judged.
        """
        if answer is None:
            raise ValueError("the method returned None: did you forget `return`?")
        return self.read(answer, *arguments)


def list_cases(cases: str | Sequence[str]) -> list[str]:
    """Return the cases as a list. A string is one case, not a sequence of letters."""
    return [cases] if isinstance(cases, str) else list(cases)


def load_case(name: str, seed: int) -> toys.Case:
    """Load a toy; a trained one, of which few are shipped, by the remainder of the seed."""
    kept = shipped.list_seeds(name)
    return toys.load(name, kept[seed % len(kept)] if kept else seed % 2**31)
