"""Descriptions against all formulas in slow loops, library scores, units whose meaning is known,
and noise.

Checked against: all formulas in slow loops, scikit-learn's and SciPy's scores, hand-set neurons,
planted features, and noise.
"""

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, pearsonr

from mini_transformer import toys
from mini_transformer.methods import describe_unit, read_units
from mini_transformer.toys.hand_set.boolean import EQUALS

POSITIONS = {
    f"token {i} is 1": lambda tokens, i=i: (tokens[:, [i]] == 1).expand(tokens.shape)
    for i in range(5)
}


def draw_gate_prompts(n=300, seed=0):
    """x y, three fillers that are 0 or 1 as well, and =: the fillers' predicates are there to
    mislead.
    """
    bits = torch.randint(2, (n, 5), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.pad(bits, (0, 1), value=EQUALS)


def test_scores_are_those_of_the_held_out_half_by_other_libraries():
    tokens = draw_gate_prompts()
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    activations = (tokens[:, [0]] == 1).float() + 0.5 * noise
    found = describe_unit(tokens, activations, POSITIONS, position=2, seed=4)
    assert str(found.formula) == "token 0 is 1"
    kinds, which = tokens.unique(dim=0, return_inverse=True)
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(4))
    held_out = (order >= len(kinds) // 2)[which]
    assert 100 < held_out.sum() < 200
    yes, values = tokens[held_out, 0].numpy() == 1, activations[held_out, 2].double().numpy()
    assert found.fit.correlation == pytest.approx(pearsonr(yes, values).statistic, abs=1e-6)
    assert found.fit.auroc == pytest.approx(
        mannwhitneyu(values[yes], values[~yes]).statistic / (yes.sum() * (~yes).sum()), abs=1e-9
    )
    train = ~held_out
    low, high = (activations[train & (tokens[:, 0] == bit), 2].mean().item() for bit in (0, 1))
    assert found.levels == pytest.approx((low, high), abs=1e-6)
    error = (
        np.square(values - np.where(yes, high, low)).sum() / np.square(values - values.mean()).sum()
    )
    assert found.fit.explained_variance == pytest.approx(1 - error, abs=1e-6)
    predicted = found.predict(tokens, POSITIONS)
    torch.testing.assert_close(predicted[:, 2], torch.where(tokens[:, 0] == 1, high, low))


MEANINGS = {  # gate, hook, unit
    ("and", ("post", 0), 0): "token 0 is 1 and token 1 is 1",
    (
        "or",
        ("post", 0),
        1,
    ): "token 0 is 1 and token 1 is 1",  # act(x + y - 1), which is taken off again
    ("redundant_or", ("post", 1), 1): "token 0 is 1 and token 1 is 1",
    ("and", "result", 0): "token 0 is 1 and token 1 is 1",
    ("or", "result", 0): "token 0 is 1 or token 1 is 1",
}


@pytest.mark.parametrize("where", MEANINGS, ids=lambda where: f"{where[0]}-{where[1]}-{where[2]}")
def test_the_meaning_of_a_hand_set_unit_is_found_among_misleading_predicates(where):
    gate, hook, unit = where
    tokens, case = draw_gate_prompts(), toys.load(f"boolean_{gate}")
    if hook == "result":
        activations = read_units(
            case.model, tokens, ("resid_post", 0), case.truth.variables["result"].subspace
        )
    else:
        activations = read_units(case.model, tokens, hook)
    found = describe_unit(tokens, activations[..., unit].detach(), POSITIONS, position=-1)
    meaning = MEANINGS[where]
    other_order = " ".join([*meaning.split()[5:], meaning.split()[4], *meaning.split()[:4]])
    assert str(found.formula) in (meaning, other_order)
    assert found.fit.explained_variance > 0.999
    assert max(control.explained_variance for control in found.controls) < 0.1


def test_what_xor_writes_takes_four_predicates():
    tokens = draw_gate_prompts()
    case = toys.load("boolean_xor")
    result = read_units(
        case.model, tokens, ("resid_post", 0), case.truth.variables["result"].subspace
    )[..., 0].detach()
    exact = tokens[:, 0] ^ tokens[:, 1]
    torch.testing.assert_close(result[:, -1], exact.float(), atol=1e-3, rtol=0)
    found = describe_unit(tokens, result, POSITIONS, position=-1, max_size=4)
    assert len(found.formula.names) == 4
    truth = {name: predicate(tokens)[:, -1] for name, predicate in POSITIONS.items()}
    assert torch.equal(found.formula.holds(truth), exact.bool())
    assert found.fit.explained_variance > 0.999
    assert (
        describe_unit(tokens, result, POSITIONS, position=-1, max_size=3).fit.explained_variance
        < 0.5
    )


def explain_planted(direction_or_noise, max_size, penalty=0.01):
    """Describe a direction (or, without one, noise) of planted_features in terms of which features
    a prompt lists.
    """
    case = toys.load("planted_features")
    truth = case.truth.features
    tokens = truth.draw(1200, 0)
    names = {
        f"feature {i}": lambda tokens, i=i: (
            ((tokens - 2) // 3 == i).any(dim=1, keepdim=True).expand(tokens.shape)
        )
        for i in range(64)
    }
    if direction_or_noise is None:
        units = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))
    else:
        units = read_units(case.model, tokens, truth.site, direction_or_noise[None])[
            ..., 0
        ].detach()
    return describe_unit(tokens, units, names, truth.position, max_size, penalty, shuffles=3)


@pytest.mark.parametrize("feature", [0, 31, 63])
def test_a_planted_feature_is_named(feature):
    found = explain_planted(
        toys.load("planted_features").truth.features.directions[feature], max_size=1
    )
    assert str(found.formula) == f"feature {feature}"
    assert found.fit.auroc > 0.99  # .998 to 1 measured
    assert (
        found.fit.explained_variance > 0.35
    )  # .40 to .56 measured; the rest is what overlaps with it
    assert max(control.explained_variance for control in found.controls) < 0.05


def test_noise_is_described_no_better_than_shuffled_activations():
    found = explain_planted(None, max_size=2, penalty=0.0)
    assert len(found.controls) == 3
    assert (
        found.fit.explained_variance
        < max(control.explained_variance for control in found.controls) + 0.02
    )
    assert abs(found.fit.correlation) < 0.15


def test_a_random_direction_is_described_worse_than_any_feature():
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        direction = torch.nn.functional.normalize(torch.randn(32, generator=generator), dim=0)
        found = explain_planted(direction, max_size=2)
        assert (
            found.fit.explained_variance < 0.3
        )  # .10 to .17 measured: it is a sum of many features


def test_equal_prompts_are_never_in_both_halves():
    """Each prompt has its own random activation, ten times over: with copies in both halves this
    could be predicted.
    """
    tokens = torch.arange(40)[:, None].repeat(10, 1)
    activations = torch.randn(40, 1, generator=torch.Generator().manual_seed(0)).repeat(10, 1)
    names = {f"token is {i}": lambda tokens, i=i: tokens == i for i in range(40)}
    found = describe_unit(
        tokens, activations, names, max_size=3, penalty=0.0, shuffles=0, position=None
    )
    assert found.fit.correlation == 0.0
    assert found.fit.auroc == 0.5
    assert found.fit.explained_variance <= 0.0
