"""Synthesised inputs against all prompts of small models, all single swaps, and units that were set
by hand or planted.

Checked against: all prompts of small models tried out, all single swaps of the prompt that is
found, and hand-set units.
"""

import itertools

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import climb_by_swaps, read_units, synthesize_input
from mini_transformer.toys.trained.modular_addition import list_pairs

SIZES = {"d_vocab": 6, "n_ctx": 4, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_mlp": 6}
CONFIGS = {"layer_norm": Config(**SIZES, norm="layer"), "gelu": Config(**SIZES, act="gelu")}
EVERY_PROMPT = torch.tensor(list(itertools.product(range(6), repeat=4)))


def neuron_of(model, unit=2, layer=1):
    return lambda prompts: read_units(model, prompts, ("pre", layer))[:, -1, unit]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_prompt_found_is_the_best_of_all_prompts(config, seed):
    model = Transformer(config, seed)
    excite = neuron_of(model)
    with torch.no_grad():
        best = excite(EVERY_PROMPT).max().item()
    found = synthesize_input(model, torch.tensor([0, 0, 0, 0]), excite, steps=50)
    assert found.value == pytest.approx(best, abs=1e-5)
    assert excite(found.tokens[None]).item() == pytest.approx(
        found.value, abs=1e-5
    )  # of these very tokens


def test_after_swaps_no_single_swap_improves_any_prompt():
    model = Transformer(CONFIGS["layer_norm"], seed=3)
    excite, start = neuron_of(model), EVERY_PROMPT[::100]
    found, values = climb_by_swaps(model, start, excite, shortlist=2)
    for prompt, value in zip(found, values.tolist(), strict=True):
        for place, token in itertools.product(range(4), range(6)):
            swapped = prompt.clone()
            swapped[place] = token
            assert excite(swapped[None]).item() <= value + 1e-5
    torch.testing.assert_close(excite(found), values)
    assert (values >= excite(start) - 1e-6).all()
    assert len(found.unique(dim=0)) > 1  # not all ways up end at the same top


def test_swaps_get_on_where_the_gradient_is_zero():
    case = toys.load("boolean_and")
    excite = lambda prompts: read_units(case.model, prompts, ("post", 0))[:, -1, 0]  # noqa: E731
    shut = torch.tensor(
        [[1, 0, 2, 2, 2, 3]]
    )  # 1 AND 0: the ReLU is shut, and lets no gradient through
    found, values = climb_by_swaps(
        case.model, shut, excite, free=[0, 1], allowed=[0, 1], shortlist=1
    )
    assert found[0, :2].tolist() == [1, 1]
    assert values.item() == pytest.approx(1.0, abs=1e-3)


def test_a_relaxed_input_can_promise_what_no_prompt_keeps():
    """The mixture excites the neuron more than any prompt does; the value that is reported is that
    of the prompt.
    """
    model = Transformer(Config(7, 6, 8, n_layers=2, n_heads=2, d_mlp=6, norm="layer"), seed=1)
    excite, every = neuron_of(model), torch.tensor(list(itertools.product(range(7), repeat=4)))
    with torch.no_grad():
        best = excite(every).max().item()
    found = synthesize_input(model, torch.tensor([0, 0, 0, 0]), excite)
    assert found.relaxed > best + 1  # 3.28 and 1.37 measured
    assert found.projected < best - 1  # .22
    assert found.value == pytest.approx(best, abs=1e-5)


def test_only_free_positions_and_allowed_tokens_change():
    model = Transformer(CONFIGS["gelu"], seed=4)
    start = torch.tensor([5, 4, 5, 4])
    found = synthesize_input(model, start, neuron_of(model), free=[3, 1], allowed=[2, 0], steps=20)
    assert found.tokens[[0, 2]].tolist() == [5, 5]
    excite = neuron_of(model)
    choices = EVERY_PROMPT[(EVERY_PROMPT[:, [0, 2]] == 5).all(dim=1)]
    choices = choices[torch.isin(choices[:, [1, 3]], torch.tensor([0, 2])).all(dim=1)]
    assert len(choices) == 4
    best = excite(choices).max().item()
    assert found.value == pytest.approx(best, abs=1e-5)


def test_the_same_seed_finds_the_same_prompt_and_a_start_is_never_made_worse():
    model = Transformer(CONFIGS["layer_norm"], seed=5)
    excite = neuron_of(model)
    start = EVERY_PROMPT[int(excite(EVERY_PROMPT).argmax())]
    first, second = (
        synthesize_input(model, start, excite, restarts=1, steps=1, seed=7) for _ in range(2)
    )
    assert torch.equal(first.tokens, second.tokens)
    assert first.relaxed == second.relaxed
    assert first.value == pytest.approx(excite(start[None]).item(), abs=1e-6)


def test_what_excites_a_planted_direction_is_its_feature_at_its_strongest():
    case = toys.load("planted_features")
    truth = case.truth.features
    for feature in (0, 17, 63):

        def excite(prompts, feature=feature):
            return read_units(case.model, prompts, truth.site, truth.directions)[
                :, truth.position, feature
            ]

        found = synthesize_input(
            case.model, torch.tensor([0, 0, 0, 0, 1]), excite, free=range(4), steps=50
        )
        assert found.tokens.tolist() == [2 + 3 * feature + 2] * 4 + [
            1
        ]  # level 1.2, in all four slots
        assert found.value == pytest.approx(4.8, abs=1e-4)


def test_a_neuron_of_modular_addition_is_excited_as_much_as_by_the_best_of_all_pairs():
    case = toys.load("modular_addition")
    with torch.no_grad():
        pre = case.model.run_with_cache(list_pairs(113), names_filter=("pre", 0))[1]["pre", 0][
            :, -1
        ]
    for unit in (5, 300):
        found = synthesize_input(
            case.model,
            torch.tensor([0, 0, 113]),
            neuron_of(case.model, unit, 0),
            free=[0, 1],
            allowed=range(113),
        )
        assert found.value == pytest.approx(pre[:, unit].max().item(), abs=1e-4)
