"""Does what can be measured without a truth follow the truth? An audit over dictionaries.

Explained variance, loss, sparsity and probing are what dictionaries are compared by where nobody
knows the features (Chanin et al. 2026, 2602.14687, find them far from the truth). Here both are
known: per problem and model, the rank correlation over dictionaries between a proxy and the share
of the features that latents classify; then its mean, and an interval over models.
"""

from collections import defaultdict
from collections.abc import Set

from scipy.stats import spearmanr

from mini_transformer.board.families import find_family
from mini_transformer.board.report.summary import Section, Summary
from mini_transformer.intervals import Interval, find_interval

__all__ = ["PROXIES", "correlate_proxy", "make_section", "show"]

PROXIES = {
    "explained_variance": "explained variance",
    "loss": "low loss",
    "l0": "few codes",
    "uniqueness": "uniqueness of latents",
    "probing": "probing with one latent",
}
LOW = ("loss", "l0", "cmd")  # better if low
FEWEST = 4  # entrants that a rank correlation is computed of
TEXT = (
    "Where nobody knows the features, dictionaries are compared by figures that need no truth. "
    "Shown is the rank correlation (Spearman) over dictionaries of each such figure with the "
    "classification of the true features, per problem and model; mean and 95% interval over "
    "models. A proxy near 1 could stand for the truth, one near 0 says nothing, one below 0 picks "
    "the worse dictionary. Probing needs labels of the features: it knows part of the truth."
)


def correlate_proxy(
    summary: Summary,
    proxy: str,
    entrants: Set[str],
    problems: str = "",
    of: str = "features",
) -> Interval | None:
    """Return the mean rank correlation of a proxy with the headline over these entrants.

    Only problems of the family `of` count whose name begins with `problems`.
    """
    family = find_family(of)
    pairs = defaultdict(list)
    for score in summary.scores:
        asked = score.family == of and score.problem.startswith(problems)
        if asked and score.entrant in entrants and proxy in score.values:
            columns = score.numbers, score.values[family.headline], score.values[proxy]
            for number, truth, value in zip(*columns, strict=True):
                if value is not None:
                    pairs[number, score.problem].append((truth, value))
    sign = -1 if proxy in LOW else 1
    by_model = defaultdict(list)
    for (number, _), both in pairs.items():
        if len(both) >= FEWEST and all(len(set(column)) > 1 for column in zip(*both, strict=True)):
            by_model[number].append(sign * float(spearmanr(*zip(*both, strict=True))[0]))
    means = [sum(ranks) / len(ranks) for ranks in by_model.values()]
    return find_interval(means) if means else None


def make_section(summary: Summary) -> Section | None:
    """Make the part of the page on proxies; None if too few dictionaries were compared."""
    family = find_family("features")
    groups = family.entrants.keys(), family.entrants.keys() | family.references.keys()
    rows = [
        [words, *(show(correlate_proxy(summary, proxy, group)) for group in groups)]
        for proxy, words in PROXIES.items()
    ]
    head = ["proxy", "trained dictionaries", "and trivial ones"]
    known = any(row[1] for row in rows)
    return Section("Do proxies follow the truth?", TEXT, None, head, rows) if known else None


def show(interval: Interval | None) -> str:
    """Write a mean with its interval."""
    if interval is None or interval.low is None or interval.high is None:
        return "" if interval is None else f"{interval.mean:.2f}"
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"
