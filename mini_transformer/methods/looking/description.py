"""Automated description: the short formula of given predicates that predicts a unit best.

Predicates say yes or no at each position of a prompt; a formula joins them by and, or, not. Half of
the prompts choose the formula: the highest share of variance that its two groups explain (squared
correlation), minus a penalty per predicate in it. The other half score it, as a prediction: the
mean activation of the group that a place belongs to. A long search finds something in noise, too:
the same search on shuffled activations gives the scores to beat. Only what the vocabulary can say
is ever found, a good score does not make the formula what the unit computes, and several formulas
may say the same on these prompts.
Sources: Mu & Andreas 2020 (2006.14032), section 2; Bills et al. 2023 on scoring a description by
what it predicts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mini_transformer.methods.arguments import Position, Tokens, find_positions
from mini_transformer.methods.looking.formula_search import Formula, find_formula
from mini_transformer.methods.numerics import widen

__all__ = ["Description", "describe_unit"]

Predicate = Callable[[Tensor], Tensor]  # tokens (b, t) to bool (b, t)


@dataclass(frozen=True)
class Fit:
    """How well a yes-or-no prediction tells activations, in three ways.

    `auroc` is how often a place with a yes is more active than one with a no; where the formula
    rarely holds, it rests on few places (.97 by chance in one run on noise): believe it only far
    above the controls. Explained variance is below 0 for a prediction that is worse than the mean.
    """

    correlation: float
    auroc: float
    explained_variance: float


@dataclass(frozen=True)
class Description:
    """A formula, the mean activation without and with it, and its scores on held-out prompts.

    `controls` are the scores of the same search on shuffled activations, one per shuffle.
    """

    formula: Formula
    levels: tuple[float, float]
    fit: Fit
    controls: tuple[Fit, ...]

    def predict(
        self, tokens: Tokens, predicates: Mapping[str, Predicate]
    ) -> Float[Tensor, "batch pos"]:
        """Predict the activation at every place of some prompts."""
        truth = {name: predicates[name](tokens) for name in self.formula.names}
        return torch.where(self.formula.holds(truth), self.levels[1], self.levels[0])


def describe_unit(
    tokens: Tokens,
    activations: Float[Tensor, "batch pos"],
    predicates: Mapping[str, Predicate],
    position: Position = -1,
    max_size: int = 3,
    penalty: float | int = 0.01,
    beam: int = 64,
    shuffles: int = 5,
    seed: int = 0,
) -> Description:
    """Find the best formula of at most `max_size` predicates for a unit's activations.

    They are those at `position`, None for all. Equal prompts are never in both halves. The search
    keeps the `beam` best formulas of each size, and is exact if there are no more. ValueError for
    fewer than four different prompts, a unit that is always equally active or not finite, or
    predicates of another shape.

    >>> from mini_transformer import toys
    >>> from mini_transformer.methods import read_units
    >>> case, draw = toys.load("boolean_and"), torch.Generator().manual_seed(0)
    >>> bits = torch.randint(2, (200, 5), generator=draw)
    >>> tokens = torch.nn.functional.pad(bits, (0, 1), value=3)
    >>> says = {
    ...     f"token {i} is 1": lambda t, i=i: (t[:, [i]] == 1).expand(t.shape) for i in range(5)
    ... }
    >>> neuron = read_units(case.model, tokens, ("post", 0))[..., 0].detach()
    >>> found = describe_unit(tokens, neuron, says)
    >>> print(found.formula, round(found.fit.explained_variance, 3))
    token 0 is 1 and token 1 is 1 1.0
    """
    if max_size < 1 or beam < 1 or shuffles < 0 or not penalty >= 0:
        given = f"max_size {max_size}, beam {beam}, shuffles {shuffles}, penalty {penalty}"
        fits = "the first two must be at least 1, and the others not negative"
        raise ValueError(f"{given} were given, but {fits}")
    truth, values, chosen = read_places(tokens, activations, predicates, position, seed)
    seen = {name: holds[chosen] for name, holds in truth.items()}
    generator = torch.Generator().manual_seed(seed)
    scores = list[Fit]()
    for shuffle in range(shuffles + 1):
        target = values
        if shuffle:
            order = torch.randperm(len(values), generator=generator, device="cpu")
            target = values[order.to(values.device)]
        formula = find_formula(seen, target[chosen], max_size, penalty, beam)
        levels = find_levels(formula.holds(seen), target[chosen])
        scores.append(measure_fit(formula.holds(truth)[~chosen], levels, target[~chosen]))
        if not shuffle:
            best = formula, levels
    return Description(*best, scores[0], tuple(scores[1:]))


def read_places(
    tokens: Tokens,
    activations: Float[Tensor, "batch pos"],
    predicates: Mapping[str, Predicate],
    position: Position,
    seed: int,
) -> tuple[dict[str, Bool[Tensor, "place"]], Float[Tensor, "place"], Bool[Tensor, "place"]]:
    """Read, at each place, which predicates hold and how active the unit is.

    Places are all prompts and the positions asked for. The last mask says which of them choose the
    formula.
    """
    shape = tuple(tokens.shape)
    if activations.shape != shape or not activations.is_floating_point() or not tokens.numel():
        given = f"{activations.dtype} {tuple(activations.shape)}"
        fits = "there must be one for each"
        raise ValueError(f"activations are {given} for tokens {shape}, but {fits}")
    if not predicates:
        raise ValueError("no predicates were given, but a description needs at least one")
    at = find_positions(position, tokens.shape)
    truth = {}
    for name, predicate in predicates.items():
        holds = predicate(tokens)
        check_predicate(name, holds, shape)
        truth[name] = holds[at].flatten().to(activations.device)
    different, which = tokens.unique(dim=0, return_inverse=True)
    n = len(different)
    if n < 4:
        needs = "at least 4 are needed: half are held out"
        raise ValueError(f"there are {n} different prompts, but {needs}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    in_first_half = (order < n // 2)[which.cpu()][:, None].expand(shape)
    chosen = in_first_half[at].flatten().to(activations.device)
    values = widen(activations.detach()[at].flatten())
    if not values.isfinite().all():
        places = int((~values.isfinite()).sum())
        given = f"the unit's activation is not finite at {places} places"
        raise ValueError(f"{given}: leave them out")
    for half in (values[chosen], values[~chosen]):
        if not half.max() > half.min():
            given = f"the unit's activation is {half[0]:.4g} in all of one half"
            raise ValueError(f"{given}, but must vary: give more prompts")
    return truth, values, chosen


def check_predicate(name: str, holds: object, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless a predicate gave one bool per prompt and position."""
    given = type(holds).__name__
    if isinstance(holds, Tensor):
        if holds.dtype == torch.bool and holds.shape == shape:
            return
        given = f"{holds.dtype} {tuple(holds.shape)}"
    raise ValueError(f"predicate {name!r} gave {given}, but must give torch.bool {shape}")


def find_levels(
    holds: Bool[Tensor, "place"], values: Float[Tensor, "place"]
) -> tuple[float, float]:
    """Find the mean of the values where a formula does not hold, and where it does.

    An empty group has the mean of all.
    """
    groups = (values[~holds], values[holds])
    no, yes = ((group if len(group) else values).mean().item() for group in groups)
    return no, yes


def measure_fit(
    holds: Bool[Tensor, "place"], levels: tuple[float, float], values: Float[Tensor, "place"]
) -> Fit:
    """Score a prediction.

    A formula or unit that never varies tells nothing: correlation 0, AUROC .5.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    holds, values = holds.cpu(), values.double().cpu()
    no, yes = torch.tensor(levels, dtype=torch.float64, device="cpu")
    explained = r2_score(values.numpy(), torch.where(holds, yes, no).numpy())
    if holds.all() or not holds.any() or values.max() == values.min():
        return Fit(0.0, 0.5, float(explained))
    correlation = torch.corrcoef(torch.stack([holds.double(), values]))[0, 1].item()
    return Fit(correlation, float(roc_auc_score(holds.numpy(), values.numpy())), float(explained))
