"""Claim cards: a claim about a model that says what would refute it.

A card checks itself by running its intervention again.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

WIDTH = 100  # of a printed card


@dataclass(frozen=True)
class Measurement:
    """A number that a claim stands on.

    It has a name, a function that measures it, and the bounds it must lie in.
    """

    what: str
    measure: Callable[[], float]
    low: float = float("-inf")
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}: no number lies between, swap them"
            )
        if self.low == float("-inf") and self.high == float("inf"):
            raise ValueError(
                f"{self.what!r} has no bound, so nothing could refute it: give low, high or both"
            )

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def bounds(self) -> str:
        """The bounds in words.

        >>> Measurement("share", lambda: 0.5, low=0.4, high=0.6).bounds
        'at least 0.4 and at most 0.6'
        """
        bounds = [f"at least {self.low:.3g}"] if self.low > float("-inf") else []
        bounds += [f"at most {self.high:.3g}"] if self.high < float("inf") else []
        return " and ".join(bounds)

    def __str__(self) -> str:
        return f"{self.what}: {self.bounds}"


@dataclass(frozen=True)
class ClaimCard:
    """A narrow claim about a model.

    `effect` is what the intervention does, `control` what it must not do elsewhere.

    >>> card = ClaimCard(
    ...     claim="a coin shows heads half the time", model="a coin", task="tossing",
    ...     data="100 tosses", components="the coin", intervention="toss it",
    ...     refuted_by="a share far from one half",
    ...     effect=Measurement("share of heads", lambda: 0.52, low=0.4, high=0.6),
    ...     control=Measurement("share on the edge", lambda: 0.0, high=0.01),
    ... )
    >>> bool(card.check())
    True
    """

    claim: str
    model: str
    task: str
    data: str
    components: str
    intervention: str
    effect: Measurement
    control: Measurement
    refuted_by: str

    def check(self) -> "Verdict":
        """Run the intervention and its control again.

        Use it as `if card.check(): ...` or `print(card.check())`.
        """
        return Verdict(self, float(self.effect.measure()), float(self.control.measure()))

    def lines(self) -> dict[str, str]:
        """Return what the card says, by field, in the order in which it is printed."""
        fields = ("model", "task", "data", "components", "intervention", "effect", "control")
        return {name: str(getattr(self, name)) for name in fields} | {"refuted by": self.refuted_by}

    def __repr__(self) -> str:
        return draw_card(self.claim, self.lines())


@dataclass(frozen=True)
class Verdict:
    """What a claim card measured when it was checked.

    True if both numbers lie within their bounds.
    """

    card: ClaimCard
    effect: float
    control: float

    @property
    def holds(self) -> bool:
        return self.card.effect.holds(self.effect) and self.card.control.holds(self.control)

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        lines = self.card.lines()
        for name, value in (("effect", self.effect), ("control", self.control)):
            failed = "" if getattr(self.card, name).holds(value) else "  <- refutes the claim"
            lines[name] += f"; measured {value:.3g}{failed}"
        return draw_card(self.card.claim, lines | {"verdict": "holds" if self.holds else "REFUTED"})


def draw_card(title: str, lines: dict[str, str]) -> str:
    """Draw a box with a title and one labelled, wrapped paragraph per line."""
    label = max(len(name) for name in lines) + 2
    body = textwrap.wrap(title, WIDTH - 4)
    for name, text in lines.items():
        wrapped = textwrap.wrap(text, WIDTH - 4 - label) or [""]
        body += [f"{name if i == 0 else '':{label}}{part}" for i, part in enumerate(wrapped)]
    rule = "+" + "-" * (WIDTH - 2) + "+"
    return "\n".join([rule, *(f"| {line:{WIDTH - 4}} |" for line in body), rule])
