"""The shapes in which superposition packs features: pentagon, digons, tetrahedron.

A fourth case has forty features in ten dimensions. Sparse features end up in regular shapes (Elhage
et al. 2022, 2209.10652, "The Geometry of Superposition"). A case is the best of several trained
autoencoders that differ in their initial weights, written as a Transformer: one head adds up the
features that the prompt lists, and the logits are W^T W x + b, the reconstruction before its ReLU.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.ablated_accuracy import measure_accuracy
from mini_transformer.toys.hand_set import planted_features
from mini_transformer.toys.hand_set.planted_features import FIRST, LEVELS, PLAIN, SITE, SLOTS
from mini_transformer.toys.trained.autoencoders import (
    Autoencoders,
    draw_features,
    make_objective,
    measure_dimensionality,
    measure_errors,
)
from mini_transformer.toys.trained.shipped import load_shipped
from mini_transformer.toys.truth import Case, Features, Signature, Truth
from mini_transformer.train import Recipe, Trained
from mini_transformer.train import train as run_training

RECIPE = Recipe(steps=2000, lr=1e-2, batch=256, weight_decay=0.0, cool_down=1000)


@dataclass(frozen=True)
class Setting:
    """How many features, how rare, how important; and the shape that they take.

    The shape is D_i, and the angles in it (degrees).
    """

    name: str
    n_features: int
    n_hidden: int
    density: float  # how often a feature is on
    fraction: float  # of a dimension, that every stored feature has for itself
    stored: int
    angles: tuple[float, ...] = ()  # to the nearest and to the farthest other feature
    decay: float = 1.0  # feature i has importance decay ** i
    lowest: float = 0.0  # a feature that is on is uniform on [lowest, 1]
    starts: int = 16  # initial weights, of which the best is kept: many end in a local minimum


PENTAGON = Setting(
    "superposition_pentagon",
    5,
    2,
    0.05,
    fraction=2 / 5,
    stored=5,
    angles=(72.0, 144.0),
)
DIGONS = Setting(
    "superposition_digons",
    5,
    2,
    0.2,
    fraction=1 / 2,
    stored=4,
    angles=(90.0, 180.0),
    decay=0.9,
)
CORNER = math.degrees(math.acos(-1 / 3))
TETRAHEDRON = Setting(
    "superposition_tetrahedron",
    4,
    3,
    0.1,
    fraction=3 / 4,
    stored=4,
    angles=(CORNER, CORNER),
    lowest=0.75,
    starts=32,
)
FORTY = Setting("superposition_40_in_10", 40, 10, 0.05, fraction=1 / 4, stored=40)


def train(setting: Setting, seed: int = 0, recipe: Recipe = RECIPE, **options: Any) -> Trained:
    """Train from many initial weights at once and keep the best.

    The best has the least error on 20,000 fresh inputs.
    """
    density = torch.full((setting.starts,), setting.density)
    importance = (setting.decay ** torch.arange(setting.n_features)).expand(setting.starts, -1)
    objective = make_objective(density, importance, recipe.batch, setting.lowest)
    start = Autoencoders(setting.starts, setting.n_features, setting.n_hidden, seed)
    trained = run_training(start, objective, dataclasses.replace(recipe, seed=seed), **options)
    generator = torch.Generator().manual_seed(seed)
    x = draw_features(density[:1], 20_000, setting.n_features, generator, setting.lowest)
    best = Autoencoders(1, setting.n_features, setting.n_hidden)
    model = trained.model
    with torch.no_grad():
        errors = measure_errors(trained.model, x.expand(setting.starts, -1, -1), importance)
        i = int(errors.argmin())
        for kept, all_of_them in zip(best.parameters(), model.parameters(), strict=True):
            kept.copy_(all_of_them[i : i + 1])
    return dataclasses.replace(trained, model=best.eval())


def build_model(weights: Autoencoders) -> Transformer:
    """Write the same map on prompts that list the active features.

    See `planted_features`: the logits at the `?` are W^T W x + b.
    """
    W, b = weights.W[0].detach(), weights.b[0].detach()
    d, n = W.shape
    config = Config(
        d_vocab=FIRST + n * len(LEVELS),
        n_ctx=SLOTS + 1,
        d_model=d,
        n_layers=1,
        d_head=d,
        positions="none",
        biases=True,
        d_vocab_out=n,
    )
    model = by_hand.make_blank(config)
    # Feature 0 at each level, feature 1 at ...
    written = (W.T[:, None] * LEVELS[:, None]).flatten(0, 1)
    by_hand.write_embedding(model, torch.cat([torch.zeros(FIRST, d), written]))
    # a sum: attention is a mean
    by_hand.copy_directions(model, 0, 0, torch.eye(d), torch.eye(d) * (SLOTS + 1))
    by_hand.read_out(model, W.T, strength=1.0)
    with torch.no_grad():
        model.b_U.copy_(b)  # type: ignore[union-attr]
    return model


def find_stored(model: Transformer) -> Float[Tensor, "d_model stored"]:
    """Find the columns of W that are longer than one half.

    Features that the model gave up have nearly no length.
    """
    W = model.W_U.detach()
    return W[:, W.norm(dim=0) > 0.5]


def measure_deviation(case: Case, setting: Setting) -> float:
    """Measure how far any stored feature's D_i is from the setting's fraction, at most."""
    return (measure_dimensionality(find_stored(case.model)) - setting.fraction).abs().max().item()


def measure_angle_error(case: Case, setting: Setting) -> float:
    """Measure the largest error of stored features' angles, in degrees.

    The angles are those to each feature's nearest and to its farthest other.
    """
    unit = torch.nn.functional.normalize(find_stored(case.model), dim=0)
    angle = torch.rad2deg((unit.T @ unit).clamp(-1, 1).acos())
    others = angle[~torch.eye(len(angle)).bool()].reshape(len(angle), -1)
    ends = torch.stack([others.amin(dim=1), others.amax(dim=1)], dim=1)
    return (ends - torch.tensor(setting.angles)).abs().max().item()


def make_signatures(setting: Setting) -> dict[str, Signature]:
    """List what is stored, in what shape; and that the task's prompts say the same."""
    fraction = setting.fraction
    stored = setting.stored
    signatures = {
        "stored features": Signature(
            f"of {setting.n_features}",
            lambda case: float(find_stored(case.model).shape[1]),
            low=float(stored),
            high=float(stored),
        ),
        "deviation of D": Signature(
            f"from {fraction:.4g}, largest",
            lambda case: measure_deviation(case, setting),
            low=0.0,
            high=0.03,
        ),
        "sum of D": Signature(
            f"cannot exceed the {setting.n_hidden} dimensions",
            lambda case: measure_dimensionality(case.model.W_U.detach()).sum().item(),
            low=fraction * stored - 0.03 * setting.n_hidden,
            high=setting.n_hidden + 1e-3,
        ),
        "accuracy": Signature(
            "names the only feature in the prompt; a feature given up is the answer where "
            "nothing is stored",
            measure_accuracy,
            low=1.0,
        ),
    }
    if setting.angles:
        what = "to the nearest and farthest other feature, largest error in degrees"
        signatures["angles"] = Signature(
            what,
            lambda case: measure_angle_error(case, setting),
            low=0.0,
            high=3.0,
        )
    return signatures


def make_case(setting: Setting, weights: Autoencoders, seed: int = 0) -> Case:
    """Make a case of a trained model as a Transformer.

    It has the task and the truth that it should meet.
    """
    n = setting.n_features
    length = weights.W[0].detach().norm(dim=0)
    kept = length > 0.5
    features = Features(
        (weights.W[0].detach() / length).T[kept],
        lambda tokens: (planted_features.read_codes(tokens, n) * length)[:, kept],
        how="construction",
        note=(
            f"stored: {kept.nonzero().flatten().tolist()}; "
            "each is active by what the prompt says times its length"
        ),
        site=SITE,
        position=SLOTS,
        draw=lambda n_prompts, seed: planted_features.draw_prompts(PLAIN, n_prompts, seed, n),
    )
    truth = Truth(make_signatures(setting), features=features, roles={"sum": "a0.h0"})
    picture = (
        "  features in the prompt --> a0.h0 "
        f"--(W x: {n} in {setting.n_hidden} dimensions)--> logits W^T W x + b"
    )
    return Case(
        setting.name,
        build_model(weights),
        planted_features.make_task(PLAIN, n),
        truth,
        seed,
        picture,
    )


def load(setting: Setting, seed: int = 0) -> Case:
    """Load the shipped model of this setting and seed.

    Raise KeyError for a seed that is not shipped.
    """
    weights = load_shipped(setting.name, seed, lambda config: Autoencoders(**config))
    return make_case(setting, weights, seed)


def load_pentagon(seed: int = 0) -> Case:
    """Five sparse features learned in two dimensions: a pentagon."""
    return load(PENTAGON, seed)


def load_digons(seed: int = 0) -> Case:
    """Five features, four learned as two pairs of opposites, the last given up.

    They are less sparse and not equally important.
    """
    return load(DIGONS, seed)


def load_tetrahedron(seed: int = 0) -> Case:
    """Four features learned in three dimensions: a tetrahedron.

    Those that are on are never weak. With values from 0 to 1, as in the other cases, two features
    share a dimension and two have one each: that loses less.
    """
    return load(TETRAHEDRON, seed)


def load_forty(seed: int = 0) -> Case:
    """Forty sparse features learned in ten dimensions: each has a quarter of a dimension."""
    return load(FORTY, seed)
