"""Composition scores: their formula, hand-set heads, and models turned by rotations.

Checked against: the same formula with whole (d_model, d_model) circuits, hand-set heads, turned
models, and TransformerLens 3.9 on the same weights.
"""

import pytest
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.methods import score_composition, score_random_composition
from mini_transformer.toys.hand_set.disguise import draw_rotation

PARTS = ["q", "k", "v"]


def circuit(model, layer, head, which):
    """Write QK or OV as the stream sees it: the first norm's gain and centring as a matrix."""
    norm = model.blocks[layer].ln1
    sees = torch.eye(8, dtype=torch.float64)
    if norm is not None:
        centring = sees - torch.full((8, 8), 1 / 8, dtype=torch.float64) if norm.centred else sees
        sees = centring @ torch.diag(norm.w)
    return sees @ (model.OV(layer, head) if which == "ov" else model.QK(layer, head) @ sees.T)


@pytest.mark.parametrize("part", PARTS)
def test_a_score_is_the_norm_of_the_product_over_the_product_of_norms(model, part):
    scores = score_composition(model, part)
    assert not scores[:, :, 0].any()
    assert not scores[1].any()
    for first in range(3):
        for second in range(3):
            writes, qk = circuit(model, 0, first, "ov"), circuit(model, 1, second, "qk")
            reads = {"q": qk, "k": qk.T, "v": circuit(model, 1, second, "ov")}[part]
            size = torch.zeros(3, dtype=torch.float64)
            for i, matrix in enumerate((writes @ reads, writes, reads)):
                size[i] = sum(x**2 for x in matrix.flatten().tolist()) ** 0.5
            assert scores[0, first, 1, second].item() == pytest.approx(
                (size[0] / size[1] / size[2]).item()
            )


def test_every_earlier_layer_is_compared_with_every_later_one():
    model = Transformer(Config(7, 6, 8, n_layers=3, n_heads=2, d_head=9)).double()
    found = score_composition(model, "v").sum(dim=(1, 3)) > 0
    assert found.tolist() == [[False, True, True], [False, False, True], [False, False, False]]


@pytest.mark.parametrize("seed", range(3))
def test_by_hand_only_the_keys_compose_and_a_perfect_match_of_16_directions_scores_a_quarter(seed):
    case = toys.load("induction_by_hand", seed=seed)
    previous, match = (int(case.truth.roles[role][4]) for role in ("previous", "match"))
    for part in PARTS:
        expected = torch.zeros(2, 2)
        expected[previous, match] = 0.25 if part == "k" else 0.0
        torch.testing.assert_close(score_composition(case.model, part)[0, :, 1], expected)


@pytest.mark.parametrize("part", PARTS)
def test_turning_the_stream_and_the_inside_of_heads_changes_no_score(part):
    config = Config(7, 6, 8, n_layers=2, n_heads=3, d_head=4)
    model, generator = Transformer(config).double(), torch.Generator().manual_seed(0)
    before, turn = score_composition(model, part), draw_rotation(8, generator)
    with torch.no_grad():
        for block in model.blocks:
            meet, move = draw_rotation(4, generator), draw_rotation(4, generator)
            for W, inside in (
                (block.attn.W_Q, meet),
                (block.attn.W_K, meet),
                (block.attn.W_V, move),
            ):
                W.copy_(turn.T @ W @ inside)
            block.attn.W_O.copy_(move.T @ block.attn.W_O @ turn)
    torch.testing.assert_close(score_composition(model, part), before)


@pytest.mark.parametrize("seed", range(3))
def test_in_disguise_the_circuit_still_scores_most_but_a_silent_decoy_scores_above_random(seed):
    """Noise where nothing is written or read is in the weights, so it is in the scores."""
    case = toys.load("induction_rotated", seed=seed)
    roles = {name: int(head[4]) for name, head in case.truth.roles.items()}
    scores = {part: score_composition(case.model, part)[0, :, 1] for part in PARTS}
    keys = scores["k"][:, roles["match"]]
    assert keys[roles["previous"]] == max(s.max() for s in scores.values())
    assert keys[roles["previous"]] > 0.2  # seeds 0-2: .2143 to .2145
    assert keys[roles["silent"]] > 1.5 * score_random_composition(
        case.model
    )  # yet it carries no token at all


@pytest.mark.parametrize("seed", range(5))
def test_in_trained_induction_both_matching_heads_read_the_previous_token_head_by_their_keys(seed):
    case = toys.load("induction", seed=seed)
    previous = int(case.truth.roles["previous"][4])
    keys, others = (
        score_composition(case.model, "k")[0, :, 1],
        [score_composition(case.model, p) for p in "qv"],
    )
    assert keys[previous].min() > 0.25  # seeds 0-4: .2620 to .2891, twice that of random heads
    assert (
        max(keys[1 - previous].max(), *(other.max() for other in others)) < 0.2
    )  # seeds 0-4: at most .1766


@pytest.mark.parametrize(("d_model", "d_head"), [(16, 2), (64, 8), (64, 32)])
def test_random_heads_score_about_one_over_the_root_of_the_width(d_model, d_head):
    model = Transformer(Config(5, 4, d_model, n_layers=2, n_heads=2, d_head=d_head))
    assert score_random_composition(model) == pytest.approx(d_model**-0.5, rel=0.1)
    generator, naive = torch.Generator().manual_seed(7), []
    for _ in range(30):
        V, W_O, A, B = (torch.randn(d_model, d_head, generator=generator) for _ in range(4))
        writes, reads = V @ W_O.T, A @ B.T
        naive.append(((writes @ reads).norm() / writes.norm() / reads.norm()).item())
    assert score_random_composition(model) == pytest.approx(sum(naive) / 30, rel=0.1)


def test_the_random_score_is_that_of_its_seed():
    model = Transformer(Config(5, 4, 16, n_layers=2, n_heads=2))
    assert score_random_composition(model, seed=3) == score_random_composition(model, seed=3)
    assert score_random_composition(model, seed=3) != score_random_composition(model, seed=4)
