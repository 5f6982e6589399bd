"""Say what is to be run, on which models, and what the row of it holds."""

import hmac
from dataclasses import dataclass
from typing import Any

__all__ = ["SPLITS", "Draw", "Job", "draw_seed", "make_row"]

SPLITS = ("held-out", "tuning")


@dataclass(frozen=True)
class Job:
    """An entrant on a problem and a model: plain data, so that it can be sent and hashed.

    `untrained` runs the entrant on an untrained model.
    """

    family: str
    problem: str
    entrant: str
    number: int
    untrained: bool = False

    @property
    def row_name(self) -> str:
        """Name the entrant as the report does.

        >>> Job("probe", "facts/x", "linear", 0, untrained=True).row_name
        'linear (untrained)'
        """
        return f"{self.entrant} (untrained)" if self.untrained else self.entrant


@dataclass(frozen=True)
class Draw:
    """Which models the numbers stand for.

    Those of the split "tuning" are the same for everybody: on them built-in methods were tuned, and
    others may be. Those that are "held-out" follow from `seed` in a way that the methods, which run
    in another process, cannot repeat. A judge that is given None draws a seed itself.
    """

    split: str = "held-out"
    seed: int | None = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"the split is {self.split!r}, but must be {' or '.join(SPLITS)}")


def draw_seed(draw: Draw, number: int, shipped: int | None = None) -> int:
    """Return the seed of a model, of 48 bits, the same for all problems.

    If no more than `shipped` models exist, the seed's remainder is the number.

    >>> draw_seed(Draw("tuning"), 7), draw_seed(Draw(seed=1), 7), draw_seed(Draw(seed=1), 2, 5) % 5
    (7, 27259695040131, 2)
    """
    if draw.split == "tuning":
        return number
    digest = hmac.digest(str(draw.seed).encode(), str(number).encode(), "sha256")
    seed = int.from_bytes(digest[:6], "big")
    return seed - seed % shipped + number % shipped if shipped else seed


def make_row(job: Job) -> dict[str, Any]:
    """Make the row of a job that has not been run."""
    return {
        "family": job.family,
        "problem": job.problem,
        "entrant": job.row_name,
        "number": job.number,
        "ok": False,
        "error": None,
        "metrics": {},
        "level": "",
        "fell": None,
        "forward": 0.0,
        "backward": 0.0,
        "seconds": 0.0,
    }
