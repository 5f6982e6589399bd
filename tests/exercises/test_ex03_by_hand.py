"""Grade lesson 03.

Heads are judged by what they do to streams and prompts, an unknown model by how it was planted.
"""

import random

import torch
from torch import Tensor

from mini_transformer import Config, Transformer
from mini_transformer.course.grading.checks import Wrong, check, expect

MISTAKES = {
    "previous_token_qk": {
        "attends_to_itself": "Your query at position i scores the key at i; move one of the two by "
        "a position.",
        "attends_to_the_next": "Your query at i scores the key at i + 1, which it cannot see: "
        "exchange what W_Q and W_K read.",
        "attends_to_all_before": "Your query scores every earlier position: each position needs a "
        "dimension that is its own.",
        "strength_left_out": "The right keys are found, with a score of 1: your head does not use "
        "`strength`.",
        "strength_twice": "The score is strength squared: both W_Q and W_K carry the strength, and "
        "scores are their product.",
        "scale_left_out": "Scores are divided by attn_scale after your weights were applied; yours "
        "come out too small by that.",
        "assumes_axes": "Your head looks for position i on axis i of the stream; here positions "
        "are rows of `position`.",
        "transposed_weights": "Each weight is (d_model, d_head), because a stream row multiplies "
        "it from the left: yours is transposed.",
        "ignores_d_head": "Your weights have as many columns as positions, not d_head: leave the "
        "dimensions that you do not need at zero.",
        "fills_the_unused_dimensions": "Positions match as they should, but other things in the "
        "stream are compared too: what does your head read that is no position?",
    },
    "copy_ov": {
        "swaps_source_and_target": "Your head reads along the targets and writes along the "
        "sources: exchange them.",
        "writes_back_the_source": "Your head writes what it read, along the same direction: W_O "
        "should turn it into the target.",
        "writes_every_target": "Whatever source it reads, your head writes the sum of all targets: "
        "the sources share a dimension of the head.",
        "normalises_targets": "Your head writes in the right direction, but with length 1: targets "
        "may be longer or shorter.",
        "pairs_off_by_one": "Your head turns source[i] into target[i + 1]: W_V and W_O disagree on "
        "which dimension is which.",
        "assumes_axes": "Your head reads source i from axis i of the stream; here sources are rows "
        "of `source`.",
        "transposed_weights": "W_V is (d_model, d_head) and W_O (d_head, d_model); yours are "
        "transposed.",
        "passes_other_things_on": "Sources become targets as they should, but your head also "
        "copies what is orthogonal to all sources.",
    },
    "match_qk": {
        "matches_the_token_itself": "Your head finds the positions that hold the query's token; "
        "the key should read what the first head wrote there.",
        "composes_with_the_query": "Your query reads what the first head wrote and your key reads "
        "the token: the two are exchanged.",
        "matches_the_tokens_before": "Your query and your key both read what the first head wrote; "
        "the query should read the token at its own position.",
        "strength_left_out": "Matches score 1 whatever `strength` is: one of your two weights has "
        "to carry it.",
        "scale_left_out": "Matches score `strength / attn_scale`: the division comes after your "
        "weights, so they have to make up for it.",
        "key_reads_both": "Your key reads the token at its own position as well as the one before "
        "it: only the latter tells where to look.",
        "transposed_weights": "W_Q and W_K have the shape of the first head's W_V, (d_model, "
        "d_head): yours are transposed.",
    },
    "induction_weights": {
        "ignores_its_arguments": "Your weights have the same shapes for every d_vocab and n_ctx: "
        "the lesson's sizes are only one case.",
        "attends_evenly": "Layer 0 spreads its attention evenly over the past: does the stream "
        "hold the position, and do queries and keys read it?",
        "attends_to_itself": "Layer 0 attends to the position itself instead of the one before.",
        "attends_too_weakly": "Layer 0 favours the previous position, but with too little of its "
        "attention: how large must a score be to win against all other keys together?",
        "nothing_to_match": "Layer 1 attends evenly, as if its keys said nothing: does layer 0 "
        "write the token that it saw, and where the keys of layer 1 read?",
        "matches_the_token_itself": "Layer 1 attends to positions that hold the query's token; you "
        "want the ones after them.",
        "copies_the_matched_token": "Layer 1 finds the right position, and then copies which token "
        "stood *before* it: you want the one that stands there.",
        "reads_out_the_present_token": "The model says the token that it just read, also with "
        "layer 1 silenced: W_U reads the embedding instead of what layer 1 writes.",
    },
    "find_roles": {
        "trusts_attention": "A head that attends like the real one is not the real one: some of "
        "these write nothing, or where nobody reads. What changes without it?",
        "trusts_size": "The head that writes the most need not matter: it may write where nobody "
        "reads. What changes without it?",
        "counts_any_change": "Without this head the logits move but the answers stay: that makes "
        "it a decoy.",
        "swaps_the_roles": "You found the two heads that matter and exchanged their roles: which "
        "layer must run first?",
        "nothing_matters": "You call every head a decoy, but the model does continue its prompts: "
        "does your intervention reach the weights that run?",
    },
}


def draw_directions(count: int, d_model: int, generator: torch.Generator) -> Tensor:
    """Draw orthonormal rows (count, d_model)."""
    random = torch.randn(d_model, d_model, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(random).Q[:count].float()


def take_pair(got: object, shapes: list[tuple[int, int]], names: str) -> tuple[Tensor, Tensor]:
    """Take two weights of the given shapes, or say what came instead."""
    if not (
        isinstance(got, (list, tuple)) and len(got) == 2 and all(isinstance(W, Tensor) for W in got)
    ):
        raise Wrong(
            sentence=f"The function should return a pair of tensors ({names}); yours does not."
        )
    if [tuple(W.shape[::-1]) for W in got] == shapes != [tuple(W.shape) for W in got]:
        raise Wrong("transposed_weights")
    for W, shape, name in zip(got, shapes, names.split(", "), strict=True):
        if tuple(W.shape) != shape:
            raise Wrong(sentence=f"{name} has shape {tuple(W.shape)}, expected {shape}.")
    return got[0].float(), got[1].float()


def expect_visible(got: Tensor, want: Tensor, mistakes: dict) -> None:
    """Compare score tables (query, key) where the key is not after the query.

    Mistakes are told by the whole table.
    """
    if not torch.allclose(got.tril(), want.tril(), rtol=1e-3, atol=1e-3):
        what = "the table of scores (query, key)"
        expect(got, want, mistakes=mistakes, rtol=1e-3, atol=1e-3, what=what)


# n_ctx d_model d_head strength scale
POSITION_CASES = [(5, 11, 8, 6.0, 2.0), (7, 13, 7, 2.5, 1.0), (3, 20, 10, 12.0, 5.0)]


@check("previous_token_qk", weight=2)
def test_each_position_scores_the_one_before_it(student):
    """The query at position i gives the key at i - 1 the score `strength`, and all other keys in
    its past 0."""
    for seed, (n, d_model, d_head, strength, scale) in zip(
        student.seeds(3), POSITION_CASES, strict=True
    ):
        position = draw_directions(n, d_model, torch.Generator().manual_seed(seed))
        got = student.call("previous_token_qk", position, strength, d_head, scale)
        if (
            isinstance(got, (list, tuple))
            and all(getattr(W, "shape", None) == (d_model, n) for W in got)
            and n != d_head
        ):
            raise Wrong("ignores_d_head")
        W_Q, W_K = take_pair(got, [(d_model, d_head)] * 2, "W_Q, W_K")

        def table(rule, score, n=n):  # a row per query, a column per key
            return torch.tensor([[score * rule(q, k) for k in range(n)] for q in range(n)])

        def on_axes(score, position=position, n=n):
            return sum(torch.outer(position[:, i], position[:, i - 1]) * score for i in range(1, n))

        mistakes = {
            "attends_to_itself": table(lambda q, k: q == k, strength),
            "attends_to_the_next": table(lambda q, k: q == k - 1, strength),
            "attends_to_all_before": table(lambda q, k: q > k, strength),
            "strength_left_out": table(lambda q, k: q == k + 1, 1.0),
            "strength_twice": table(lambda q, k: q == k + 1, strength**2),
            "scale_left_out": table(lambda q, k: q == k + 1, strength / scale),
            "assumes_axes": on_axes(strength),
        }
        scores = (position @ W_Q) @ (position @ W_K).T / scale
        expect_visible(scores, table(lambda q, k: q == k + 1, strength), mistakes)


@check("previous_token_qk")
def test_nothing_but_positions_counts(student):
    """The scores stay the same when the stream also holds other things, orthogonal to the
    positions."""
    for seed, (n, d_model, d_head, strength, scale) in zip(
        student.seeds(3), POSITION_CASES, strict=True
    ):
        generator = torch.Generator().manual_seed(seed)
        basis = draw_directions(d_model, d_model, generator)
        got = student.call("previous_token_qk", basis[:n], strength, d_head, scale)
        W_Q, W_K = take_pair(got, [(d_model, d_head)] * 2, "W_Q, W_K")
        stream = basis[:n] + torch.randn(n, d_model - n, generator=generator) @ basis[n:]
        want = torch.diag(torch.full((n - 1,), strength), -1)
        for x, mistake in ((basis[:n], None), (stream, "fills_the_unused_dimensions")):
            scores = (x @ W_Q) @ (x @ W_K).T / scale
            if not torch.allclose(scores.tril(), want, rtol=1e-3, atol=1e-2):
                raise Wrong(
                    mistake,
                    sentence="" if mistake else "The scores of positions alone are not right yet.",
                )


COPY_CASES = [(3, 10, 5), (4, 9, 6), (2, 7, 3)]  # count d_model d_head


@check("copy_ov")
def test_each_source_becomes_its_target(student):
    """A stream of length a along source[i] makes the head write a times target[i]."""
    for seed, (n, d_model, d_head) in zip(student.seeds(3), COPY_CASES, strict=True):
        generator = torch.Generator().manual_seed(seed)
        source = draw_directions(n, d_model, generator)
        target = torch.randn(n, d_model, generator=generator)
        got = student.call("copy_ov", source, target, d_head)
        W_V, W_O = take_pair(got, [(d_model, d_head), (d_head, d_model)], "W_V, W_O")
        amount = 0.5 + torch.rand(n, 1, generator=generator)
        mistakes = {
            "swaps_source_and_target": amount * (source @ target.T) @ source,
            "writes_back_the_source": amount * source,
            "writes_every_target": amount * target.sum(dim=0),
            "normalises_targets": amount * target / target.norm(dim=1, keepdim=True),
            "pairs_off_by_one": amount * target[[*range(1, n), 0]],
            "assumes_axes": amount * source[:, :n] @ target,
        }
        want = torch.stack([amount[i] * target[i] for i in range(n)])
        got = amount * source @ W_V @ W_O
        expect(got, want, mistakes=mistakes, rtol=1e-3, atol=1e-4, what="what the head writes")


@check("copy_ov")
def test_sources_add_up_and_the_rest_is_left_alone(student):
    """Several sources at once write the sum of their targets; anything else in the stream is not
    copied."""
    for seed, (n, d_model, d_head) in zip(student.seeds(3), COPY_CASES, strict=True):
        generator = torch.Generator().manual_seed(seed)
        basis = draw_directions(d_model, d_model, generator)
        target = torch.randn(n, d_model, generator=generator)
        got = student.call("copy_ov", basis[:n], target, d_head)
        W_V, W_O = take_pair(got, [(d_model, d_head), (d_head, d_model)], "W_V, W_O")
        amounts = torch.randn(d_model, generator=generator)
        of_sources = sum(amounts[i] * basis[i] for i in range(n))
        other = sum(amounts[i] * basis[i] for i in range(n, d_model))
        want = sum(amounts[i] * target[i] for i in range(n))
        what = "what the head writes for several sources"
        expect(of_sources @ W_V @ W_O, want, rtol=1e-3, atol=1e-4, what=what)
        if (other @ W_V @ W_O).abs().max() > 1e-3:
            raise Wrong("passes_other_things_on")


# d_vocab d_model d_head strength scale
MATCH_CASES = [(4, 13, 6, 7.0, 2.0), (6, 15, 6, 3.0, 1.0), (3, 11, 5, 9.0, 4.0)]


@check("match_qk", weight=2)
def test_a_token_finds_the_positions_that_come_after_it(student):
    """On a prompt, each query scores `strength` where the token before the key is its own token,
    and 0 elsewhere."""
    for seed, case in zip(student.seeds(3), MATCH_CASES, strict=True):
        judge_matches(student, seed, *case, others=0.0)


@check("match_qk")
def test_matching_ignores_what_else_is_in_the_stream(student):
    """The same on streams that also hold other things, such as positions."""
    for seed, case in zip(student.seeds(3), MATCH_CASES, strict=True):
        judge_matches(student, seed, *case, others=1.0)


def judge_matches(student, seed, n_tokens, d_model, d_head, strength, scale, others):
    generator = torch.Generator().manual_seed(seed)
    basis = draw_directions(d_model, d_model, generator)
    W_E = basis[:n_tokens]
    written = basis[n_tokens : 2 * n_tokens]
    inside = draw_directions(n_tokens, d_head, generator) * torch.linspace(
        0.5, 2.0, n_tokens
    ).unsqueeze(1)
    W_V = W_E.T @ inside
    W_O = torch.linalg.pinv(inside) @ written  # writes written[i] for token i
    got = student.call("match_qk", W_E, W_V, W_O, strength, scale)
    W_Q, W_K = take_pair(got, [(d_model, d_head)] * 2, "W_Q, W_K")
    tokens = [0, 1, 0, 2, 2, *torch.randint(n_tokens, (9,), generator=generator).tolist(), 1, 0]
    noise = others * torch.randn(len(tokens), d_model - 2 * n_tokens, generator=generator)
    stream = noise @ basis[2 * n_tokens :]
    for t, token in enumerate(tokens):
        stream[t] += W_E[token] + (written[tokens[t - 1]] if t else 0.0)

    def table(rule, score):  # position 0 has nothing before it
        places = range(1, len(tokens))
        return torch.tensor([[score * rule(q, k) for k in places] for q in places])

    mistakes = {
        "matches_the_token_itself": table(lambda q, k: tokens[k] == tokens[q], strength),
        "composes_with_the_query": table(lambda q, k: tokens[k] == tokens[q - 1], strength),
        "matches_the_tokens_before": table(lambda q, k: tokens[k - 1] == tokens[q - 1], strength),
        "strength_left_out": table(lambda q, k: tokens[k - 1] == tokens[q], 1.0),
        "scale_left_out": table(lambda q, k: tokens[k - 1] == tokens[q], strength / scale),
        "key_reads_both": table(
            lambda q, k: (tokens[k] == tokens[q]) + (tokens[k - 1] == tokens[q]), strength
        ),
    }
    want = table(lambda q, k: tokens[k - 1] == tokens[q], strength)
    scores = (stream @ W_Q) @ (stream @ W_K).T / scale
    what = "the table of scores (query, key)"
    expect(scores[1:, 1:], want, mistakes=mistakes, rtol=1e-3, atol=1e-2, what=what)


def draw_prompts(n_tokens: int, length: int, generator: torch.Generator) -> list[list[int]]:
    """Draw token 0, then a block of distinct tokens again and again.

    A block is at most half as long as the prompt.
    """
    prompts = []
    for _ in range(12):
        longest = min(n_tokens - 1, length // 2)
        period = int(torch.randint(2, longest + 1, (1,), generator=generator))
        block = (1 + torch.randperm(n_tokens - 1, generator=generator)[:period]).tolist()
        prompts.append([0] + [block[t % period] for t in range(length - 1)])
    return prompts


class Trial:
    """Hold a learner's weights for one vocabulary and context, run on prompts."""

    def __init__(self, weights: object, seed: int, n_tokens: int, n_ctx: int) -> None:
        self.model = make_model(weights, n_tokens, n_ctx)
        self.prompts = draw_prompts(n_tokens, n_ctx, torch.Generator().manual_seed(seed))
        self.logits, self.cache = self.model.run_with_cache(torch.tensor(self.prompts))
        # (prompt, position, positions after the earlier occurrences of its token)
        self.repeats = [
            (b, t, [1 + s for s in range(t) if prompt[s] == prompt[t]])
            for b, prompt in enumerate(self.prompts)
            for t in range(len(prompt))
            if prompt[t] in prompt[:t]
        ]

    def least(self, layer: int, places: list[tuple[int, int, list[int]]]) -> float:
        """Return the least attention over all places, of the head for which it is largest.

        A place is a prompt, a query and its keys.
        """
        pattern = self.cache["pattern", layer]
        paid = torch.stack([pattern[b, :, q, keys].sum(dim=1) for b, q, keys in places])
        return paid.amin(dim=0).max().item()

    def is_even(self, layer: int) -> bool:
        pattern = self.cache["pattern", layer]
        even = torch.ones(pattern.shape[-2:]).tril()
        return bool(((pattern - even / even.sum(dim=1, keepdim=True)).abs() < 1e-3).all())


def make_model(weights: object, n_tokens: int, n_ctx: int) -> Transformer:
    """Make the Transformer of these weights, or say what does not fit."""
    names = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
    if not isinstance(weights, dict) or sorted(weights) != sorted(names):
        raise Wrong(
            sentence=f"The function should return a dict with the keys {', '.join(names)}; "
            "yours does not."
        )
    if (
        not all(isinstance(W, Tensor) for W in weights.values())
        or weights["W_Q"].ndim != 4
        or weights["W_E"].ndim != 2
    ):
        raise Wrong(
            sentence="All weights are tensors, W_E with 2 axes and W_Q with 4: layer, head, "
            "d_model, d_head."
        )
    d_model = weights["W_E"].shape[1]
    _, n_heads, _, d_head = weights["W_Q"].shape
    model = Transformer(
        Config(n_tokens, n_ctx, d_model, 2, n_heads, d_head, attn_scale=1.0)
    ).requires_grad_(False)
    for name in names:
        fits = getattr(model, name)
        if weights[name].shape != fits.shape:
            given = tuple(weights[name].shape)
            expected = tuple(fits.shape)
            raise Wrong(
                sentence=f"For d_vocab {n_tokens} and n_ctx {n_ctx}, {name} is {given}, "
                f"expected {expected}."
            )
        owners = [model] if fits.ndim == 2 else [block.attn for block in model.blocks]
        targets = [getattr(owner, name) for owner in owners]
        for target, W in zip(
            targets, [weights[name]] if fits.ndim == 2 else weights[name], strict=True
        ):
            target.copy_(W)
    return model


def draw_trials(student) -> list[Trial]:
    """Try a longer context, a longer vocabulary, and the learner's own sizes."""
    seeds = student.seeds(3)
    own = random.Random(seeds[2])
    sizes = [(7, 120), (14, 11), (own.randrange(5, 12), own.randrange(20, 28))]
    answers = [student.call("induction_weights", *size) for size in sizes]
    shapes = [
        {
            name: getattr(W, "shape", None)
            for name, W in (answer if isinstance(answer, dict) else {}).items()
        }
        for answer in answers
    ]
    if len(shapes[0]) == 7 and shapes[0] == shapes[1] == shapes[2]:
        raise Wrong("ignores_its_arguments")
    return [
        Trial(answer, seed, *size) for answer, seed, size in zip(answers, seeds, sizes, strict=True)
    ]


@check("induction_weights")
def test_layer_0_looks_at_the_previous_position(student):
    """A head in layer 0 pays at least .99 of its attention to the previous position, everywhere."""
    for trial in draw_trials(student):
        places = [
            (b, t, [t - 1]) for b, prompt in enumerate(trial.prompts) for t in range(1, len(prompt))
        ]
        if (least := trial.least(0, places)) >= 0.99:
            continue
        if trial.is_even(0):
            raise Wrong("attends_evenly")
        if trial.least(0, [(b, t, [t]) for b, t, _ in places]) > 0.9:
            raise Wrong("attends_to_itself")
        pattern = trial.cache["pattern", 0][:, :, 1:]
        if (pattern.argmax(dim=-1) == torch.arange(pattern.shape[2])).all(dim=-1).all(dim=0).any():
            raise Wrong("attends_too_weakly")
        raise Wrong(
            sentence=f"Somewhere no head of layer 0 pays more than {least:.2f} "
            "to the previous position."
        )


@check("induction_weights")
def test_layer_1_looks_right_after_the_tokens_earlier_occurrences(student):
    """A head in layer 1 pays at least .99 of its attention to the positions after the token's
    earlier occurrences."""
    for trial in draw_trials(student):
        if (least := trial.least(1, trial.repeats)) >= 0.99:
            continue
        if trial.is_even(1):
            raise Wrong("nothing_to_match")
        earlier = [(b, t, [k - 1 for k in keys]) for b, t, keys in trial.repeats]
        equal = [(b, t, [*keys, t]) for b, t, keys in earlier]
        if trial.least(1, equal) > 0.9 and trial.least(1, earlier) > 0.2:
            raise Wrong("matches_the_token_itself")
        raise Wrong(
            sentence=f"Somewhere no head of layer 1 pays more than {least:.2f} "
            "to the right positions."
        )


@check("induction_weights")
def test_the_model_says_the_token_that_followed_before(student):
    """Wherever a token has occurred before, the token that followed it has the highest logit, by at
    least .1."""
    for trial in draw_trials(student):
        answers = torch.tensor([trial.prompts[b][keys[0]] for b, _, keys in trial.repeats])
        present = torch.tensor([trial.prompts[b][t] for b, t, _ in trial.repeats])
        at = tuple(zip(*[(b, t) for b, t, _ in trial.repeats], strict=True))
        logits = trial.logits[at]
        top = logits.topk(2, dim=-1)
        if bool((top.indices[:, 0] == answers).all()) and bool(
            (top.values[:, 0] - top.values[:, 1] >= 0.1).all()
        ):
            continue
        if bool((top.indices[:, 0] == present).all()):
            without = trial.model.unembed(trial.cache["resid_post", 0])[at].argmax(dim=-1)
            says_present = bool((without == present).all())
            if says_present:
                raise Wrong("reads_out_the_present_token")
            if trial.least(1, trial.repeats) > 0.9:
                raise Wrong("copies_the_matched_token")
        right = (top.indices[:, 0] == answers).float().mean().item()
        raise Wrong(
            sentence=f"Of the next tokens, {right:.0%} are right; the others, "
            "or their margin over the second, are not."
        )


LAYERS = (
    ("previous", "looks back, writes nothing", "looks back, unread", "loud"),
    ("match", "matches, unread", "faint", "loud"),
)


def plant_model(seed: int, turn: int) -> tuple[dict[str, Tensor], dict[str, str], Tensor, Tensor]:
    """Plant four heads per layer; return weights, roles, prompts, and the tokens after them.

    The order of the heads is drawn from `seed` and turned on by `turn` places, so that no head
    keeps its place from one turn to the next; the stream and every head's own dimensions are
    rotated at random.
    """
    generator = torch.Generator().manual_seed(seed + 1 + turn)
    n_tokens, n_ctx, d_head = 9, 14, 16
    sizes = [n_tokens, n_ctx, n_tokens, n_tokens, n_tokens]
    axes = draw_directions(sum(sizes), sum(sizes), generator)
    token, position, previous, following, unread = axes.split(sizes)
    nothing = torch.zeros_like(token)
    loud = 6 * unread
    faint = 0.05 * following
    look_back = (position[1:], position[:-1])
    match = (token, previous)
    evenly = (token, nothing)
    heads = {
        "previous": (look_back, previous),
        "looks back, writes nothing": (look_back, nothing),
        "looks back, unread": (look_back, unread),
        "match": (match, following),
        "matches, unread": (match, unread),
        "faint": (evenly, faint),
        "loud": (evenly, loud),
    }
    weights = {name: torch.zeros(2, 4, len(axes), d_head) for name in ("W_Q", "W_K", "W_V")}
    weights["W_O"] = torch.zeros(2, 4, d_head, len(axes))
    kinds = {}
    for layer, names in enumerate(LAYERS):
        order = (
            torch.randperm(4, generator=torch.Generator().manual_seed(seed + layer)) + turn
        ) % 4
        for head, name in zip(order.tolist(), names, strict=True):
            (query, key), target = heads[name]
            inside = draw_directions(d_head, d_head, generator)
            weights["W_Q"][layer, head] = 20.0 * query.T @ inside[: len(query)]
            weights["W_K"][layer, head] = key.T @ inside[: len(key)]
            weights["W_V"][layer, head] = token.T @ inside[:n_tokens]
            weights["W_O"][layer, head] = inside[:n_tokens].T @ target
            # Values fill dimensions that the output does not read.
            if name == "looks back, writes nothing":
                weights["W_O"][layer, head] = inside[n_tokens:].T @ previous[: d_head - n_tokens]
            kinds[f"a{layer}.h{head}"] = name
    prompts = draw_prompts(n_tokens, n_ctx, generator)
    answer = [prompt[1 + prompt.index(prompt[-1])] for prompt in prompts]
    # If nobody speaks up, the token itself says 0, but on the first prompt what is right.
    says = token.sum(0) - token[prompts[0][-1]]
    silent = torch.zeros_like(token)
    silent[[0, answer[0]]] = 2 * torch.stack([says, token[prompts[0][-1]]])
    weights |= {"W_E": token, "W_pos": position, "W_U": (20.0 * following + silent).T}
    return weights, kinds, torch.tensor(prompts), torch.tensor(answer)


def ask_roles(student) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Ask for the roles in three models: what the learner says of each head, and what it is."""
    pairs = []
    for turn in range(3):
        weights, kinds, tokens, answer = plant_model(student.seeds(1)[0], turn)
        roles = student.call("find_roles", weights, tokens, answer)
        if not isinstance(roles, dict) or set(roles) != set(kinds):
            named = ", ".join(map(str, roles)) if isinstance(roles, dict) else "no dict"
            raise Wrong(
                sentence="The function should return a dict with the keys "
                f"{', '.join(sorted(kinds))}; it has {named}."
            )
        if odd := [role for role in roles.values() if role not in ("previous", "match", "decoy")]:
            raise Wrong(sentence=f'A role is "previous", "match" or "decoy", not {odd[0]!r}.')
        pairs.append((roles, kinds))
    return pairs


def judge_role(student, role: str) -> None:
    """Judge whether the head planted as `role`, and no other, is called so."""
    pairs = ask_roles(student)
    answers = [roles for roles, _ in pairs]
    if all(set(roles.values()) == {"decoy"} for roles in answers):
        raise Wrong("nothing_matters")
    everywhere = {kinds[head] for roles, kinds in pairs for head in roles if roles[head] == role}
    for roles, kinds in pairs:
        named = {kinds[head] for head in roles if roles[head] == role}
        if named == {role}:
            continue
        other = {kinds[head] for head in roles if roles[head] not in (role, "decoy")}
        if named & {"previous", "match"} and role in other:
            raise Wrong("swaps_the_roles")
        for mistake, telltale in (
            (
                "trusts_attention",
                {"looks back, writes nothing", "looks back, unread", "matches, unread"},
            ),
            ("trusts_size", {"loud"}),
            ("counts_any_change", {"faint"}),
        ):
            if everywhere & telltale and everywhere <= {*telltale, role}:
                raise Wrong(mistake)
        there = "the right one among them" if role in named else "the right one not among them"
        raise Wrong(
            sentence=f"In one model you call {len(named)} heads {role!r}, {there}; it is one head."
        )


@check("find_roles")
def test_the_previous_token_head_is_found(student):
    """In three unknown models, the head that tells each position its previous token."""
    judge_role(student, "previous")


@check("find_roles")
def test_the_matching_head_is_found(student):
    """In three unknown models, the head that matches what the other wrote."""
    judge_role(student, "match")


@check("find_roles")
def test_every_decoy_is_called_a_decoy(student):
    """In three unknown models, no decoy is mistaken for a head that matters."""
    for roles, kinds in ask_roles(student):
        decoys = {head for head in kinds if kinds[head] not in ("previous", "match")}
        named = {head for head in roles if roles[head] == "decoy"}
        if named != decoys:
            why = (
                f"{len(decoys - named)} of {len(decoys)} decoys are not called so, "
                f"and {len(named - decoys)} other heads are"
            )
            raise Wrong(sentence=f"In one model {why}.")
