"""List wrong answers to lesson 03 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.checks import alternative, mutant


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


@mutant("previous_token_qk")
def attends_to_itself(position, strength, d_head, attn_scale):
    return read_pairs(position, position, d_head, strength * attn_scale)


@mutant("previous_token_qk")
def attends_to_the_next(position, strength, d_head, attn_scale):
    return read_pairs(position[:-1], position[1:], d_head, strength * attn_scale)


@mutant("previous_token_qk")
def attends_to_all_before(position, strength, d_head, attn_scale):
    n = len(position)
    before = torch.ones(n, n).tril(-1)
    return read_pairs(position, before @ position, d_head, strength * attn_scale)


@mutant("previous_token_qk")
def strength_left_out(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], d_head, attn_scale)


@mutant("previous_token_qk")
def strength_twice(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    return W_Q, W_K * strength


@mutant("previous_token_qk")
def scale_left_out(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], d_head, strength)


@mutant("previous_token_qk")
def assumes_axes(position, strength, d_head, attn_scale):
    W_Q, W_K = torch.zeros(position.shape[1], d_head), torch.zeros(position.shape[1], d_head)
    for i in range(1, len(position)):
        W_Q[i, i - 1] = strength * attn_scale
        W_K[i - 1, i - 1] = 1.0
    return W_Q, W_K


@mutant("previous_token_qk")
def transposed_weights(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    return W_Q.T, W_K.T


@mutant("previous_token_qk")
def ignores_d_head(position, strength, d_head, attn_scale):
    return read_pairs(position[1:], position[:-1], len(position), strength * attn_scale)


@mutant("previous_token_qk")
def fills_the_unused_dimensions(position, strength, d_head, attn_scale):
    W_Q, W_K = read_pairs(position[1:], position[:-1], d_head, strength * attn_scale)
    rest = complete(position, d_head - len(position))
    for W in (W_Q, W_K):
        W[:, len(position) : len(position) + rest.shape[1]] = rest
    return W_Q, W_K


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


@mutant("copy_ov")
def swaps_source_and_target(source, target, d_head):
    return move(target, source, d_head)


@mutant("copy_ov")
def writes_back_the_source(source, target, d_head):
    return move(source, source, d_head)


@mutant("copy_ov")
def writes_every_target(source, target, d_head):
    return move(source.sum(dim=0, keepdim=True), target.sum(dim=0, keepdim=True), d_head)


@mutant("copy_ov")
def normalises_targets(source, target, d_head):
    return move(source, target / target.norm(dim=1, keepdim=True), d_head)


@mutant("copy_ov")
def pairs_off_by_one(source, target, d_head):
    return move(source, target.roll(-1, dims=0), d_head)


@mutant("copy_ov", "assumes_axes")
def copy_assumes_axes(source, target, d_head):
    return move(torch.eye(source.shape[1])[: len(source)], target, d_head)


@mutant("copy_ov", "transposed_weights")
def copy_transposed_weights(source, target, d_head):
    W_V, W_O = move(source, target, d_head)
    return W_V.T, W_O.T


@mutant("copy_ov")
def passes_other_things_on(source, target, d_head):
    W_V, W_O = move(source, target, d_head)
    rest = complete(source, d_head - len(source))
    W_V[:, len(source) :] = rest
    W_O[len(source) :] = rest.T
    return W_V, W_O


@alternative("copy_ov")
def in_the_last_dimensions(source, target, d_head):
    W_V = torch.zeros(source.shape[1], d_head)
    W_O = torch.zeros(d_head, source.shape[1])
    for i in range(len(source)):
        W_V[:, -1 - i], W_O[-1 - i] = 2 * source[i], target[i] / 2
    return W_V, W_O


@mutant("match_qk")
def matches_the_token_itself(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E, W_V.shape[1], strength * attn_scale)


@mutant("match_qk")
def composes_with_the_query(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E @ W_V @ W_O, W_E, W_V.shape[1], strength * attn_scale)


@mutant("match_qk")
def matches_the_tokens_before(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E @ W_V @ W_O, W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)


@mutant("match_qk", "strength_left_out")
def match_strength_left_out(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], attn_scale)


@mutant("match_qk", "scale_left_out")
def match_scale_left_out(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], strength)


@mutant("match_qk")
def key_reads_both(W_E, W_V, W_O, strength, attn_scale):
    return read_pairs(W_E, W_E + W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)


@mutant("match_qk", "transposed_weights")
def match_transposed_weights(W_E, W_V, W_O, strength, attn_scale):
    W_Q, W_K = read_pairs(W_E, W_E @ W_V @ W_O, W_V.shape[1], strength * attn_scale)
    return W_Q.T, W_K.T


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


@mutant("induction_weights")
def ignores_its_arguments(d_vocab, n_ctx):
    return build(16, 24)


@mutant("induction_weights")
def attends_evenly(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    return {**weights, "W_pos": torch.zeros_like(weights["W_pos"])}


@mutant("induction_weights", "attends_to_itself")
def first_layer_attends_to_itself(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    weights["W_Q"][0, 0], weights["W_K"][0, 0] = read_pairs(
        *[weights["W_pos"]] * 2, max(d_vocab, n_ctx), 20.0
    )
    return weights


@mutant("induction_weights")
def attends_too_weakly(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, strength=2.0)


@mutant("induction_weights", name="attends_too_weakly")
def strong_enough_for_short_contexts(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, strength=8.0)


@mutant("induction_weights")
def nothing_to_match(d_vocab, n_ctx):
    weights = build(d_vocab, n_ctx)
    weights["W_O"][0] = 0.0
    return weights


@mutant("induction_weights", "matches_the_token_itself")
def second_layer_matches_the_token_itself(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, key="token")


@mutant("induction_weights")
def copies_the_matched_token(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, reads="previous")


@mutant("induction_weights")
def reads_out_the_present_token(d_vocab, n_ctx):
    return build(d_vocab, n_ctx, said="token")


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


@mutant("find_roles")
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


@mutant("find_roles")
def trusts_size(weights, tokens, answer):
    sizes = (weights["W_V"] @ weights["W_O"]).norm(dim=(-2, -1))
    return name_roles(weights, lambda layer, head: sizes[layer, head] == sizes[layer].max())


@mutant("find_roles")
def counts_any_change(weights, tokens, answer):
    logits = run(weights, tokens)[0]
    return name_roles(
        weights,
        lambda layer, head: (
            (run(silence(weights, layer, head), tokens)[0] - logits).abs().max() > 1e-2
        ),
    )


@mutant("find_roles")
def swaps_the_roles(weights, tokens, answer):
    roles = name_roles(
        weights, lambda layer, head: accuracy_without(weights, layer, head, tokens, answer) < 0.5
    )
    return {
        head: {"previous": "match", "match": "previous"}.get(role, role)
        for head, role in roles.items()
    }


@mutant("find_roles", says="You answer the same")
def the_same_for_every_model(weights, tokens, answer):
    return name_roles(weights, lambda layer, head: head == 0)  # where the lesson has them


@mutant("find_roles")
def nothing_matters(weights, tokens, answer):
    return name_roles(
        weights, lambda layer, head: accuracy_without(weights, layer, head, tokens, answer) == 2
    )


@mutant("find_roles", name="nothing_matters")
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


@alternative("find_roles")
def by_what_remains_of_the_answer(weights, tokens, answer):
    rows = torch.arange(len(answer))
    full = run(weights, tokens)[0][rows, answer].mean()
    losses = {
        at: full - run(silence(weights, *at), tokens)[0][rows, answer].mean()
        for at in list_heads(weights)
    }
    return name_roles(weights, lambda layer, head: losses[layer, head] > full / 2)


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
