"""Grade lesson 01.

What is right is found by slow loops, by properties, or planted in a model set by hand.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand

MISTAKES = {
    "attention_pattern": {
        "softmax_over_wrong_axis": "For every key your weights sum to 1 over the queries; it is "
        "the query that has one unit of attention to spread.",
        "masks_after_the_softmax": "Later keys get 0, but what they had is lost and a query's "
        "weights no longer sum to 1: when must the softmax learn that a key is out of bounds?",
        "hides_the_present": "The first query has nothing left to look at and becomes nan: a "
        "position may attend to itself.",
        "forgets_the_causal_mask": "Your queries also look at later positions, where the answer "
        "stands.",
        "masks_the_past": "Your queries look only at themselves and later positions: the other "
        "triangle is the future.",
        "hides_the_future_with_zeros": "A later key that has score 0 still gets weight, since "
        "exp(0) is 1: which score gives weight 0?",
        "swaps_query_and_key": "Row i of your pattern holds the scores of key i for all queries: "
        "the one who looks and the one who is looked at are swapped.",
        "forgets_the_scale": "Your scores are plain dot products: those of long vectors are large, "
        "and the task divides them by something.",
        "divides_by_the_width": "You divide the scores by the head width itself, which makes the "
        "pattern too even.",
        "ignores_the_scores": "Every query looks at all positions up to its own alike: what have "
        "queries and keys decided?",
        "overflows": "Large scores give nan: the exponential of a few hundred is more than a float "
        "holds, so subtract something first, or let torch do it.",
    },
    "run_transformer": {
        "forgets_the_positions": "Without the position embedding, a token starts with the same "
        "stream wherever it stands.",
        "overwrites_the_stream": "What attention wrote has replaced the stream: nothing in the "
        "stream is ever overwritten.",
        "forgets_the_causal_mask": "In your model a position reads from later ones: what may a "
        "query look at?",
        "forgets_the_scale": "Your attention is too sharp: the scores have to be divided before "
        "the softmax.",
        "heads_in_sequence": "Your second head reads what the first head of its own layer has "
        "written: all heads of a layer read the same stream.",
        "reuses_the_first_layer": "All your layers have the weights of the first one.",
        "forgets_the_relu": "Your MLP is one linear map after another, so that it could as well be "
        "one matrix: something stands between its two.",
        "mlp_reads_the_old_stream": "Your MLP does not see what attention has just added in its "
        "own layer.",
        "builds_a_transformer": "You let a Transformer do it: the task asks for torch alone.",
        "mlp_replaces_the_stream": "What the MLP wrote has replaced the stream: the MLP is a "
        "writer like the others.",
    },
    "split_head_by_source": {
        "forgets_the_pattern": "You have what each position offers, but every query gets all of "
        "it: how much of it does this query take?",
        "gives_the_querys_own_value": "You weight the value of the position that reads: whose "
        "value does a query's weight for a key belong to?",
        "ignores_the_layer": "Your answer is right for layer 0, whatever layer was asked for.",
        "ignores_the_head": "Your answer is right for head 0, whatever head was asked for.",
        "skips_the_value_and_output_weights": "You weight the streams at the source positions: a "
        "head passes on only what its own two matrices let through.",
        "leaves_out_the_unembedding": "You have the vectors that the head adds to the stream: "
        "which matrix turns a stream into logits?",
        "shares_evenly": "Your sources add up to the right sum, but each of them got the same "
        "share of it.",
    },
    "find_deciders": {
        "reads_the_answer_logit_alone": "You look only at the logit of the answer: a writer that "
        "raises all logits alike decides nothing.",
        "averages_over_positions": "You average over all positions, but the answer is called for "
        "at one.",
        "judges_by_one_prompt": "You look at the first prompt only, in which one writer is right "
        "by accident.",
        "adds_up_the_prompts": "You add up the pushes of all prompts, so that the more prompts "
        "there are the less it takes.",
        "flips_the_sign": "Your two lists are exchanged: which of the two tokens is subtracted "
        "from which?",
        "forgets_those_against": "You have found the writers that favour the answer, but some push "
        "against it: pushes can be negative.",
        "forgets_the_sign": "Your first list goes by the size of the push: whoever pushes hard "
        "against the answer does not favour it.",
        "lists_the_weakest_first": "Your writers are the right ones, with the weakest first.",
    },
}

Blame = dict[str, Callable[[], Any]]


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


# 1.1 ----------------------------------------------------------------------------------------------


def slow_pattern(q: Tensor, k: Tensor) -> Tensor:
    """Compute attention query by query, over the keys that each may see."""
    n_batch, n_pos, n_heads, width = q.shape
    pattern = torch.zeros(n_batch, n_heads, n_pos, n_pos, dtype=torch.float64)
    for b, n, i in (
        (b, n, i) for b in range(n_batch) for n in range(n_heads) for i in range(n_pos)
    ):
        scores = [
            float(q[b, i, n].double() @ k[b, j, n].double()) / math.sqrt(width)
            for j in range(i + 1)
        ]
        weights = [math.exp(score - max(scores)) for score in scores]
        pattern[b, n, i, : i + 1] = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    return pattern


def wrong_patterns(q: Tensor, k: Tensor) -> Blame:
    width = q.shape[-1]
    t = q.shape[1]
    dots = torch.einsum("bqnh,bknh->bnqk", q, k)
    scores = dots / math.sqrt(width)
    later = torch.ones(t, t).triu(1).bool()
    minus = float("-inf")
    hidden = scores.masked_fill(later, minus)
    return {
        "softmax_over_wrong_axis": lambda: hidden.softmax(-2),
        "masks_after_the_softmax": lambda: scores.softmax(-1).masked_fill(later, 0),
        "hides_the_present": lambda: scores.masked_fill(
            torch.ones(t, t).triu().bool(), minus
        ).softmax(-1),
        "forgets_the_causal_mask": lambda: scores.softmax(-1),
        "masks_the_past": lambda: scores.masked_fill(later.T, minus).softmax(-1),
        "hides_the_future_with_zeros": lambda: scores.masked_fill(later, 0).softmax(-1),
        "swaps_query_and_key": lambda: (
            scores.transpose(-1, -2).masked_fill(later, minus).softmax(-1)
        ),
        "forgets_the_scale": lambda: dots.masked_fill(later, minus).softmax(-1),
        "ignores_the_scores": lambda: (0 * scores).masked_fill(later, minus).softmax(-1),
        "divides_by_the_width": lambda: (dots / width).masked_fill(later, minus).softmax(-1),
    }


def judge_pattern(student, holds: Callable[[Tensor, Tensor], bool]) -> None:
    """Hold the pattern to one property, and say what is wrong if it has not got it."""
    for seed in student.seeds(2):
        generator = torch.Generator().manual_seed(seed)
        for shape in ((2, 5, 3, 4), (3, 4, 1, 7), (1, 1, 2, 3)):
            q, k = normal(generator, *shape), normal(generator, *shape)
            got, want = student.call("attention_pattern", q, k), slow_pattern(q, k)
            if (
                not isinstance(got, Tensor)
                or got.shape != want.shape
                or not holds(got.double(), want)
            ):
                expect(got, want, mistakes=wrong_patterns(q, k), what="the pattern")


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
    judge_pattern(student, lambda got, want: torch.allclose(got, want, rtol=1e-4, atol=1e-5))


@check("attention_pattern")
def test_large_scores_do_no_harm(student):
    """Scores of a few hundred do no harm."""
    for seed in student.seeds(2):
        generator = torch.Generator().manual_seed(seed)
        q, k = 20 * normal(generator, 2, 6, 3, 4), 20 * normal(generator, 2, 6, 3, 4)
        got, want = student.call("attention_pattern", q, k), slow_pattern(q, k)
        # This is nan for no other known reason.
        lost = got if isinstance(got, Tensor) and got.isnan().any() else None
        blame = wrong_patterns(q, k) | {"overflows": lambda lost=lost: lost}
        expect(got, want, mistakes=blame, atol=2e-3, what="the pattern of large scores")


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
    shapes |= dict.fromkeys(("W_Q", "W_K", "W_V"), (layers, heads, d, h)) | {
        "W_O": (layers, heads, h, d)
    }
    return {
        name: normal(generator, *shape) * 1.5 / math.sqrt(shape[-2])
        for name, shape in shapes.items()
    }


def slow_transformer(weights: dict[str, Tensor], tokens: Tensor, mistake: str = "") -> Tensor:
    """Compute logits prompt by prompt, layer by layer, head by head, position by position.

    One mistake is made if it is named.
    """
    w = {name: value.double() for name, value in weights.items()}
    logits = []
    for prompt in tokens.tolist():
        stream = [
            w["W_E"][token] + w["W_pos"][i] * (mistake != "forgets_the_positions")
            for i, token in enumerate(prompt)
        ]
        for layer in range(len(w["W_Q"])):
            used = 0 if mistake == "reuses_the_first_layer" else layer
            stream = slow_layer({name: w[name][used] for name in LAYERED}, stream, mistake)
        logits.append(torch.stack([x @ w["W_U"] for x in stream]))
    return torch.stack(logits)


LAYERED = ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out")


def slow_layer(w: dict[str, Tensor], before: list[Tensor], mistake: str) -> list[Tensor]:
    after = [0 * x if mistake == "overwrites_the_stream" else x for x in before]
    for head in range(len(w["W_Q"])):
        read = after if mistake == "heads_in_sequence" else before
        after = [x + slow_write(w, head, read, i, mistake) for i, x in enumerate(after)]
    result = []
    for old, new in zip(before, after, strict=True):
        pre = (old if mistake == "mlp_reads_the_old_stream" else new) @ w["W_in"]
        post = pre if mistake == "forgets_the_relu" else pre.clamp(min=0)
        result.append(post @ w["W_out"] + (0 if mistake == "mlp_replaces_the_stream" else new))
    return result


def slow_write(
    w: dict[str, Tensor], head: int, stream: list[Tensor], i: int, mistake: str
) -> Tensor:
    """Compute what one head writes at position i."""
    seen = stream if mistake == "forgets_the_causal_mask" else stream[: i + 1]
    scale = 1 if mistake == "forgets_the_scale" else math.sqrt(w["W_Q"].shape[-1])
    scores = [float((stream[i] @ w["W_Q"][head]) @ (x @ w["W_K"][head])) / scale for x in seen]
    exps = [math.exp(score - max(scores)) for score in scores]
    z = sum(e / sum(exps) * (x @ w["W_V"][head]) for e, x in zip(exps, seen, strict=True))
    return z @ w["W_O"][head]


def judge_transformer(student, sizes: list[dict[str, int]], without: tuple[str, ...] = ()) -> None:
    if "Transformer" in student.find_called("run_transformer"):
        raise Wrong("builds_a_transformer")
    for seed in student.seeds(2):
        for size in sizes:
            weights = draw_weights(seed, **size)
            weights |= {name: torch.zeros_like(weights[name]) for name in without}
            generator = torch.Generator().manual_seed(seed)
            tokens = torch.randint(size["vocab"], (2, size["n_ctx"] - 1), generator=generator)
            got = student.call("run_transformer", weights, tokens)
            want = slow_transformer(weights, tokens)
            names = MISTAKES["run_transformer"]
            blame = {n: functools.partial(slow_transformer, weights, tokens, n) for n in names}
            expect(got, want, mistakes=blame, rtol=1e-3, atol=1e-4, what="the tensor of logits")


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
    attn = model.blocks[layer].attn
    Q, K, V = (W[head].detach().double() for W in (attn.W_Q, attn.W_K, attn.W_V))
    to_logits = attn.W_O[head].detach().double() @ model.W_U.detach().double()
    n_batch, t = tokens.shape
    v = model.config.d_vocab
    result = torch.zeros(n_batch, t, t, v, dtype=torch.float64)
    for b, i in ((b, i) for b in range(n_batch) for i in range(t)):
        exps = [
            math.exp(float((streams[b, i] @ Q) @ (streams[b, j] @ K)) / model.config.attn_scale)
            for j in range(i + 1)
        ]
        for j, e in enumerate(exps):
            result[b, i, j] = e / sum(exps) * (streams[b, j] @ V @ to_logits)
    return result


def wrong_splits(model: Transformer, tokens: Tensor, layer: int, head: int, want: Tensor) -> Blame:
    pattern = model.run_with_cache(tokens)[1]["pattern", layer][:, head].detach().double()
    stream = model(tokens, stop_at_layer=layer).detach().double()
    t = tokens.shape[1]
    OV = model.OV(layer, head).detach().double()
    U = model.W_U.detach().double()
    offered = stream @ OV @ U  # b k v
    return {
        "forgets_the_pattern": lambda: offered.unsqueeze(1).expand(-1, t, -1, -1),
        "gives_the_querys_own_value": lambda: torch.einsum("bqk,bqv->bqkv", pattern, offered),
        "ignores_the_layer": lambda: slow_split(model, tokens, 0, head),
        "ignores_the_head": lambda: slow_split(model, tokens, layer, 0),
        "skips_the_value_and_output_weights": lambda: torch.einsum(
            "bqk,bkd,dv->bqkv", pattern, stream, U
        ),
        "leaves_out_the_unembedding": lambda: torch.einsum("bqk,bkd->bqkd", pattern, stream @ OV),
        "shares_evenly": lambda: (want.sum(2, keepdim=True) / t).expand_as(want),
    }


def judge_split(student, holds: Callable[[Tensor, Tensor], bool]) -> None:
    for seed in student.seeds(2):
        for layer, head, heads in ((2, 1, 3), (1, 3, 4), (0, 0, 1)):
            size = dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=3, attn_scale=0.1)
            named = NamedModel("random", seed=seed, n_heads=heads, **size)
            tokens = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(seed))
            got = student.call("split_head_by_source", named, tokens, layer, head)
            model = named.build()
            want = slow_split(model, tokens, layer, head)
            if (
                not isinstance(got, Tensor)
                or got.shape != want.shape
                or not holds(got.double(), want)
            ):
                blame = wrong_splits(model, tokens, layer, head, want)
                expect(got, want, mistakes=blame, rtol=1e-3, atol=1e-4, what="the split")


@check("split_head_by_source")
def test_the_sources_add_up_to_what_the_head_adds_to_the_logits(student):
    """The sources add up to what the head adds to the logits."""
    judge_split(
        student, lambda got, want: torch.allclose(got.sum(2), want.sum(2), rtol=1e-3, atol=1e-4)
    )


@check("split_head_by_source", weight=2)
def test_every_source_has_its_own_share(student):
    """Every source has its own share."""
    judge_split(student, lambda got, want: torch.allclose(got, want, rtol=1e-3, atol=1e-4))


# 1.4 ----------------------------------------------------------------------------------------------

N_TOKENS, N_CTX, N_PROMPTS = 10, 14, 16
ACCIDENTS = (0, 12, 15)  # prompts on which the bigram head is right: the mean shows it, not the ten


@dataclasses.dataclass(frozen=True)
class Planted:
    """Hold a model with known deciders, and prompts that it answers.

    Its stream is turned, so that no weight can be read by eye.
    """

    config: dict
    weights: dict[str, Tensor]
    tokens: Tensor
    answer: Tensor
    wrong: Tensor
    deciders: tuple[list[str], list[str]]

    @property
    def pushers(self) -> set[str]:
        return {*self.deciders[0], *self.deciders[1]}

    @property
    def inputs(self) -> tuple:
        return self.config, self.weights, self.tokens, self.answer, self.wrong


@functools.cache
def plant(seed: int, n_favour: int, n_against: int) -> Planted:
    """Plant induction in three layers of four heads, with heads at random places.

    Layer 0: one head writes the previous token; one raises all logits; one writes a successor of
    the current token, right on a few prompts only; one raises the wrong token. Of the others some
    match and write the next token for or against, two of them too weakly, and one is loud.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = by_hand.Stream(
        token=N_TOKENS, position=N_CTX, previous=N_TOKENS, next=N_TOKENS, unread=N_TOKENS
    )
    config = Config(
        N_TOKENS, N_CTX, stream.d_model, n_layers=3, n_heads=4, d_head=N_CTX, attn_scale=1.0
    )
    model = by_hand.make_blank(config)
    token = stream["token"]
    by_hand.write_embedding(model, token, stream["position"])
    by_hand.read_out(model, stream["next"], 1.0)
    successor = torch.roll(torch.arange(N_TOKENS), -1 - seed % (N_TOKENS - 2))

    previous, raiser, bigram, misled = torch.randperm(4, generator=generator).tolist()
    by_hand.attend_to_previous(model, 0, previous, stream["position"], 20.0)
    by_hand.copy_directions(model, 0, previous, token, stream["previous"])
    by_hand.copy_directions(
        model, 0, raiser, token, 10 * stream["next"].sum(0).expand(N_TOKENS, -1)
    )
    by_hand.attend_where_equal(model, 0, bigram, stream["position"], stream["position"], 20.0)
    by_hand.copy_directions(model, 0, bigram, token, 6 * stream["next"][successor])
    by_hand.attend_where_equal(
        model, 0, misled, stream["position"][11:12], stream["position"][7:8], 20.0
    )
    by_hand.copy_directions(model, 0, misled, token, 3 * stream["next"])

    pushes = [9.0, 5.0, 2.5][:n_favour] + [-4.0, -2.0][:n_against] + [0.65, -0.2]
    places = [divmod(int(place), 4) for place in torch.randperm(8, generator=generator)]
    for (layer, head), push in zip(places, pushes, strict=False):
        by_hand.attend_where_equal(model, layer + 1, head, token, stream["previous"], 20.0)
        push *= 1 + 0.2 * torch.rand(1, generator=generator).item()
        by_hand.copy_directions(model, layer + 1, head, token, push * stream["next"])
    by_hand.copy_directions(model, places[-1][0] + 1, places[-1][1], token, 30 * stream["unread"])

    turn = torch.linalg.qr(normal(generator, stream.d_model, stream.d_model)).Q
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        weights[name] = value @ turn if name.endswith(("W_E", "W_pos", "W_O")) else turn.T @ value
    labels = [f"a{layer + 1}.h{head}" for layer, head in places]
    against = labels[n_favour : n_favour + n_against]
    against.insert(1, f"a0.h{misled}")
    deciders = [*labels[:n_favour], f"a0.h{bigram}"], against
    return Planted(
        dataclasses.asdict(config), weights, *draw_prompts(generator, successor), deciders
    )


def draw_prompts(generator: torch.Generator, successor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw token 0, seven distinct tokens, and the first four again; the fifth comes next.

    `successor` is right on ACCIDENTS only.
    """
    prompts: list[list[int]] = []
    while len(prompts) < N_PROMPTS:
        block = (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:7]).tolist()
        accident = int(successor[block[3]])
        if (block[4] == accident) == (len(prompts) in ACCIDENTS) and block[6] != accident:
            prompts.append([0, *block, *block[:4]])
    tokens = torch.tensor(prompts)
    return tokens, tokens[:, 5], tokens[:, 7]


def wrong_deciders(case: Planted) -> Blame:
    model = Transformer(Config(**case.config))
    model.load_state_dict(case.weights)
    parts = model.decompose(model.run_with_cache(case.tokens)[1])
    W_U = model.W_U.detach()
    answers, wrongs = W_U[:, case.answer].T.unsqueeze(1), W_U[:, case.wrong].T.unsqueeze(1)  # b 1 d
    reads = {name: (part.detach() * answers).sum(-1) for name, part in parts.items()}  # b t
    pushes = {name: (part.detach() * (answers - wrongs)).sum(-1) for name, part in parts.items()}
    favour, against = case.deciders
    last = {name: push[:, -1] for name, push in pushes.items()}
    by_size = sorted((*favour, *against), key=lambda name: -abs(float(last[name].mean())))
    return {
        "reads_the_answer_logit_alone": lambda: choose(
            {name: read[:, -1].mean() for name, read in reads.items()}
        ),
        "averages_over_positions": lambda: choose(
            {name: push.mean() for name, push in pushes.items()}
        ),
        "judges_by_one_prompt": lambda: choose({name: push[0] for name, push in last.items()}),
        "adds_up_the_prompts": lambda: choose({name: push.sum() for name, push in last.items()}),
        "flips_the_sign": lambda: (against, favour),
        "forgets_those_against": lambda: (favour, []),
        "forgets_the_sign": lambda: (by_size, against),
        "lists_the_weakest_first": lambda: (favour[::-1], against[::-1]),
    }


def choose(pushes: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    names = sorted(pushes, key=lambda name: float(pushes[name]))
    return [n for n in reversed(names) if pushes[n] >= 1], [n for n in names if pushes[n] <= -1]


def judge_deciders(student, holds: Callable[[list[str], list[str], Planted], bool]) -> None:
    sizes = ((3, 2), (2, 1), (1, 0))
    cases = [
        plant(seed, *size) for seed, size in zip(student.seeds(len(sizes)), sizes, strict=True)
    ]
    for case in cases:
        got = student.call("find_deciders", *case.inputs)
        lists = isinstance(got, (list, tuple)) and all(
            isinstance(part, (list, tuple)) for part in got
        )
        if not lists or len(got) != 2:
            raise Wrong(
                sentence="Return two lists of labels: the writers in favour, and those against."
            )
        favour, against = (list(part) for part in got)
        if not holds(favour, against, case):
            blame_deciders((favour, against), case)


def blame_deciders(got: tuple, case: Planted) -> None:
    for name, value in wrong_deciders(case).items():
        if got == value():
            raise Wrong(name)
    if not (got[0] or got[1]):
        where = "at which position do you look, and which two logits do you compare"
        raise Wrong(sentence=f"You name nobody, but the model answers every prompt: {where}?")
    named = set(got[0]) | set(got[1])
    true = case.pushers
    found = (
        f"You name {len(named & true)} of the {len(true)} writers that push, "
        f"and {len(named - true)} that do not"
    )
    raise Wrong(sentence=f"{found}; the rest is which list each is in, and the order.")


@check("find_deciders")
def test_the_strongest_writer_in_favour_is_found(student):
    """The writer that favours the answer most comes first."""
    judge_deciders(student, lambda favour, against, case: favour[:1] == case.deciders[0][:1])


@check("find_deciders")
def test_nobody_is_named_who_does_not_push(student):
    """Nobody is named who does not push."""
    judge_deciders(
        student, lambda favour, against, case: set() < {*favour, *against} <= case.pushers
    )


@check("find_deciders", weight=2)
def test_all_in_favour_are_found_in_order(student):
    """All in favour are found, the strongest first."""
    judge_deciders(student, lambda favour, against, case: favour == case.deciders[0])


@check("find_deciders")
def test_all_against_are_found_in_order(student):
    """All against are found, the most negative first."""
    judge_deciders(student, lambda favour, against, case: against == case.deciders[1])
