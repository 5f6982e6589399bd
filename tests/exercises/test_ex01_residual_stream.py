"""Grade lesson 01.

What is right is found by slow loops, by properties, or by the parts of a model one by one.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.explain import Compared
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Transformer

MUTANTS = load_mutants(__file__)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


# 1.1 ----------------------------------------------------------------------------------------------


def slow_pattern(q: Tensor, k: Tensor) -> Tensor:
    """Compute attention query by query, over the keys that each may see."""
    n_batch, n_pos, n_heads, width = q.shape
    pattern = torch.zeros(n_batch, n_heads, n_pos, n_pos, dtype=torch.float64)
    for b, n, i in itertools.product(range(n_batch), range(n_heads), range(n_pos)):
        scores = [
            float(q[b, i, n].double() @ k[b, j, n].double()) / math.sqrt(width)
            for j in range(i + 1)
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        pattern[b, n, i, : i + 1] = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    return pattern


def judge_pattern(student, holds: Callable[[Tensor, Tensor], bool] | None = None) -> None:
    """Hold the pattern to one property, or to all; say what is wrong if it has not got it."""
    for seed in student.seeds(2):
        generator = torch.Generator().manual_seed(seed)
        for shape in ((2, 5, 3, 4), (3, 4, 1, 7), (1, 1, 2, 3)):
            q, k = normal(generator, *shape), normal(generator, *shape)
            got, want = student.call("attention_pattern", q, k), slow_pattern(q, k)
            fits = isinstance(got, Tensor) and got.shape == want.shape
            if not (holds and fits and holds(got.double(), want)):
                expect(got, want, what="the pattern")


@check("attention_pattern", weight=0.5)
def test_each_query_spreads_one_unit_of_attention(student):
    """Each query spreads one unit of attention."""
    judge_pattern(student, lambda got, want: torch.allclose(got.sum(-1), want.sum(-1), atol=1e-4))


@check("attention_pattern", weight=0.5)
def test_no_query_looks_at_a_later_key(student):
    """No query looks at a later key."""
    judge_pattern(student, lambda got, want: not got.triu(1).any())


@check("attention_pattern", weight=2)
def test_the_weights_are_those_of_the_scaled_scores(student):
    """The weights are those of the scaled scores."""
    judge_pattern(student)


@check("attention_pattern")
def test_large_scores_do_no_harm(student):
    """Scores of a few hundred do no harm, above and below 0."""
    cases = ((20.0, 0.0), (1.0, -60.0), (1.0, -300.0), (1.0, 300.0))
    asked = []
    for seed, (spread, common) in zip(student.seeds(4), cases, strict=True):
        generator = torch.Generator().manual_seed(seed)
        q, k = spread * normal(generator, 2, 6, 3, 4), spread * normal(generator, 2, 6, 3, 4)
        if common:  # is in all scores
            q[..., 0], k[..., 0] = (
                abs(2 * common) ** 0.5,
                math.copysign(abs(2 * common) ** 0.5, common),
            )
        asked.append((student.call("attention_pattern", q, k), slow_pattern(q, k)))
    for got, want in asked:
        expect(got, want, atol=2e-3, what="the pattern of large scores")


# 1.2 ----------------------------------------------------------------------------------------------


def draw_weights(
    seed: int, layers: int, heads: int, d: int, h: int, f: int, vocab: int, n_ctx: int
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "W_E": (vocab, d),
        "W_pos": (n_ctx, d),
        "W_U": (d, vocab),
        "W_in": (layers, d, f),
        "W_out": (layers, f, d),
    }
    shapes |= dict.fromkeys(("W_Q", "W_K", "W_V"), (layers, heads, d, h))
    shapes["W_O"] = (layers, heads, h, d)
    return {
        name: normal(generator, *shape) * 1.5 / math.sqrt(shape[-2])
        for name, shape in shapes.items()
    }


def slow_transformer(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Compute logits prompt by prompt, layer by layer, head by head, position by position."""
    w = {name: value.double() for name, value in weights.items()}
    logits = []
    for prompt in tokens.tolist():
        stream = [w["W_E"][token] + w["W_pos"][i] for i, token in enumerate(prompt)]
        for layer, heads in enumerate(w["W_Q"]):
            written = [
                sum(slow_write(w, layer, head, stream[: i + 1]) for head in range(len(heads)))
                for i in range(len(prompt))
            ]
            stream = [x + y for x, y in zip(stream, written, strict=True)]
            stream = [x + (x @ w["W_in"][layer]).clamp(min=0) @ w["W_out"][layer] for x in stream]
        logits.append(torch.stack([x @ w["W_U"] for x in stream]))
    return torch.stack(logits)


def slow_write(w: dict[str, Tensor], layer: int, head: int, seen: list[Tensor]) -> Tensor:
    """Compute what one head writes at the last of the positions that it sees."""
    Q, K, V, O = (w[name][layer, head] for name in ("W_Q", "W_K", "W_V", "W_O"))  # noqa: E741
    scores = [float((seen[-1] @ Q) @ (x @ K)) / math.sqrt(Q.shape[-1]) for x in seen]
    exps = [math.exp(score - max(scores)) for score in scores]
    return sum(e / sum(exps) * (x @ V) for e, x in zip(exps, seen, strict=True)) @ O


def judge_transformer(student, sizes: list[dict[str, int]], without: tuple[str, ...] = ()) -> None:
    if "Transformer" in student.find_called("run_transformer"):
        raise Wrong("builds_a_transformer")
    for seed, size in itertools.product(student.seeds(2), sizes):
        weights = draw_weights(seed, **size)
        weights |= {name: torch.zeros_like(weights[name]) for name in without}
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(size["vocab"], (2, size["n_ctx"] - 1), generator=generator)
        got = student.call("run_transformer", weights, tokens)
        want = slow_transformer(weights, tokens)
        expect(got, want, rtol=1e-3, atol=1e-4, what="the tensor of logits")


@check("run_transformer")
def test_without_layers_the_embedding_is_read_off_at_once(student):
    """Without layers: embed and unembed."""
    judge_transformer(student, [dict(layers=0, heads=2, d=5, h=3, f=4, vocab=7, n_ctx=6)])


@check("run_transformer", weight=2)
def test_attention_reads_and_adds(student):
    """With attention only (an MLP that writes zero)."""
    small = dict(layers=1, heads=1, d=4, h=2, f=3, vocab=5, n_ctx=3)
    large = dict(layers=3, heads=2, d=8, h=5, f=3, vocab=7, n_ctx=6)
    judge_transformer(student, [large, small], without=("W_out",))


@check("run_transformer", weight=2)
def test_the_mlp_reads_and_adds_after_attention(student):
    """With attention and MLP."""
    judge_transformer(student, [dict(layers=2, heads=3, d=8, h=4, f=10, vocab=7, n_ctx=6)])


# 1.3 ----------------------------------------------------------------------------------------------


def slow_split(model: Transformer, tokens: Tensor, layer: int, head: int) -> Tensor:
    """Split a head by source, one pair of positions at a time."""
    streams = model(tokens, stop_at_layer=layer).detach().double()
    Q, K, V, O = (  # noqa: E741
        getattr(model.blocks[layer].attn, name)[head].detach().double()
        for name in ("W_Q", "W_K", "W_V", "W_O")
    )
    to_logits = O @ model.W_U.detach().double()
    n_batch, t = tokens.shape
    result = torch.zeros(n_batch, t, t, to_logits.shape[1], dtype=torch.float64)
    for b, i in itertools.product(range(n_batch), range(t)):
        exps = [
            math.exp(float((streams[b, i] @ Q) @ (streams[b, j] @ K)) / model.config.attn_scale)
            for j in range(i + 1)
        ]
        for j, e in enumerate(exps):
            result[b, i, j] = e / sum(exps) * (streams[b, j] @ V @ to_logits)
    return result


def judge_split(student, holds: Callable[[Tensor, Tensor], bool] | None = None) -> None:
    cases = itertools.product(student.seeds(2), ((2, 1, 3), (1, 3, 4), (0, 0, 1)))
    for seed, (layer, head, heads) in cases:
        size = dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=4, attn_scale=0.1)
        named = NamedModel("random", seed=seed, n_heads=heads, **size)
        tokens = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(seed))
        got = student.call("split_head_by_source", named, tokens, layer, head)
        want = slow_split(named.build(), tokens, layer, head)
        fits = isinstance(got, Tensor) and got.shape == want.shape
        if not (holds and fits and holds(got.double(), want)):
            expect(got, want, rtol=1e-3, atol=1e-4, what="the split")


@check("split_head_by_source")
def test_the_sources_add_up_to_what_the_head_adds_to_the_logits(student):
    """The sources add up to what the head adds to the logits."""
    judge_split(
        student, lambda got, want: torch.allclose(got.sum(2), want.sum(2), rtol=1e-3, atol=1e-4)
    )


@check("split_head_by_source", weight=2)
def test_every_source_has_its_own_share(student):
    """Every source has its own share."""
    judge_split(student)


# 1.4 ----------------------------------------------------------------------------------------------

PUSHES = (3.2, 1.5, 1.1, 0.9, -0.03, -0.2, -0.9, -1.1, -1.7, -2.5)  # 1 decides, .9 does not
Deciders = tuple[list[str], list[str]]


@dataclasses.dataclass(frozen=True)
class Case:
    """Hold an unknown model with prompts, and the writers that push: for, and against."""

    config: dict
    weights: dict[str, Tensor]
    tokens: Tensor
    answer: Tensor
    wrong: Tensor
    deciders: Deciders

    @property
    def inputs(self) -> tuple:
        return self.config, self.weights, self.tokens, self.answer, self.wrong


@torch.no_grad()
def measure_push(model: Transformer, writer: str, *prompts: Tensor) -> float:
    """Measure what a writer adds to the lead of the answer, on average over the prompts."""
    tokens, answer, wrong = prompts
    place = [int(number) for number in re.findall(r"\d+", writer)]
    name = {"a": ("result", *place[:1]), "m": ("mlp_out", *place)}.get(writer[0], writer)
    part = model.run_with_cache(tokens, names_filter=[name])[1][name][:, -1]
    logits = (part if writer[0] != "a" else part[:, place[1]]) @ model.W_U
    pairs = zip(logits, answer, wrong, strict=True)
    return sum(float(row[yes] - row[no]) for row, yes, no in pairs) / len(tokens)


@functools.cache
def draw_deciders(seed: int) -> Case:
    """Draw a model, and scale what its writers write, one by one, until they push as PUSHES.

    Writers of all kinds are among those that decide. Which prompt is pushed where is random.
    """
    generator = torch.Generator().manual_seed(seed)
    size = dict(d_vocab=12, n_ctx=9, d_model=12, n_layers=2, n_heads=3, d_mlp=8, attn_scale=0.3)
    model = Transformer(Config(**size), seed=seed)
    outputs = {"embed": model.W_E, "pos_embed": model.W_pos}
    for i, block in enumerate(model.blocks):
        outputs |= {f"a{i}.h{head}": W_O for head, W_O in enumerate(block.attn.W_O)}
        outputs[f"m{i}"] = block.mlp.W_out
    tokens = torch.randint(12, (16, 8), generator=generator)
    answer = torch.randint(12, (16,), generator=generator)
    wrong = (answer + torch.randint(1, 12, (16,), generator=generator)) % 12
    pushes: dict[str, float] = {}
    while {name[0] for name, push in pushes.items() if abs(push) > 1} != set("epam"):
        order = torch.randperm(len(PUSHES), generator=generator).tolist()
        pushes = {name: PUSHES[i] for name, i in zip(outputs, order, strict=True)}
    ranks = sorted(pushes, key=lambda name: -pushes[name])
    for name, weight in outputs.items():
        weight.data *= pushes[name] / measure_push(model, name, tokens, answer, wrong)
    deciders = [n for n in ranks if pushes[n] > 1], [n for n in ranks[::-1] if pushes[n] < -1]
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    return Case(dataclasses.asdict(model.config), weights, tokens, answer, wrong, deciders)


def judge_deciders(student, judge: Callable[[Deciders, Deciders], None]) -> None:
    cases = [draw_deciders(seed) for seed in student.seeds(3)]
    answers = [student.call("find_deciders", *case.inputs) for case in cases]
    for got, case in zip(answers, cases, strict=True):
        is_pair = isinstance(got, (list, tuple)) and len(got) == 2
        if not is_pair or not all(isinstance(part, (list, tuple)) for part in got):
            raise Wrong(
                sentence="Return two lists of labels: the writers in favour, and those against."
            )
        judge((list(got[0]), list(got[1])), case.deciders)


def miss(got: Deciders, want: Deciders) -> Wrong:
    named, true = (set(itertools.chain(*lists)) for lists in (got, want))
    found = f"{len(named & true)} of the {len(true)} writers that push"
    sentence = f"You name {found}, and {len(named - true)} that do not."
    if named == true:
        sentence = "You name the right writers, but not all in the right list, or not in order."
    return Wrong(sentence=sentence, compared=Compared(got, want, "your pair of lists", {}, {}))


@check("find_deciders")
def test_the_strongest_writer_in_favour_is_found(student):
    """The writer that favours the answer most comes first."""

    def judge(got, want):
        if got[0][:1] != want[0][:1]:
            raise miss(got, want)

    judge_deciders(student, judge)


@check("find_deciders")
def test_nobody_is_named_who_does_not_push(student):
    """Nobody is named who does not push."""

    def judge(got, want):
        if not set() < {*got[0], *got[1]} <= {*want[0], *want[1]}:
            raise miss(got, want)

    judge_deciders(student, judge)


@check("find_deciders", weight=2)
def test_all_in_favour_are_found_in_order(student):
    """All in favour are found, the strongest first."""
    judge_deciders(student, lambda got, want: expect(got[0], want[0], what="your first list"))


@check("find_deciders")
def test_all_against_are_found_in_order(student):
    """All against are found, the most negative first."""
    judge_deciders(student, lambda got, want: expect(got[1], want[1], what="your second list"))
