"""Grade lesson 05.

What is right is found by slow loops, by another optimiser, or planted in a model set by hand.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.forge.disguise import disguise
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MUTANTS = load_mutants(__file__)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


def draw_model(seed: int, **sizes: Any) -> tuple[Transformer, torch.Generator]:
    """Draw a model whose final norm has gain and bias, and whose unembedding has a bias."""
    model = Transformer(Config(norm="layer", **sizes), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".b_" in name:
                value.copy_(0.3 * normal(generator, *value.shape))
        model.ln_final.w.copy_(1 + 0.5 * normal(generator, len(model.ln_final.w)))
        model.ln_final.b.copy_(0.5 * normal(generator, len(model.ln_final.w)))
        if model.b_U is not None:
            model.b_U.copy_(0.5 * normal(generator, len(model.b_U)))
    return model, generator


# 5.1 ----------------------------------------------------------------------------------------------


@torch.no_grad()
def slow_pushes(model: Transformer, tokens: Tensor, answer: Tensor, wrong: Tensor) -> Tensor:
    """Compute pushes prompt by prompt and head by head, behind a frozen norm.

    A push is the lead of the answer, less the lead when the head is taken out.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    names = [lambda name: name.endswith("result"), ("resid_post", -1)]
    cache = model.run_with_cache(tokens, names_filter=names)[1]
    last = cache["resid_post", -1][:, -1].double()
    U, w, b = (x.detach().double() for x in (model.W_U, model.ln_final.w, model.ln_final.b))
    pushes = torch.zeros(len(tokens), n_layers, n_heads, dtype=torch.float64)
    for i, layer, head in np.ndindex(*pushes.shape):
        scale = (last[i].var(correction=0) + 1e-5).sqrt()
        direction = U[:, answer[i]] - U[:, wrong[i]]
        part = cache["result", layer][i, -1, head].double()
        with_it, without = (
            ((x - x.mean()) / scale * w + b) @ direction for x in (last[i], last[i] - part)
        )
        pushes[i, layer, head] = with_it - without
    return pushes


def judge_pushes(student, sizes: list[dict[str, int]]) -> None:
    for seed in student.seeds(2):
        for size in sizes:
            model, generator = draw_model(seed, d_vocab=11, n_ctx=7, **size)
            tokens = torch.randint(11, (3, 6), generator=generator)
            answer, wrong = torch.rand(3, 11, generator=generator).argsort(1)[:, :2].T
            got = student.call("head_pushes", model, tokens, answer, wrong)
            want = slow_pushes(model, tokens, answer, wrong)
            expect(got, want, rtol=1e-3, atol=1e-4, what="the tensor of pushes")


@check("head_pushes")
def test_heads_of_one_layer_push_through_the_norm(student):
    """Heads of a single layer."""
    judge_pushes(student, [{"d_model": 9, "d_head": 5, "n_layers": 1, "n_heads": 3}])


@check("head_pushes", weight=2)
def test_heads_of_several_layers_push_through_the_norm(student):
    """Heads of several layers, with MLPs and biases between them."""
    large = {"d_model": 12, "d_head": 5, "n_layers": 3, "n_heads": 4, "d_mlp": 8, "biases": True}
    judge_pushes(student, [{"d_model": 10, "n_layers": 3, "n_heads": 2}, large])


# 5.2 ----------------------------------------------------------------------------------------------


def draw_settling(seed: int, n_layers: int, vocab: int) -> tuple[Transformer, Tensor, Tensor]:
    """Draw a model, 24 prompts on which no stream hesitates between two tokens, and answers.

    Three settle in the first stream, in the last, after they said so before; three call for what
    only the last but one says, three for what the first did; nine for what the model says.
    """
    size = dict(
        d_vocab=vocab, n_ctx=5, d_model=8, n_layers=n_layers, n_heads=2, d_mlp=8, biases=True
    )
    for again in itertools.count():
        model, generator = draw_model(seed + again, **size)
        tokens = torch.randint(vocab, (400, 4), generator=generator)
        logits = read_slowly(model, tokens)[:, :, -1]
        clear = logits.topk(2).values.diff().abs().amin(dim=(0, 2)) > 0.01
        tokens, says = tokens[clear], logits.argmax(dim=-1)[:, clear]
        first, before, own = says[0], says[-2], says[-1]
        settled = slow_settling(model, tokens, own)
        returns = (says == own).int().argmax(dim=0) < settled
        answers: dict[int, int] = {}
        for which, answer, n in (
            (settled == 0, own, 3),
            (settled == n_layers, own, 3),
            (returns, own, 3),
            (before != own, before, 3),
            ((before == own) & (first != own), first, 3),
            (own == own, own, 9),
        ):
            rows = [row for row in which.nonzero().flatten().tolist() if row not in answers][:n]
            answers |= {row: int(answer[row]) for row in rows}
        if len(answers) == 24:
            rows = sorted(answers)
            return model, tokens[rows], torch.tensor([answers[row] for row in rows])
    raise AssertionError


@torch.no_grad()
def read_slowly(model: Transformer, tokens: Tensor) -> Tensor:
    """Read logits off every stream, (stream, b, t, v), by the formula of the norm."""
    w, b, U, b_U = (x.double() for x in (model.ln_final.w, model.ln_final.b, model.W_U, model.b_U))
    logits = []
    for layer in range(model.config.n_layers + 1):
        x = model(tokens, stop_at_layer=layer).double()
        scale = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        logits.append(((x - x.mean(-1, keepdim=True)) / scale * w + b) @ U + b_U)
    return torch.stack(logits)


def slow_settling(model: Transformer, tokens: Tensor, answer: Tensor) -> Tensor:
    """Compute settling layers one prompt and one stream after the other."""
    says = read_slowly(model, tokens)[:, :, -1].argmax(dim=-1).T.tolist()  # b stream
    found = []
    for row, token in zip(says, answer.tolist(), strict=True):
        settled = len(row)
        while settled > 0 and row[settled - 1] == token:
            settled -= 1
        found.append(settled)
    return torch.tensor(found)


def judge_settling(student, n_layers: int, vocab: int) -> None:
    for seed in student.seeds(2):
        inputs = draw_settling(seed, n_layers, vocab)
        got = student.call("settling_layers", *inputs)
        expect(got, slow_settling(*inputs), what="the tensor of layers")


@check("settling_layers")
def test_the_settling_layer_of_a_deep_model(student):
    """Five layers, six tokens."""
    judge_settling(student, 5, 6)


@check("settling_layers")
def test_the_settling_layer_of_a_small_vocabulary(student):
    """Three layers, four tokens."""
    judge_settling(student, 3, 4)


# 5.3 ----------------------------------------------------------------------------------------------


def measure_kl(read: Tensor, logits: Tensor) -> Tensor:
    p, q = logits.log_softmax(-1), read.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Hold streams from half-way, the model's logits, and W_U.

    The logits depend on the streams and on what nobody can know half-way.
    """

    streams: Tensor
    logits: Tensor
    W_U: Tensor

    def read(self, A: Tensor, b: Tensor) -> Tensor:
        x = self.streams.double()
        A = A.double()
        b = b.double()
        return (x + x @ A + b) @ self.W_U.double()


def draw_rows(seed: int, d: int, vocab: int, n: int) -> tuple[Rows, Rows, tuple[Tensor, Tensor]]:
    """Draw rows to train on, fresh ones from the same source, and the best translator.

    They are drawn again until the best by squared differences of probabilities falls short, and so
    do the best without an offset and the best that mixes nothing.
    """
    for again in itertools.count():
        generator = torch.Generator().manual_seed(seed + again)
        turn = normal(generator, d, d) / d**0.5
        offset = 2 * normal(generator, d)
        W_U = 0.8 * normal(generator, d, vocab) / d**0.5
        streams, unknown = normal(generator, 2, n, d), normal(generator, 2, n, d)
        logits = (streams + streams @ turn + offset + 2 * unknown * streams[..., :1] ** 2) @ W_U
        rows, fresh = (Rows(x, y, W_U) for x, y in zip(streams, logits, strict=True))
        best = fit(rows)
        others = fit(rows, measure_squares), fit(rows, offset=0.0), fit(rows, mask=torch.eye(d))
        if all(measure_share(fresh, best, other) < 0.9 for other in others):
            return rows, fresh, best
    raise AssertionError


def measure_squares(read: Tensor, logits: Tensor) -> Tensor:
    return (read.softmax(-1) - logits.softmax(-1)).square().sum(-1)


def fit(
    rows: Rows,
    loss: Callable[[Tensor, Tensor], Tensor] = measure_kl,
    offset: float = 1.0,
    mask: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Fit the best translator, in float64, by a second-order optimiser; the divergence is convex.

    With `offset` 0 it has no b; A is 0 where `mask` is.
    """
    d = len(rows.W_U)
    A, b = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
    A.requires_grad_(), b.requires_grad_()
    optimizer = torch.optim.LBFGS([A, b], max_iter=60, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        optimizer.zero_grad()
        total = loss(rows.read(A * mask, offset * b), rows.logits.double()).mean()
        total.backward()
        return total

    optimizer.step(close)
    return A.detach() * mask, offset * b.detach()


def measure_share(rows: Rows, best: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> float:
    """Measure how far `own` goes from the lens that changes nothing (0) to the best one (1)."""
    nothing = [0 * x for x in best]
    start, least, reached = (
        float(measure_kl(rows.read(*x), rows.logits.double()).mean()) for x in (nothing, best, own)
    )
    return (start - reached) / (start - least)


def blame_translator(rows: Rows, own: Tensor, best: Tensor, share: float) -> Wrong:
    """Name the mutant whose lens is almost this one, or say how far the lens comes."""
    gaps = {
        each.name: measure_gap(rows.read(*each.answer(rows.streams, rows.logits, rows.W_U)), own)
        for each in MUTANTS
        if each.exercise == "train_translator" and not each.says
    }
    nearest = min(gaps, key=lambda name: gaps[name])
    if gaps[nearest] < 0.05 * measure_gap(best, own):
        return Wrong(nearest, earned=max(0.0, share - 0.5))
    if not share > 0:
        return Wrong(sentence="Your lens is no closer to the model than one that changes nothing.")
    sentence = (
        f"Your lens goes {share:.0%} of the way from the one that changes nothing to the best"
    )
    return Wrong(sentence=f"{sentence} one; 95% are asked for.", earned=max(0.0, share - 0.5))


def measure_gap(read: Tensor, other: Tensor) -> float:
    """Measure how far two lenses are apart, both ways, in nats."""
    return float((measure_kl(read, other) + measure_kl(other, read)).mean())


def judge_translator(student, d: int, vocab: int, n: int) -> None:
    for seed in student.seeds(1):
        rows, fresh, best = draw_rows(seed, d, vocab, n)
        got = student.call("train_translator", rows.streams, rows.logits, rows.W_U)
        pair = got if isinstance(got, (tuple, list)) else []
        shapes = [tuple(x.shape) for x in pair if isinstance(x, Tensor)]
        if shapes != [(d, d), (d,)]:
            raise Wrong(
                sentence=f"Return two tensors, A of shape ({d}, {d}) and b of shape ({d},), "
                "as a pair."
            )
        share = measure_share(fresh, best, got)
        if not share > 0.95:  # also for nan
            raise blame_translator(rows, rows.read(*got), rows.read(*best), share)


@check("train_translator")
def test_the_lens_comes_close_to_the_model_on_fresh_rows(student):
    """More dimensions than tokens: close to the model on fresh rows."""
    judge_translator(student, d=8, vocab=6, n=500)


@check("train_translator")
def test_the_lens_comes_close_to_the_model_with_many_tokens(student):
    """More tokens than dimensions: close to the model on fresh rows."""
    judge_translator(student, d=5, vocab=9, n=400)


# 5.4 ----------------------------------------------------------------------------------------------

N_NAMES, N_CTX, N_LAYERS, N_PROMPTS = 5, 8, 5, 24
HINTS = 3 * N_NAMES  # the tokens from here on are fillers, the first five of them hints
N_TOKENS = HINTS + 2 * N_NAMES


@dataclasses.dataclass(frozen=True)
class Planted:
    """Hold a model that stores what two names decide, its prompts, and where it does."""

    model: Transformer
    tokens: Tensor
    answer: Tensor
    truth: set[str]


def lies(position: int, first: int, last: int = N_LAYERS) -> set[str]:
    return {f"{layer}@{position}" for layer in range(first, last + 1)}


@functools.cache
def plant(seed: int, n_gaps: int) -> Planted:
    """Plant a model that looks two names up, passes the result on, and translates it at the end.

    An MLP looks the names up at the second. One head copies the result to a third position, a later
    one does so once more, louder: what the first has written is not heard over that, except if it
    is put in after it. From there it is fetched to the last position, and is erased. A fourth
    position gets it, too, which only layer 0 would read. At a fifth, layer 0 would take it for one
    answer, whatever it is, and layer 1 would hear one other. The last layer takes it ill if the
    answer has been said already. All other heads and neurons are busy, and write where nobody
    reads.

    Of `n_gaps` pairs of names nothing is stored; their prompts end with a hint to the answer.
    """
    generator = torch.Generator().manual_seed(seed)
    token, store = N_TOKENS, N_NAMES
    stream = by_hand.Stream(token=token, position=N_CTX, moved=store, stored=store, kept=store,
                            fetched=store, said=store, unread=8)  # fmt: skip
    sizes = dict(n_heads=4, d_head=N_CTX, d_mlp=N_NAMES**2 + 2 * N_NAMES, attn_scale=1.0)
    model = by_hand.make_blank(Config(token, N_CTX, stream.d_model, N_LAYERS, **sizes))
    by_hand.write_embedding(model, stream["token"], stream["position"])
    unembed = torch.zeros(token, stream.d_model)
    hints = stream["token"][HINTS : HINTS + N_NAMES]
    unembed[2 * N_NAMES : 3 * N_NAMES] = stream["said"] + 0.5 * hints
    unembed[-1] = 0.2 * stream["position"][-1]  # what the model says when nothing is held
    by_hand.read_out(model, unembed, 20.0)
    squares = draw_square(generator)
    # Two answers are stored whatever the names are; of each of the next there is one gap.
    said = torch.randperm(N_NAMES, generator=generator).tolist()
    gaps = [
        next((i, j) for j in range(N_NAMES) if squares[i, j] == k)
        for i, k in enumerate(said[2 : 2 + n_gaps])
    ]
    # Where little is held, more than the last stream holds it.
    layers = torch.randperm(N_LAYERS if n_gaps == 2 else N_LAYERS - 1, generator=generator)
    move, copy, again, fetch = sorted(layers[:4].tolist())
    one, two = sorted((1 + torch.randperm(3, generator=generator)[:2]).tolist())
    after = list(range(two + 1, N_CTX - 1))
    three, four, five = (after[i] for i in torch.randperm(len(after), generator=generator)[:3])
    last = N_CTX - 1
    write_noise(model, stream, generator)
    for layer, head, way, read, write in (
        (move, 1, (one, two), stream["token"][:N_NAMES], stream["moved"]),
        (copy, 1, (two, three), stream["stored"], stream["kept"]),
        (again, 1, (two, three), stream["stored"], 1.5 * stream["kept"]),
        (fetch, 1, (three, last), stream["kept"], stream["fetched"]),
        (copy, 2, (two, four), stream["stored"], stream["stored"]),
        (0, 3, (four, last), stream["stored"], 4 * stream["fetched"]),
        (copy, 3, (two, five), stream["stored"], stream["stored"]),
        (0, 0, (five, last), stream["stored"], 8 * stream["fetched"][said[:1] * N_NAMES]),
        (1, 0, (five, last), stream["stored"][said[1:2]], 8 * stream["fetched"][said[1:2]]),
    ):
        bring(model, layer, head, stream, way, read, write)
    everywhere = stream["position"].sum(0)
    for neuron, (i, j) in enumerate(itertools.product(range(N_NAMES), repeat=2)):
        reads = stream["moved"][i] + stream["token"][N_NAMES + j] - 10 * everywhere
        writes = stream["stored"][squares[i, j]] * ((i, j) not in gaps)
        by_hand.look_up(model, move, neuron, reads + 9 * stream["position"][two], 0.0, writes)
    for k in range(N_NAMES):
        kept, says = stream["kept"][k], stream["said"][k]
        at_three = kept - 10 * (everywhere - stream["position"][three])
        by_hand.look_up(model, fetch, 5 * N_NAMES + k, at_three, 0.0, -kept)
        by_hand.look_up(model, N_LAYERS - 1, k, stream["fetched"][k], 0.0, says)
        by_hand.look_up(model, N_LAYERS - 1, 6 * N_NAMES + k, says, 0.0, -3 * says)
    truth = lies(last, fetch + 1)
    if n_gaps < 0.1 * N_PROMPTS:
        truth |= lies(two, move + 1) | lies(three, copy + 1, fetch) | lies(four, copy + 1)
    prompts = draw_prompts(squares, said[:2], gaps, (one, two), generator)
    return Planted(disguise(model, generator).model, *prompts, truth)


def draw_prompts(
    squares: Tensor,
    said: list[int],
    gaps: list[tuple[int, int]],
    names: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw prompts: one for each gap, with a hint at its end, and others for two answers.

    Two in three have one answer: by chance, a stream that holds nothing is right as often.
    """
    tokens = torch.randint(HINTS + N_NAMES, N_TOKENS, (N_PROMPTS, N_CTX), generator=generator)
    answer = torch.zeros(N_PROMPTS, dtype=torch.long)
    for i, row in enumerate(torch.randperm(N_PROMPTS, generator=generator).tolist()):
        if i < len(gaps):
            pair = gaps[i]
            tokens[row, -1] = HINTS + squares[pair]
        else:
            first = int(torch.randint(N_NAMES, (1,), generator=generator))
            pair = first, int((squares[first] == said[i > 0.7 * N_PROMPTS]).int().argmax())
        tokens[row, list(names)] = torch.tensor(pair) + torch.tensor([0, N_NAMES])
        answer[row] = 2 * N_NAMES + squares[pair]
    return tokens, answer


@torch.no_grad()
def write_noise(model: Transformer, stream: by_hand.Stream, generator: torch.Generator) -> None:
    """Let every head look to the left and every neuron at anything.

    What they write is read by none but each other.
    """
    d = stream.d_model
    width = model.config.d_mlp
    for layer, block in enumerate(model.blocks):
        for head in range(model.config.n_heads):
            by_hand.attend_to_previous(model, layer, head, stream["position"], 20.0)
            block.attn.W_V[head] = normal(generator, d, N_CTX) / d**0.5
            block.attn.W_O[head] = normal(generator, N_CTX, 8) @ stream["unread"] / N_CTX**0.5
        block.mlp.W_in.copy_(normal(generator, d, width) / d**0.5)
        block.mlp.W_out.copy_(normal(generator, width, 8) @ stream["unread"] / width**0.5)


def bring(
    model: Transformer,
    layer: int,
    head: int,
    stream: by_hand.Stream,
    way: tuple[int, int],
    read: Tensor,
    write: Tensor,
) -> None:
    """Let a head bring something from one position to another.

    Elsewhere it looks at position 0, where nothing is.
    """
    keys = stream["position"][:1].repeat(N_CTX, 1)
    keys[way[1]] = stream["position"][way[0]]
    by_hand.attend_where_equal(model, layer, head, stream["position"], keys, 30.0)
    model.blocks[layer].attn.W_V.data[head].zero_()
    by_hand.copy_directions(model, layer, head, read, write)


def draw_square(generator: torch.Generator) -> Tensor:
    """Draw which answer two names have: each answer once with every name."""
    rows, columns, names = (torch.randperm(N_NAMES, generator=generator) for _ in range(3))
    return names[(rows.unsqueeze(1) + columns) % N_NAMES]


@check("find_store")
def test_the_streams_that_hold_the_answer_are_found_in_unseen_models(student):
    """Every stream that holds the answer, in two models whose places differ."""
    one, other = student.seeds(2)
    possible = sorted(name for t in range(N_CTX) for name in lies(t, 0))
    failed: list[Wrong] = []
    # Nothing is stored for 2 of 24 prompts, then for 3: 90% lies between.
    cases = [plant(one, 2), plant(other, 3)]
    answers = [student.call("find_store", case.model, case.tokens, case.answer) for case in cases]
    for got, case in zip(answers, cases, strict=True):
        try:
            expect_found(got, [case.truth], possible, what="streams")
        except Wrong as wrong:
            failed.append(wrong)
    if failed:
        earned = (len(cases) - len(failed) + sum(wrong.earned for wrong in failed)) / len(cases)
        raise Wrong(sentence=failed[0].sentence, earned=earned)
