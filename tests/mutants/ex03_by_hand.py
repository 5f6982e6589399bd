"""List wrong answers to lesson 03 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer import Config, Transformer
from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "match_qk": ["A head in the layer before"],
    "induction_weights": ["Token 0 starts every prompt", "You may call"],
    "find_roles": ["The result looks like"],
}


def variant(exercise, base, name, sentence="", /, says="", clause="", **switches):
    """Mark `base` with these switches as a wrong answer."""

    def answer(*args):
        return base(*args, **switches)

    mutant(exercise, sentence, name=name, says=says, clause=clause)(answer)


def read_pairs(query, key, d_head, strength=1.0):
    """Make (W_Q, W_K): row i of `query` meets row i of `key` in dimension i of the head."""
    W_Q, W_K = torch.zeros(query.shape[1], d_head), torch.zeros(query.shape[1], d_head)
    W_Q[:, : len(query)] = query.T * strength
    W_K[:, : len(key)] = key.T
    return W_Q, W_K


def move(source, target, d_head):
    """Make (W_V, W_O): read along row i of `source`, write along row i of `target`."""
    W_V = torch.zeros(source.shape[1], d_head)
    W_O = torch.zeros(d_head, source.shape[1])
    W_V[:, : len(source)] = source.T
    W_O[: len(target)] = target
    return W_V, W_O


def complete(rows, count):
    """Return `count` orthonormal directions (d_model, count) that are orthogonal to all rows.

    They are orthogonal as far as there are so many.
    """
    basis = torch.linalg.qr(torch.cat([rows, torch.eye(rows.shape[1])]).T).Q
    return basis[:, len(rows) : len(rows) + count]


@mutant(
    "previous_token_qk",
    "Your query at position i scores the key at i; move one of the two by a position.",
    clause="give the key at i - 1",
)
def attends_to_itself(position, strength, d_head, attn_scale):
    return read_pairs(position, position, d_head, strength * attn_scale)


@mutant(
    "previous_token_qk",
    "Your query at i scores the key at i + 1, which it cannot see: exchange what W_Q and W_K read.",
)
def attends_to_the_next(position, strength, d_head, attn_scale):
    return read_pairs(position[:-1], position[1:], d_head, strength * attn_scale)


@mutant(
    "previous_token_qk",
    "Your query scores every earlier position: each position needs a dimension that is its own.",
    clause="every other key up to i the score 0",
)
def attends_to_all_before(position, strength, d_head, attn_scale):
    n = len(position)
    before = torch.ones(n, n).tril(-1)
    return read_pairs(position, before @ position, d_head, strength * attn_scale)


@mutant(
    "previous_token_qk",
    "The right keys are found, with a score of 1: your head does not use `strength`.",
    clause="the score `strength`",
)
def strength_left_out(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], d_head, attn_scale)


@mutant(
    "previous_token_qk",
    "The score is strength squared: both W_Q and W_K carry the strength, and scores are their "
    "product.",
)
def strength_twice(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    return W_Q, W_K * strength


@mutant(
    "previous_token_qk",
    "Scores are divided by attn_scale after your weights were applied; yours come out too small "
    "by that.",
    clause="after dividing by `attn_scale`",
)
def scale_left_out(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], d_head, strength)


@mutant(
    "previous_token_qk",
    "Your head looks for position i on axis i of the stream; here positions are rows of "
    "`position`.",
    clause="one of the orthonormal rows of `position`",
)
def assumes_axes(position, strength, d_head, attn_scale):
    W_Q, W_K = torch.zeros(position.shape[1], d_head), torch.zeros(position.shape[1], d_head)
    for i in range(1, len(position)):
        W_Q[i, i - 1] = strength * attn_scale
        W_K[i - 1, i - 1] = 1.0
    return W_Q, W_K


@mutant("previous_token_qk", says="the axes are in another order", clause="Return `(W_Q, W_K)`")
def transposed_weights(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    return W_Q.T, W_K.T


@mutant("previous_token_qk", says="expected (11, 8)", clause="`d_head` is at least n_ctx")
def ignores_d_head(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], len(position), strength * attn_scale)


@mutant(
    "previous_token_qk",
    "Positions match as they should, but other things in the stream are compared too: what does "
    "your head read that is no position?",
    clause="what else is in the stream must not count",
)
def fills_the_unused_dimensions(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    rest = complete(position, d_head - len(position))
    for W in (W_Q, W_K):
        W[:, len(position) : len(position) + rest.shape[1]] = rest
    return W_Q, W_K


def pair_positions(position, strength, d_head, attn_scale, of):
    """Let queries and keys read what `of(position)` says, for pairs of positions."""
    query, key = of(position)
    return read_pairs(query, key, d_head, strength * attn_scale)


def to_axes(rows):
    """Return the axis that each row is longest along."""
    return torch.nn.functional.one_hot(rows.argmax(1), rows.shape[1]).float()


for name, sentence, of in (
    (
        "attends_to_itself_too",
        "Your query also scores the key at its own position; only the one before it counts.",
        lambda x: (x + torch.cat([x[1:], 0 * x[:1]]), x),
    ),
    (
        "lets_the_first_see_itself",
        "Position 0 scores itself, though nothing stands before it: its scores are 0.",
        lambda x: (torch.cat([x[1:2] + x[:1], x[2:]]), x[:-1]),
    ),
    (
        "leaves_out_the_last_position",
        "The last position looks nowhere: it has one before it, too.",
        lambda x: (x[1:-1], x[:-2]),
    ),
    (
        "makes_three_positions",
        "From position 3 on your head looks nowhere: make a pair for every position there is.",
        lambda x: (x[1:3], x[:2]),
    ),
    (
        "takes_the_largest_coordinates",
        "You read one axis for each position, the one where it is largest; its row has other "
        "coordinates, too.",
        lambda x: (to_axes(x)[1:], to_axes(x)[:-1]),
    ),
):
    variant("previous_token_qk", pair_positions, name, sentence, of=of)


@alternative("previous_token_qk")
def as_a_sum_of_outer_products(position, strength, d_head, attn_scale):
    units = torch.eye(d_head)
    W_Q = sum(torch.outer(position[i], units[i]) for i in range(1, len(position)))
    W_K = sum(torch.outer(position[i - 1], units[i]) for i in range(1, len(position)))
    return [(strength * attn_scale) ** 0.5 * W_Q, (strength * attn_scale) ** 0.5 * W_K]


@alternative("previous_token_qk")
# Position 0 looks for the last, which it cannot see.
def rolled_around(position, strength, d_head, attn_scale):
    return read_pairs(position, position.roll(1, dims=0), d_head, strength * attn_scale)


@mutant(
    "copy_ov",
    "Your head reads along the targets and writes along the sources: exchange them.",
    clause="reads along `source[i]` and writes along `target[i]`",
)
def swaps_source_and_target(source, target, d_head):
    return move(target, source, d_head)


@mutant(
    "copy_ov",
    "Your head writes what it read, along the same direction: W_O should turn it into the target.",
)
def writes_back_the_source(source, target, d_head):
    return move(source, source, d_head)


@mutant(
    "copy_ov",
    "Whatever source it reads, your head writes the sum of all targets: the sources share a "
    "dimension of the head.",
    clause="must make it write `a * target[i]`",
)
def writes_every_target(source, target, d_head):
    return move(source.sum(dim=0, keepdim=True), target.sum(dim=0, keepdim=True), d_head)


@mutant(
    "copy_ov",
    "Your head writes in the right direction, but with length 1: targets may be longer or shorter.",
    clause="those of `target` are any vectors",
)
def normalises_targets(source, target, d_head):
    return move(source, target / target.norm(dim=1, keepdim=True), d_head)


@mutant(
    "copy_ov",
    "Your head turns source[i] into target[i + 1]: W_V and W_O disagree on which dimension is "
    "which.",
)
def pairs_off_by_one(source, target, d_head):
    return move(source, target.roll(-1, dims=0), d_head)


@mutant(
    "copy_ov",
    "Your head reads source i from axis i of the stream; here sources are rows of `source`.",
    name="assumes_axes",
)
def copy_assumes_axes(source, target, d_head):
    return move(torch.eye(source.shape[1])[: len(source)], target, d_head)


@mutant(
    "copy_ov",
    name="transposed_weights",
    says="the axes are in another order",
    clause="Return `(W_V, W_O)`",
)
def copy_transposed_weights(source, target, d_head):
    W_V, W_O = move(source, target, d_head)
    return W_V.T, W_O.T


@mutant(
    "copy_ov",
    "Sources become targets as they should, but your head also copies what is orthogonal to all "
    "sources.",
    clause="what is orthogonal to all sources must make it write nothing",
)
def passes_other_things_on(source, target, d_head):
    W_V, W_O = move(source, target, d_head)
    rest = complete(source, d_head - len(source))
    W_V[:, len(source) :] = rest
    W_O[len(source) :] = rest.T
    return W_V, W_O


def copy_changed(source, target, d_head, sources=lambda x, y: x, targets=lambda x, y: y):
    return move(sources(source, target), targets(source, target), d_head)


def drop_weak(source, target):
    U, S, V = torch.linalg.svd(target, full_matrices=False)
    return U * (S * (S[0] / 5 < S)) @ V


def make_orthogonal(source, target):
    return torch.linalg.qr(target.T).Q.T * target.norm(dim=1, keepdim=True)


for name, clause, sentence, switches in (
    (
        "writes_the_average",
        "several at once add up",
        "Every source writes the average of all targets; each has a target of its own.",
        {"targets": lambda x, y: y.mean(0, keepdim=True).expand_as(y)},
    ),
    (
        "drops_weak_targets",
        "",
        "What is small among the targets is lost, as if it were noise.",
        {"targets": drop_weak},
    ),
    (
        "inverts_the_targets",
        "",
        "You take the pseudo-inverse of the targets, which are to be written as they are.",
        {"targets": lambda x, y: torch.linalg.pinv(y).T},
    ),
    (
        "leaves_the_sources_out_of_the_targets",
        "",
        "What targets have in common with the sources is not written.",
        {"targets": lambda x, y: y - y @ x.T @ x},
    ),
    (
        "makes_two_pairs",
        "",
        "Only the first two sources become anything: make a pair for every one.",
        {"sources": lambda x, y: x[:2], "targets": lambda x, y: y[:2]},
    ),
    (
        "takes_the_largest_coordinates",
        "",
        "You read one axis for each source, the one where it is largest; its row has other "
        "coordinates, too.",
        {"sources": lambda x, y: to_axes(x)},
    ),
    (
        "centres_the_sources",
        "",
        "You take their mean off the sources' coordinates: they are to be read as they are.",
        {"sources": lambda x, y: x - x.mean(1, keepdim=True)},
    ),
):
    variant("copy_ov", copy_changed, name, sentence, clause=clause, **switches)


@mutant("copy_ov", says="expected (10, 5)", clause="`d_head` is at least `count`")
def copy_ignores_d_head(source, target, d_head):
    return source.T, target


@alternative("copy_ov")
def in_the_last_dimensions(source, target, d_head):
    W_V = torch.zeros(source.shape[1], d_head)
    W_O = torch.zeros(d_head, source.shape[1])
    for i in range(len(source)):
        W_V[:, -1 - i], W_O[-1 - i] = 2 * source[i], target[i] / 2
    return W_V, W_O


@mutant(
    "match_qk",
    "Your head finds the positions that hold the query's token; the key should read what the "
    "first head wrote there.",
    clause="finds where the *previous* token is the query's",
)
def matches_the_token_itself(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E, W_V.shape[1], strength * attn_scale)


@mutant(
    "match_qk",
    "Your query reads what the first head wrote and your key reads the token: the two are "
    "exchanged.",
    clause="to each key k with `tokens[k - 1] == tokens[q]`",
)
def composes_with_the_query(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E @ W_V @ W_O, W_E, W_V.shape[1], strength * attn_scale)


@mutant(
    "match_qk",
    "Your query and your key both read what the first head wrote; the query should read the token"
    " at its own position.",
)
def matches_the_tokens_before(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E @ W_V @ W_O, W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)


@mutant(
    "match_qk",
    "Matches score 1 whatever `strength` is: one of your two weights has to carry it.",
    name="strength_left_out",
    clause="give the score `strength`",
)
def match_strength_left_out(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], attn_scale)


@mutant(
    "match_qk",
    "Matches score `strength / attn_scale`: the division comes after your weights, so they have "
    "to make up for it.",
    name="scale_left_out",
    clause="(after dividing by `attn_scale`)",
)
def match_scale_left_out(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], strength)


@mutant(
    "match_qk",
    "Your key reads the token at its own position as well as the one before it: only the latter "
    "tells where to look.",
    clause="and 0 to the others",
)
def key_reads_both(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E + W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)


@mutant(
    "match_qk",
    name="transposed_weights",
    says="the axes are in another order",
    clause="Return `(W_Q, W_K)`",
)
def match_transposed_weights(W_E, W_V, W_O, strength, attn_scale):
    W_Q, W_K = read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)
    return W_Q.T, W_K.T


def match_changed(W_E, W_V, W_O, strength, attn_scale, of):
    query, key = of(W_E, W_V, W_O)
    return read_pairs(query, key, W_V.shape[1], strength * attn_scale)


for name, clause, sentence, of in (
    (
        "query_reads_both",
        "",
        "Your query also reads the token before its own: only its own token tells what to look "
        "for.",
        lambda E, V, O: (E + E @ V @ O, E @ V @ O),  # noqa: E741
    ),
    (
        "leaves_out_token_0",
        "",
        "Token 0 is matched nowhere: it is a token like the others here.",
        lambda E, V, O: (E[1:], (E @ V @ O)[1:]),  # noqa: E741
    ),
    (
        "matches_two_tokens",
        "",
        "Only the first two tokens are matched: make a pair for every one.",
        lambda E, V, O: (E[:2], (E @ V @ O)[:2]),  # noqa: E741
    ),
    (
        "takes_rows_of_W_O",
        "`W_E[tokens[k]] + W_E[tokens[k - 1]] @ W_V @ W_O`",
        "You take row i of W_O for what the first head writes for token i; W_V decides which rows "
        "it is made of.",
        lambda E, V, O: (E, O[: len(E)]),  # noqa: E741
    ),
    (
        "takes_the_largest_coordinates",
        "",
        "You read one axis for each token, the one where it is largest; its row has other "
        "coordinates, too.",
        lambda E, V, O: (to_axes(E), to_axes(E @ V @ O)),  # noqa: E741
    ),
):
    variant("match_qk", match_changed, name, sentence, clause=clause, of=of)


@mutant("match_qk", says="times what it should be", clause="Your head must give the score")
def divides_by_the_scale(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], strength / attn_scale)


@mutant("match_qk", says="expected (13, 6)", clause="d_head, the same as the first head's")
def match_ignores_d_head(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, len(W_E), strength * attn_scale)


@mutant(
    "match_qk",
    "You ask with W_V and answer with the inverse of W_O: they meet only if the first head's "
    "values are orthonormal.",
)
def inverts_the_output(W_E, W_V, W_O, strength, attn_scale):
    return strength * attn_scale * W_V, torch.linalg.pinv(W_O)


@alternative("match_qk")
def one_token_at_a_time(W_E, W_V, W_O, strength, attn_scale):
    W_Q, W_K = torch.zeros(W_V.shape), torch.zeros(W_V.shape)
    for i, direction in enumerate(W_E):
        W_Q[:, i] = direction
        W_K[:, i] = direction @ W_V @ W_O * strength * attn_scale
    return W_Q, W_K


@alternative("match_qk")
def looks_for_what_the_first_head_would_write(W_E, W_V, W_O, strength, attn_scale):
    return W_V * strength * attn_scale, W_O.T  # W_Q W_K^T is the first head's W_V W_O


def build(d_vocab, n_ctx, strength=20.0, key="previous", reads="token", said="following"):
    """Build the solution's model, with a part exchanged."""
    sizes = {"token": d_vocab, "position": n_ctx, "previous": d_vocab, "following": d_vocab}
    stream = dict(
        zip(sizes, torch.eye(sum(sizes.values())).split(list(sizes.values())), strict=True)
    )
    d_head = max(d_vocab, n_ctx)
    position = stream["position"]
    first = (
        *read_pairs(position[1:], position[:-1], d_head, strength),
        *move(stream["token"], stream["previous"], d_head),
    )
    second = (
        *read_pairs(stream["token"], stream[key], d_head, 20.0),
        *move(stream[reads], stream["following"], d_head),
    )
    names = ("W_Q", "W_K", "W_V", "W_O")
    heads = {
        name: torch.stack([a, b]).unsqueeze(1)
        for name, a, b in zip(names, first, second, strict=True)
    }
    return heads | {"W_E": stream["token"], "W_pos": position, "W_U": stream[said].T}


@mutant(
    "induction_weights",
    "Your weights have the same shapes for every d_vocab and n_ctx: the lesson's sizes are only "
    "one case.",
    clause="Any vocabulary and context may be asked for",
)
def ignores_its_arguments(d_vocab, n_ctx):
    return build(16, 24)


@mutant(
    "induction_weights",
    "Layer 0 spreads its attention evenly over the past: does the stream hold the position, and "
    "do queries and keys read it?",
)
def attends_evenly(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return {**weights, "W_pos": torch.zeros_like(weights["W_pos"])}


@mutant(
    "induction_weights",
    "Layer 0 attends to the position itself instead of the one before.",
    name="attends_to_itself",
)
def first_layer_attends_to_itself(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    weights["W_Q"][0, 0], weights["W_K"][0, 0] = read_pairs(
        *[weights["W_pos"]] * 2, max(d_vocab, n_ctx), 20.0
    )
    return weights


@mutant(
    "induction_weights",
    "Layer 0 favours the previous position, but with too little of its attention: how large must "
    "a score be to win against all other keys together?",
    clause="at least .99 of its attention to the previous position",
)
def attends_too_weakly(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, strength=2.0)


@mutant("induction_weights", name="attends_too_weakly")
def strong_enough_for_short_contexts(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, strength=8.0)


@mutant(
    "induction_weights",
    "Layer 1 attends evenly, as if its keys said nothing: does layer 0 write the token that it "
    "saw, and where the keys of layer 1 read?",
)
def nothing_to_match(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    weights["W_O"][0] = 0.0
    return weights


@mutant(
    "induction_weights",
    "Layer 1 attends to positions that hold the query's token; you want the ones after them.",
    name="matches_the_token_itself",
    clause="the positions right after the token's earlier occurrences",
)
def second_layer_matches_the_token_itself(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, key="token")


@mutant(
    "induction_weights",
    "Layer 1 finds the right position, and then copies which token stood *before* it: you want "
    "the one that stands there.",
    clause="the token that stood there has the highest logit",
)
def copies_the_matched_token(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, reads="previous")


@mutant(
    "induction_weights",
    "The model says the token that it just read, also with layer 1 silenced: W_U reads the "
    "embedding instead of what layer 1 writes.",
)
def reads_out_the_present_token(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, said="token")


@mutant(
    "induction_weights",
    "Every next token has the highest logit, but somewhere by less than .1: let what layer 1 says "
    "count more.",
    clause="by at least .1",
)
def leads_by_too_little(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return weights | {"W_U": 0.05 * weights["W_U"]}


@mutant("induction_weights", says="layer 1 pays enough", clause="a head in layer 1")
def folds_the_vocabulary(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return weights | {"W_E": weights["W_E"][torch.arange(d_vocab) % 16]}


@mutant(
    "induction_weights",
    says="at position",
    clause="the others at every position whose token has occurred before",
)
def knows_24_positions(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return weights | {"W_pos": weights["W_pos"] * (torch.arange(n_ctx) < 24).unsqueeze(1)}


@mutant("induction_weights", says="layer 1 pays enough")
def looks_two_back(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    position = weights["W_pos"]
    pair = read_pairs(position[2:], position[:-2], max(d_vocab, n_ctx), 25.0)
    weights["W_Q"][1, 0], weights["W_K"][1, 0] = pair
    return weights


@mutant("induction_weights", name="attends_evenly", clause="a head in layer 0")
def swaps_the_layers(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    turned = {name: weights[name].flip(0) for name in ("W_Q", "W_K", "W_V", "W_O")}
    return weights | turned


@mutant("induction_weights", says="All weights are tensors", clause="(2, n_heads, d_model, d_head)")
def leaves_out_the_head_axis(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return weights | {name: weights[name][:, 0] for name in ("W_Q", "W_K", "W_V", "W_O")}


@alternative("induction_weights")
def turned_and_with_an_idle_head(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    turn = torch.linalg.qr(torch.randn(len(weights["W_U"]), len(weights["W_U"]))).Q
    idle = {name: torch.zeros_like(weights[name]) for name in ("W_Q", "W_K", "W_V", "W_O")}
    heads = {name: torch.cat([idle[name], weights[name]], dim=1) for name in idle}
    turned = {name: turn.T @ heads[name] for name in ("W_Q", "W_K", "W_V")} | {
        "W_O": heads["W_O"] @ turn
    }
    ends = {
        "W_E": weights["W_E"] @ turn,
        "W_pos": weights["W_pos"] @ turn,
        "W_U": 3 * turn.T @ weights["W_U"],
    }
    return turned | ends


@alternative("induction_weights")
def written_straight_to_the_logits(d_vocab, n_ctx):
    """Copy onto the token's own direction, so that W_U may be W_E transposed."""
    weights = build(d_vocab, n_ctx, said="token")
    weights["W_O"][1, 0, :d_vocab] = 2 * weights["W_E"]
    return weights


def list_heads(weights):
    return [(layer, head) for layer in range(2) for head in range(weights["W_O"].shape[1])]


def run(weights, tokens):
    """Return the last logits, and attention patterns by (layer, head), in bare einsum."""
    x = weights["W_E"][tokens] + weights["W_pos"][: tokens.shape[1]]
    future = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    patterns = {}
    for layer in range(2):
        q, k, v = (
            torch.einsum("btd,ndh->bnth", x, weights[name][layer]) for name in ("W_Q", "W_K", "W_V")
        )
        pattern = (q @ k.transpose(2, 3)).masked_fill(future, float("-inf")).softmax(dim=-1)
        x = x + torch.einsum("bnth,nhd->btd", pattern @ v, weights["W_O"][layer])
        patterns |= {(layer, head): pattern[:, head] for head in range(pattern.shape[1])}
    return x[:, -1] @ weights["W_U"], patterns


def silence(weights, layer, head):
    silenced = {name: W.clone() for name, W in weights.items()}
    silenced["W_O"][layer, head] = 0.0
    return silenced


def accuracy_without(weights, layer, head, tokens, answer):
    return (
        (run(silence(weights, layer, head), tokens)[0].argmax(dim=-1) == answer)
        .float()
        .mean()
        .item()
    )


def name_roles(weights, is_needed):
    words = ("previous", "match")
    heads = list_heads(weights)
    return {
        f"a{layer}.h{head}": words[layer] if is_needed(layer, head) else "decoy"
        for layer, head in heads
    }


@mutant(
    "find_roles",
    "A head that attends like the real one is not the real one: some of these write nothing, or "
    "where nobody reads. What changes without it?",
    clause="it may attend where those do",
)
def trusts_attention(weights, tokens, answer):
    patterns = run(weights, tokens)[1]
    # The last token's earlier occurrences; the match is one later.
    before = (tokens[:, :-1] == tokens[:, -1:]).float()
    scores = {
        (0, h): p.diagonal(-1, 1, 2).mean() for (layer, h), p in patterns.items() if layer == 0
    }
    scores |= {
        (1, h): (p[:, -1, 1:] * before).sum(1).mean()
        for (layer, h), p in patterns.items()
        if layer == 1
    }
    return name_roles(weights, lambda layer, head: scores[layer, head] > 0.9)


@mutant(
    "find_roles",
    "The head that writes the most need not matter: it may write where nobody reads. What changes"
    " without it?",
    clause="write a lot",
)
def trusts_size(weights, tokens, answer):
    sizes = (weights["W_V"] @ weights["W_O"]).norm(dim=(-2, -1))
    return name_roles(weights, lambda layer, head: sizes[layer, head] == sizes[layer].max())


@mutant(
    "find_roles",
    "Without this head the logits move but the answers stay: that makes it a decoy.",
    clause="or shift the logits",
)
def counts_any_change(weights, tokens, answer):
    logits = run(weights, tokens)[0]
    return name_roles(
        weights,
        lambda layer, head: (
            (run(silence(weights, layer, head), tokens)[0] - logits).abs().max() > 1e-2
        ),
    )


@mutant(
    "find_roles",
    "You found the two heads that matter and exchanged their roles: which layer must run first?",
    clause="One head in layer 0 tells each position its previous token",
)
def swaps_the_roles(weights, tokens, answer):
    roles = name_roles(
        weights, lambda layer, head: accuracy_without(weights, layer, head, tokens, answer) < 0.5
    )
    return {
        head: {"previous": "match", "match": "previous"}.get(role, role)
        for head, role in roles.items()
    }


@mutant(
    "find_roles", says="You answer the same", clause="with several heads per layer in any order"
)
def the_same_for_every_model(weights, tokens, answer):
    return name_roles(weights, lambda layer, head: head == 0)  # where the lesson has them


@mutant(
    "find_roles",
    "You call every head a decoy, but the model does continue its prompts: does your intervention"
    " reach the weights that run?",
)
def nothing_matters(weights, tokens, answer):
    return name_roles(
        weights, lambda layer, head: accuracy_without(weights, layer, head, tokens, answer) == 2
    )


@mutant("find_roles", name="nothing_matters", clause="every answer stays what it is")
def looks_at_the_first_prompt(weights, tokens, answer):
    one = slice(1)
    return name_roles(
        weights,
        lambda layer, head: accuracy_without(weights, layer, head, tokens[one], answer[one]) < 1,
    )


@mutant("find_roles", name="nothing_matters")
def only_if_all_answers_go_wrong(weights, tokens, answer):
    return name_roles(
        weights, lambda layer, head: accuracy_without(weights, layer, head, tokens, answer) == 0
    )


def best_of_layer(weights, score):
    """Name the head of each layer with the highest score."""
    heads = range(weights["W_O"].shape[1])
    best = [max(heads, key=lambda head: float(score(layer, head))) for layer in range(2)]
    return name_roles(weights, lambda layer, head: head == best[layer])


def is_wrong_without(weights, tokens, answer, silenced):
    return bool((run(silenced, tokens)[0].argmax(-1) != answer).float().mean() > 0.5)


@mutant(
    "find_roles",
    "You name a head that moves all logits alike, and much: without it the answers stay, and that "
    "makes it a decoy.",
    name="trusts_shifted_logits",
)
def trusts_the_largest_change(weights, tokens, answer):
    logits = run(weights, tokens)[0]
    return best_of_layer(
        weights,
        lambda *at: (run(silence(weights, *at), tokens)[0] - logits).norm(dim=-1).mean(),
    )


@mutant("find_roles", name="trusts_shifted_logits")
def trusts_the_answer_logit(weights, tokens, answer):
    rows = torch.arange(len(answer))
    return best_of_layer(
        weights, lambda *at: -run(silence(weights, *at), tokens)[0][rows, answer].mean()
    )


@mutant("find_roles", name="trusts_shifted_logits", clause="if it alone writes zeros")
def keeps_one_head(weights, tokens, answer):
    rows = torch.arange(len(answer))

    def score(layer, head):
        kept = {name: W.clone() for name, W in weights.items()}
        kept["W_O"][layer] = 0
        kept["W_O"][layer, head] = weights["W_O"][layer, head]
        return run(kept, tokens)[0][rows, answer].mean()

    return best_of_layer(weights, score)


@mutant("find_roles", "Heads that you silenced are still silent when you judge the later ones.")
def silences_more_and_more(weights, tokens, answer):
    silenced, wrong = weights, {}
    for at in list_heads(weights):
        silenced = silence(silenced, *at)
        wrong[at] = is_wrong_without(weights, tokens, answer, silenced)
    return name_roles(weights, lambda *at: wrong[at])


@mutant(
    "find_roles",
    "You try the first two heads of each layer and call the others decoys.",
    clause="the role of every head",
)
def tries_two_heads(weights, tokens, answer):
    return name_roles(
        weights,
        lambda *at: at[1] < 2 and is_wrong_without(weights, tokens, answer, silence(weights, *at)),
    )


def build_transformer(weights):
    _, n_heads, d_model, d_head = weights["W_Q"].shape
    config = Config(
        len(weights["W_E"]), len(weights["W_pos"]), d_model, 2, n_heads, d_head, attn_scale=1.0
    )
    model = Transformer(config).requires_grad_(False)
    for name in ("W_E", "W_pos", "W_U"):
        getattr(model, name).copy_(weights[name])
    for layer, block in enumerate(model.blocks):
        for name in ("W_Q", "W_K", "W_V", "W_O"):
            getattr(block.attn, name).copy_(weights[name][layer])
    return model


def compare_somewhere(weights, tokens, answer, silent=slice(None), judged=-1):
    """Silence heads at some positions, and judge what is said at some."""
    model = build_transformer(weights)
    own = model(tokens)[:, judged].argmax(-1)

    def is_needed(layer, head):
        def hush(z, hook):
            z[:, silent, head] = 0

        logits = model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), hush)])
        return (logits[:, judged].argmax(-1) != own).any()

    return name_roles(weights, is_needed)


variant(
    "find_roles",
    compare_somewhere,
    "silences_the_last_position_only",
    "You silence heads at the last position only: what a head of layer 0 writes is read where "
    "layer 1 looks.",
    silent=-1,
)
variant(
    "find_roles",
    compare_somewhere,
    "judges_every_position",
    "You judge what the model says at all positions; the answers are those after the last token.",
    clause="after the last token",
    judged=slice(None),
)


@mutant("find_roles", says="a dict with the keys", clause='Every other head is a "decoy"')
def leaves_out_the_decoys(*inputs):
    roles = compare_somewhere(*inputs)
    return {head: role for head, role in roles.items() if role != "decoy"}


@mutant("find_roles", says="a dict with the keys", clause="Name heads by layer and head, from 0")
def counts_from_one(*inputs):
    roles = compare_somewhere(*inputs)
    return {f"a{int(head[1]) + 1}.h{int(head[4]) + 1}": role for head, role in roles.items()}


@mutant("find_roles", says="A role is", clause='"previous", "match" or "decoy"')
def has_words_of_its_own(*inputs):
    return {head: role.title() for head, role in compare_somewhere(*inputs).items()}


@alternative("find_roles")
def by_what_remains_of_the_answer(weights, tokens, answer):
    def measure(weights):
        return run(weights, tokens)[0].log_softmax(-1)[torch.arange(len(answer)), answer].mean()

    losses = {at: measure(weights) - measure(silence(weights, *at)) for at in list_heads(weights)}
    return name_roles(weights, lambda *at: losses[at] > 1)


@alternative("find_roles")
def from_the_weights_alone(weights, tokens, answer):
    """Find the pair of heads whose weights match tokens and say the token.

    W_E W_Q W_K^T (W_E W_V W_O)^T matches, and W_E W_V W_O W_U says the token.
    """
    W_E, W_pos = weights["W_E"], weights["W_pos"]
    OV = torch.einsum("lndh,lnhe->lnde", weights["W_V"], weights["W_O"])
    QK = torch.einsum("lndh,lneh->lnde", weights["W_Q"], weights["W_K"])
    shifts = [(W_pos @ QK[0, n] @ W_pos.T).diagonal(-1).mean() for n in range(OV.shape[1])]
    score = {}
    for first in range(OV.shape[1]):
        for second in range(OV.shape[1]):
            matched = (W_E @ QK[1, second] @ (W_E @ OV[0, first]).T).diagonal().mean()
            score[first, second] = (
                shifts[first] * matched * (W_E @ OV[1, second] @ weights["W_U"]).diagonal().mean()
            )
    found = max(score, key=score.__getitem__)
    return name_roles(weights, lambda layer, head: head == found[layer])
