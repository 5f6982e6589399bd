"""Tables read off weights: models in which they are all there is, and hand-set heads.

Checked against: the scores and logits of attention-only models, written as a sum over all paths,
eigenvalues of the whole OV table, folded models, hand-set heads, and TransformerLens 3.9 on the
same weights.
"""

from itertools import product

import pytest
import torch

from mini_transformer import Config, Transformer, toys, weights
from mini_transformer.methods import read_ov, read_qk, score_copying, split_circuit
from mini_transformer.methods.weights.head_circuits import read_rows

HEADS = [f"a{layer}.h{head}" for layer in range(2) for head in range(3)]


def randomise(config, seed=0):
    """A float64 model without a weight at zero."""
    model, generator = Transformer(config).double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
@pytest.mark.parametrize("positions_to", ["stream", "qk"])
def test_in_the_first_layer_the_nine_tables_add_up_to_the_scores(norm, positions_to):
    """The scale divides what passes the norm: tokens, not positions with positions_to='qk'."""
    model = randomise(
        Config(
            7,
            6,
            8,
            1,
            n_heads=3,
            d_head=4,
            norm=norm,
            positions_to=positions_to,
            biases=True,
            causal=False,
        )
    )
    tokens = torch.tensor([4, 1, 1, 6])
    _, cache = model.run_with_cache(tokens[None])
    scale = (
        torch.ones(4, dtype=torch.float64)
        if norm == "none"
        else cache["scale", 0, "ln1"][0, :, 0].detach()
    )
    divided = ("token",) if positions_to == "qk" else ("token", "position")
    for head, q, k in product(range(3), range(4), range(4)):
        total, row = (
            0.0,
            {
                "token": tokens,
                "position": torch.arange(4),
                "bias": torch.zeros(4, dtype=torch.int64),
            },
        )
        for query, key in product(row, row):
            entry = read_qk(model, f"a0.h{head}", query, key)[row[query][q], row[key][k]].item()
            total += (
                entry
                / (scale[q] if query in divided else 1.0)
                / (scale[k] if key in divided else 1.0)
            )
        assert total == pytest.approx(cache["attn_scores", 0][0, head, q, k].item(), abs=1e-9)


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_what_a_head_adds_to_the_logits_is_the_average_of_its_tables_over_what_it_attends_to(norm):
    model = randomise(
        Config(7, 6, 8, 1, n_heads=3, d_head=4, norm=norm, biases=True, d_vocab_out=5)
    )
    tokens = torch.tensor([4, 1, 1, 6])
    _, cache = model.run_with_cache(tokens[None])
    with torch.no_grad():
        for head in range(3):
            written = cache["z", 0][0, -1, head] @ model.blocks[0].attn.W_O[head]
            given = torch.zeros(5, dtype=torch.float64)
            for k, token in enumerate(tokens):
                scale = 1.0 if norm == "none" else cache["scale", 0, "ln1"][0, k, 0]
                from_k = (
                    read_ov(model, f"a0.h{head}")[token]
                    + read_ov(model, f"a0.h{head}", "position")[k]
                )
                from_k = from_k / scale + read_ov(model, f"a0.h{head}", "bias")[0]
                given += cache["pattern", 0][0, head, -1, k] * from_k
            if norm != "none":
                centred = written - written.mean() if norm == "layer" else written
                written = centred * model.ln_final.w
            torch.testing.assert_close(given, written @ model.W_U)


def list_paths(tokens, patterns):
    """Split the stream after layer 0: every token's own row, and heads' along attention."""
    one_hot = torch.nn.functional.one_hot(tokens, 7).double()
    return {"token": one_hot} | {
        f"a0.h{head}": patterns[head] @ one_hot for head in range(3)
    }  # t v


def test_two_layers_of_attention_are_the_sum_over_all_paths():
    """Scores and logits are products of attention and tables (Elhage et al. 2021)."""
    model, tokens = (
        randomise(Config(7, 6, 8, 2, n_heads=3, d_head=4, positions="none")),
        torch.tensor([4, 1, 1, 6]),
    )
    logits, cache = model.run_with_cache(tokens[None])
    sources = list_paths(tokens, cache["pattern", 0][0])
    out = model.W_E[tokens] @ model.W_U + sum(
        sources[f"a0.h{h}"] @ read_ov(model, f"a0.h{h}") for h in range(3)
    )
    for head in range(3):
        name = f"a1.h{head}"
        scores = sum(
            sources[q] @ read_qk(model, name, q, k) @ sources[k].T
            for q, k in product(sources, sources)
        )
        seen = torch.ones(4, 4).tril().bool()
        torch.testing.assert_close(scores[seen], cache["attn_scores", 1][0, head][seen])
        out = out + sum(
            cache["pattern", 1][0, head] @ sources[s] @ read_ov(model, name, s) for s in sources
        )
    torch.testing.assert_close(out, logits[0])


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_folding_the_norms_first_changes_no_table(norm):
    model = randomise(Config(7, 6, 8, 2, n_heads=3, d_head=4, norm=norm, biases=True))
    folded = weights.fold_norms(model)
    for head, part in product(HEADS, ("token", "position", "bias")):
        torch.testing.assert_close(
            read_qk(folded, head, part, part), read_qk(model, head, part, part)
        )
        torch.testing.assert_close(read_ov(folded, head, part), read_ov(model, head, part))
    for before, after in product(HEADS[:3], HEADS[3:]):
        torch.testing.assert_close(
            read_qk(folded, after, key=before), read_qk(model, after, key=before)
        )
        torch.testing.assert_close(read_ov(folded, after, before), read_ov(model, after, before))
    torch.testing.assert_close(score_copying(folded), score_copying(model))


@pytest.mark.parametrize(
    "d_vocab", [3, 7, 12], ids=["fewer tokens than d_head", "more", "more than d_model"]
)
def test_the_copying_score_is_that_of_all_eigenvalues_of_the_whole_table(d_vocab):
    model = randomise(Config(d_vocab, 6, 8, 2, n_heads=3, d_head=4, norm="rms"))
    for layer, head in product(range(2), range(3)):
        eigenvalues = torch.linalg.eigvals(read_ov(model, f"a{layer}.h{head}"))
        expected = eigenvalues.sum().real / eigenvalues.abs().sum()
        torch.testing.assert_close(score_copying(model)[layer, head], expected)
    assert score_copying(model).std() > 0.1


def test_a_head_that_suppresses_what_it_sees_scores_minus_one():
    case = toys.load("induction_by_hand")
    with torch.no_grad():
        case.model.blocks[1].attn.W_O[0] *= -1
    assert score_copying(case.model).tolist() == [[0, 0], [-1, 0]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["induction_by_hand", "induction_rotated"])
def test_the_induction_circuit_is_read_off_the_tables_in_any_disguise(name, seed):
    case = toys.load(name, seed=seed)
    previous, match = case.truth.roles["previous"], case.truth.roles["match"]
    equal = 20 * torch.eye(16)
    torch.testing.assert_close(read_ov(case.model, match), equal, rtol=0, atol=1e-3)
    torch.testing.assert_close(read_qk(case.model, match, key=previous), equal, rtol=0, atol=1e-3)
    positions = read_qk(case.model, previous, "position", "position")
    torch.testing.assert_close(
        positions.diagonal(offset=-1), torch.full((23,), 20.0), rtol=0, atol=1e-3
    )
    for nothing in (
        read_ov(case.model, previous),
        read_ov(case.model, case.truth.roles["silent"]),
        read_qk(case.model, match),
        read_qk(case.model, match, key=case.truth.roles["silent"]),
    ):
        assert nothing.abs().max() < 1e-3
    copies = {
        name: score_copying(case.model)[int(name[1]), int(name[4])].item()
        for name in case.truth.roles.values()
    }
    assert copies == pytest.approx({name: float(name == match) for name in copies}, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_in_trained_induction_the_heads_that_match_compare_the_token_before_and_copy(seed):
    case = toys.load("induction", seed=seed)
    previous = case.truth.roles["previous"]
    for role in ("match", "second"):
        head = case.truth.roles[role]
        through = read_qk(case.model, head, key=previous)[
            1:, 1:
        ]  # token 0 starts prompts and never repeats
        assert (through.argmax(dim=1) == torch.arange(31)).all()
        assert score_copying(case.model)[1, int(head[4])] > 0.98  # seeds 0-4: .9966 to .9998
        assert (read_ov(case.model, head)[1:, 1:].argmax(dim=1) == torch.arange(31)).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_head_of_max_of_list_orders_the_numbers_and_copies(seed):
    model = toys.load("max_of_list", seed=seed).model
    assert (read_qk(model, "a0.h0")[32, :32].diff() > 0.5).all()
    assert score_copying(model, range(32)).item() > 0.95  # seeds 0-4: .9804 to .9995
    assert (read_ov(model, "a0.h0")[:32].argmax(dim=1) == torch.arange(32)).all()


@pytest.mark.parametrize("d_head", [4, 9], ids=["narrow", "wider than the stream"])
@pytest.mark.parametrize("circuit", ["qk", "ov"])
def test_the_parts_of_a_circuit_add_up_to_it_and_their_strengths_are_its_singular_values(
    circuit, d_head
):
    model = randomise(Config(7, 6, 8, 2, n_heads=3, d_head=d_head, norm="layer", d_vocab_out=5))
    read = {"qk": read_qk, "ov": read_ov}[circuit]
    for head in HEADS:
        strengths, left, right = split_circuit(model, head, circuit)
        torch.testing.assert_close(left.T @ strengths.diag() @ right, read(model, head))
        layer, index = int(head[1]), int(head[4])
        gain = torch.diag(model.blocks[layer].ln1.w) - model.blocks[layer].ln1.w.expand(8, 8) / 8
        whole = gain @ (
            model.OV(layer, index)
            if circuit == "ov"
            else model.QK(layer, index) @ gain.T / d_head**0.5
        )
        torch.testing.assert_close(strengths, torch.linalg.svdvals(whole)[: len(strengths)])
        assert left.gather(1, left.abs().argmax(dim=1, keepdim=True)).min() > 0


def test_rows_of_a_head_are_what_it_computes_when_one_token_stands_alone():
    model = randomise(Config(7, 6, 8, 2, n_heads=3, d_head=4, positions="none", biases=True))
    _, cache = model.run_with_cache(torch.arange(7)[:, None])
    for part in "QKV":
        own = read_rows(model, 0, part, "token") + read_rows(model, 0, part, "bias")
        torch.testing.assert_close(own, cache[part.lower(), 0][:, 0].transpose(0, 1))
