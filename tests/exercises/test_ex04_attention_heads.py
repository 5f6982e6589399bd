"""Grade lesson 04.

Scores come from loops over positions and numbers, tables from running heads, pairs as they were
planted.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)

# 4.1 ----------------------------------------------------------------------------------------------


def slow_matching(pattern: Tensor, tokens: Tensor) -> Tensor:
    """Score every head query by query, over those whose token stands before them."""
    found = []
    for b, prompt in enumerate(tokens.tolist()):
        for q, token in enumerate(prompt):
            keys = [k + 1 for k in range(q) if prompt[k] == token]
            if keys:
                found.append(pattern[b, :, q, keys].double().sum(dim=1))
    return torch.stack(found).mean(dim=0)


def judge_matching(student, shapes: list[tuple[int, int, int, int]], draw: Callable) -> None:
    """Judge on drawn attention; each query is blind for about half of the keys before it."""
    for seed in student.seeds(2):
        generator = torch.Generator().manual_seed(seed)
        for n_batch, n_heads, n_pos, n_tokens in shapes:
            tokens = draw(n_batch, n_pos, n_tokens, generator)
            scores = 2 * torch.randn(n_batch, n_heads, n_pos, n_pos, generator=generator)
            blind = (torch.rand(scores.shape, generator=generator) < 0.5) & ~torch.eye(n_pos).bool()
            later = torch.ones(n_pos, n_pos).triu(1).bool()
            pattern = scores.masked_fill(blind | later, float("-inf")).softmax(-1)
            got = student.call("prefix_matching_scores", pattern, tokens)
            expect(got, slow_matching(pattern, tokens), what="the tensor of scores")


def draw_repeated(n_batch: int, n_pos: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw blocks of distinct tokens that repeat, with another period in each prompt.

    The first repeats more than twice.
    """
    blocks = [torch.randperm(n_tokens, generator=generator)[: 3 + b] for b in range(n_batch)]
    return torch.stack([block[torch.arange(n_pos) % len(block)] for block in blocks])


def draw_random(n_batch: int, n_pos: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw random tokens: the first prompt starts with 0 twice, in the last all are new."""
    tokens = torch.randint(n_tokens, (n_batch, n_pos), generator=generator)
    tokens[0, :2] = 0
    tokens[-1] = torch.randperm(n_tokens, generator=generator)[:n_pos]
    return tokens


@check("prefix_matching_scores")
def test_repeated_blocks_are_scored(student):
    """Prompts that repeat a block of distinct tokens, of several lengths."""
    judge_matching(student, [(4, 3, 11, 13), (3, 1, 9, 10)], draw_repeated)


@check("prefix_matching_scores")
def test_any_tokens_are_scored(student):
    """Random prompts: tokens twice in a row, several earlier occurrences, prompts in which nothing
    returns."""
    judge_matching(student, [(3, 2, 7, 8), (5, 4, 6, 9)], draw_random)


# 4.2 ----------------------------------------------------------------------------------------------


def run_match(model: Transformer, writer: tuple[int, int], reader: tuple[int, int]) -> Tensor:
    """Make the table by running the model: the writer first, then the reader on two streams.

    The writer runs on one position; the table holds the reader's scores.
    """
    with torch.no_grad():
        # Every token is a prompt of one position, which a head can only attend to.
        alone = model.W_E.unsqueeze(1)
        names = [("result", writer[0])]
        written = model_part(model, alone, writer[0], names)["result", writer[0]][:, 0, writer[1]]
        n = len(written)
        # The key, then the query.
        pairs = torch.stack([written.repeat(n, 1), model.W_E.repeat_interleave(n, dim=0)], dim=1)
        name = ("attn_scores", reader[0])
        scores = model_part(model, pairs, reader[0], [name])[name]
        return scores[:, reader[1], 1, 0].reshape(n, n)


def model_part(model: Transformer, streams: Tensor, layer: int, names: list) -> Any:
    """Return the cache of one layer alone, run on these streams."""
    _, cache = model.run_with_cache(
        resid=streams, start_at_layer=layer, stop_at_layer=layer + 1, names_filter=names
    )
    return cache


def judge_tables(student, cases: list[tuple[dict, tuple[int, int], tuple[int, int]]]) -> None:
    for seed in student.seeds(2):
        for config, writer, reader in cases:
            named = NamedModel("random", seed=seed, **config)
            names = [f"a{layer}.h{head}" for layer, head in (writer, reader)]
            got = student.call("match_table", named, writer=names[0], reader=names[1])
            want = run_match(named.build(), writer, reader)
            what = "the table of scores (query, previous)"
            expect(got, want, rtol=1e-3, atol=1e-5, what=what)


@check("match_table")
def test_heads_of_the_first_two_layers_meet(student):
    """Heads of layers 0 and 1."""
    small = {"d_vocab": 7, "n_ctx": 5, "d_model": 10, "n_layers": 2, "n_heads": 3, "d_head": 4}
    large = dict(d_vocab=12, n_ctx=3, d_model=9, n_layers=2, n_heads=12, d_head=5, attn_scale=0.3)
    judge_tables(student, [(small, (0, 2), (1, 1)), (large, (0, 10), (1, 11))])


@check("match_table")
def test_heads_of_later_layers_meet(student):
    """Heads of any two layers."""
    deep = dict(d_vocab=8, n_ctx=6, d_model=12, n_layers=4, n_heads=3, d_head=5, attn_scale=0.7)
    judge_tables(student, [(deep, (1, 0), (3, 2)), (deep, (0, 1), (2, 0))])


# 4.3 ----------------------------------------------------------------------------------------------


def slow_composition(model: Transformer, writer_layer: int, reader_layer: int, part: str) -> Tensor:
    """Compute one pair of heads after the other, in float64, by the formula."""

    def measure_size(matrix: Tensor) -> float:
        return math.sqrt(sum(entry * entry for entry in matrix.flatten().tolist()))

    n = model.config.n_heads
    writer, reader = (model.blocks[layer].attn for layer in (writer_layer, reader_layer))
    table = torch.zeros(n, n, dtype=torch.float64)
    for i, j in itertools.product(range(n), repeat=2):
        Q, K, V, O_ = (
            W.detach()[j].double() for W in (reader.W_Q, reader.W_K, reader.W_V, reader.W_O)
        )
        R = {"q": Q @ K.T, "k": K @ Q.T, "v": V @ O_}[part]
        OV = writer.W_V.detach()[i].double() @ writer.W_O.detach()[i].double()
        sizes = measure_size(OV) * measure_size(R)
        table[i, j] = measure_size(OV @ R) / sizes if sizes else 0.0
    return table


def judge_composition(student, part: str, silent: bool = False) -> None:
    """Ask for all parts, for this one last: so one sees which are right.

    Heads differ in size, the first writer by a hundredth (if `silent`, the last reader).
    """
    shapes = [({"n_layers": 2, "d_model": 7, "n_heads": 3, "d_head": 2}, 0, 1)]
    shapes += [({"n_layers": 4, "d_model": 8, "n_heads": 2, "d_head": 3}, 1, 3)]
    for seed, (config, *layers) in itertools.product(student.seeds(2), shapes):
        model = Transformer(Config(d_vocab=5, n_ctx=4, **config), seed=seed)
        attn = [model.blocks[layer].attn for layer in layers]
        with torch.no_grad():
            for W in (W for block in model.blocks for W in (block.attn.W_Q, block.attn.W_O)):
                W *= torch.linspace(0.5, 2.0, len(W)).view(-1, 1, 1)
            if silent:
                attn[0].W_O[1] = 0.0
                attn[1].W_Q[0] = 0.0
                attn[1].W_O[0] = 0.0
                attn[1].W_Q[-1] *= 0.01
                attn[1].W_O[-1] *= 0.01
            else:
                attn[0].W_O[0] *= 0.01
        for of in sorted("qkv", key=lambda of: of == part):
            got = student.call("composition_scores", model, *layers, of)
        want = slow_composition(model, *layers, part)
        what = f"the table of scores for {part!r} (writer, reader)"
        expect(got, want, rtol=1e-3, atol=1e-5, what=what)


@check("composition_scores")
def test_keys_compose(student):
    """Composition with the keys."""
    judge_composition(student, "k")


@check("composition_scores")
def test_queries_compose(student):
    """Composition with the queries."""
    judge_composition(student, "q")


@check("composition_scores")
def test_values_compose(student):
    """Composition with the values."""
    judge_composition(student, "v")


@check("composition_scores", weight=0.5)
def test_heads_of_zeros_score_zero(student):
    """Heads whose circuit is zero everywhere."""
    for part in "qkv":
        judge_composition(student, part, silent=True)


# 4.4 ----------------------------------------------------------------------------------------------

N_TOKENS, N_CTX, D_HEAD, N_PROMPTS = 11, 16, 20, 24

# What the five heads of each layer are; a and b are two places in the stream for "the token before
# me".
MODELS = (
    ("back a, silent, idle a, loud, far a", "match a, match a, unread a, echo, against a"),
    ("back a, back b, idle a, silent, far b", "match a, match b, unread b, echo, against a"),
    ("back a, back a, idle a, silent, far a", "match a, unread a, unread a, echo, against a"),
)


class Planted(NamedTuple):
    """Hold a model with known pairs, and its prompts."""

    model: Transformer
    tokens: Tensor
    answer: Tensor
    right: set[str]


@functools.cache
def plant_all(seed: int) -> list[Planted]:
    """Plant three models with different pairs, drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    found: list[Planted] = []
    while len(found) < len(MODELS):
        case = plant(MODELS[len(found)], generator)
        found += [case] if case.right not in [other.right for other in found] else []
    return found


def plant(kinds: tuple[str, str], generator: torch.Generator) -> Planted:
    """Plant a model with heads of these kinds, its stream turned and its heads in any places."""
    n = N_TOKENS
    # Nobody writes `nothing`.
    stream = by_hand.Stream(token=n, position=N_CTX, a=n, b=n, next=n, unread=n, nothing=n)
    model = by_hand.make_blank(
        Config(n, N_CTX, stream.d_model, n_layers=2, n_heads=5, d_head=D_HEAD, attn_scale=1.0)
    )
    by_hand.write_embedding(model, stream["token"], stream["position"])
    by_hand.read_out(model, stream["next"], 10.0)
    heads: list[dict[str, str]] = []
    for layer, words in enumerate(kinds):
        heads.append({f"a{layer}.h{i}": kind for i, kind in enumerate(words.split(", "))})
        for head, kind in enumerate(heads[layer].values()):
            set_head(model, layer, head, kind, stream)
    tokens, answer = draw_prompts(generator)
    with torch.no_grad():  # the first prompt is answered by the embedding, whatever the heads do
        model.W_U[:, answer[0]] += 5 * stream["token"][tokens[0, -1]]
    hidden = disguise(model, generator)
    right = {
        f"{hidden.rename(i)}->{hidden.rename(j)}"
        for (i, one), (j, other) in itertools.product(*(layer.items() for layer in heads))
        if one[:4] == "back" and other[:5] == "match" and one[-1] == other[-1]
    }
    return Planted(hidden.model, tokens, answer, right)


def set_head(model: Transformer, layer: int, head: int, kind: str, stream: by_hand.Stream) -> None:
    """Set one head to be of a kind.

    `idle` reads what is never there, `silent` writes nothing, `loud` and `unread` write where
    nobody reads, `far` tells the token before the previous one, `echo` says the present token,
    `against` speaks against the token that it finds.
    """
    word, _, place = kind.partition(" ")
    token, position = stream["token"], stream["position"]
    if word in ("match", "unread", "against"):
        by_hand.attend_where_equal(model, layer, head, token, stream[place], 20.0)
    elif word == "echo":
        by_hand.attend_where_equal(model, layer, head, token, token, 20.0)
    elif word == "far":
        by_hand.attend_where_equal(model, layer, head, position[2:], position[:-2], 20.0)
    else:
        by_hand.attend_to_previous(model, layer, head, position, 20.0)
    source = stream["nothing"] if word == "idle" else token
    target = {"loud": 5 * stream["unread"], "unread": stream["unread"], "silent": 0 * token}
    target |= {"match": stream["next"], "echo": 0.3 * stream["next"]}
    target |= {"far": 0.5 * stream[place or "a"], "against": -0.4 * stream["next"]}
    by_hand.copy_directions(model, layer, head, source, target.get(word, stream[place or "a"]))


def draw_prompts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw token 0, then a block of 7 to 10 distinct tokens, repeated to the context's end."""
    prompts = []
    for _ in range(N_PROMPTS):
        period = int(torch.randint(7, N_TOKENS, (1,), generator=generator))
        block = (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:period]).tolist()
        prompts.append([0] + [block[t % period] for t in range(N_CTX)])
    tokens = torch.tensor(prompts)
    return tokens[:, :-1], tokens[:, -1]


def judge_pairs(student, number: int) -> None:
    """Ask for the pairs of all three models, for this one's last."""
    cases = plant_all(student.seeds(1)[0])
    for case in (*cases[number:], *cases[:number]):
        got = student.call("find_induction_pairs", case.model, case.tokens, case.answer)
    possible = [f"a0.h{i}->a1.h{j}" for i, j in itertools.product(range(5), repeat=2)]
    expect_found(got, [case.right], possible, what="pairs")


@check("find_induction_pairs")
def test_the_pairs_of_the_first_model_are_found(student):
    """The pairs of the first of three models."""
    judge_pairs(student, 1)


@check("find_induction_pairs")
def test_the_pairs_of_the_second_model_are_found(student):
    """The pairs of the second model."""
    judge_pairs(student, 2)


@check("find_induction_pairs")
def test_the_pairs_of_the_third_model_are_found(student):
    """The pairs of the third model."""
    judge_pairs(student, 3)
