"""List wrong answers to lesson 01 that the grader rejects by name, and unusual right ones."""

import math

import torch

from mini_transformer import Config, Transformer
from mini_transformer.course.grading.checks import alternative, mutant

# attention_pattern --------------------------------------------------------------------------------


def score(q, k, scale=None):
    return torch.einsum("bqnh,bknh->bnqk", q, k) / (scale or q.shape[-1] ** 0.5)


def hide(scores, value=float("-inf"), diagonal=1):
    return scores.masked_fill(torch.ones_like(scores[0, 0]).triu(diagonal).bool(), value)


@mutant("attention_pattern")
def softmax_over_wrong_axis(q, k):
    return hide(score(q, k)).softmax(dim=-2)


@mutant("attention_pattern")
def masks_after_the_softmax(q, k):
    return score(q, k).softmax(dim=-1).tril()


@mutant("attention_pattern")
def hides_the_present(q, k):
    return hide(score(q, k), diagonal=0).softmax(dim=-1)


@mutant("attention_pattern", "forgets_the_causal_mask")
def attends_to_everything(q, k):
    return score(q, k).softmax(dim=-1)


@mutant("attention_pattern")
def masks_the_past(q, k):
    scores = score(q, k)
    past = torch.ones_like(scores[0, 0]).tril(-1).bool()
    return scores.masked_fill(past, float("-inf")).softmax(dim=-1)


@mutant("attention_pattern")
def hides_the_future_with_zeros(q, k):
    return score(q, k).tril().softmax(dim=-1)


@mutant("attention_pattern")
def swaps_query_and_key(q, k):
    return hide(score(k, q)).softmax(dim=-1)


@mutant("attention_pattern", "forgets_the_scale")
def leaves_dot_products_as_they_are(q, k):
    return hide(score(q, k, scale=1)).softmax(dim=-1)


@mutant("attention_pattern")
def divides_by_the_width(q, k):
    return hide(score(q, k, scale=q.shape[-1])).softmax(dim=-1)


@mutant("attention_pattern")
def ignores_the_scores(q, k):
    n_pos = q.shape[1]
    even = torch.ones(n_pos, n_pos).tril() / torch.arange(1, n_pos + 1).unsqueeze(1)
    return even.expand(q.shape[0], q.shape[2], -1, -1)


@mutant("attention_pattern")
def overflows(q, k):
    weights = score(q, k).exp().tril()
    return weights / weights.sum(dim=-1, keepdim=True)


@alternative("attention_pattern")
def head_by_head(q, k):
    pattern = torch.zeros(q.shape[0], q.shape[2], q.shape[1], q.shape[1])
    for head in range(q.shape[2]):
        for i in range(q.shape[1]):
            scores = (q[:, i, head].unsqueeze(1) * k[:, : i + 1, head]).sum(-1) / math.sqrt(
                q.shape[-1]
            )
            weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
            pattern[:, head, i, : i + 1] = weights / weights.sum(dim=-1, keepdim=True)
    return pattern


@alternative("attention_pattern")
def with_matmul_and_a_large_negative_number(q, k):
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])
    return torch.softmax(scores.tril() - 1e9 * torch.ones_like(scores).triu(1), dim=-1)


# run_transformer ----------------------------------------------------------------------------------


def attend(stream, weights, layer, heads=None, scale=None, causal=True):
    """Compute what some heads of a layer write (by default all)."""
    Q, K, V, O = (  # noqa: E741
        weights[name][layer][heads or slice(None)] for name in ("W_Q", "W_K", "W_V", "W_O")
    )
    q, k, v = (torch.einsum("btd,ndh->btnh", stream, W) for W in (Q, K, V))
    scores = score(q, k, scale)
    pattern = (hide(scores) if causal else scores).softmax(dim=-1)
    return torch.einsum("bnqk,bknh,nhd->bqd", pattern, v, O)


def apply_mlp(stream, weights, layer):
    return (stream @ weights["W_in"][layer]).relu() @ weights["W_out"][layer]


def embed(weights, tokens):
    return weights["W_E"][tokens] + weights["W_pos"][: tokens.shape[1]]


@mutant("run_transformer")
def forgets_the_positions(weights, tokens):
    stream = weights["W_E"][tokens]
    for layer in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, layer)
        stream = stream + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def overwrites_the_stream(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = attend(stream, weights, layer)
        stream = stream + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def forgets_the_causal_mask(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, layer, causal=False)
        stream = stream + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def forgets_the_scale(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, layer, scale=1)
        stream = stream + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def heads_in_sequence(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        for head in range(weights["W_Q"].shape[1]):
            stream = stream + attend(stream, weights, layer, heads=[head])
        stream = stream + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def reuses_the_first_layer(weights, tokens):
    stream = embed(weights, tokens)
    for _ in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, 0)
        stream = stream + apply_mlp(stream, weights, 0)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def forgets_the_relu(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, layer)
        stream = stream + stream @ weights["W_in"][layer] @ weights["W_out"][layer]
    return stream @ weights["W_U"]


@mutant("run_transformer")
def mlp_reads_the_old_stream(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = stream + attend(stream, weights, layer) + apply_mlp(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def mlp_replaces_the_stream(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(len(weights["W_Q"])):
        stream = apply_mlp(stream + attend(stream, weights, layer), weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer")
def builds_a_transformer(weights, tokens):
    n_layers, n_heads, d_model, d_head = weights["W_Q"].shape
    sizes = {"d_vocab": len(weights["W_E"]), "n_ctx": len(weights["W_pos"]), "d_model": d_model}
    sizes |= {"n_layers": n_layers, "n_heads": n_heads, "d_head": d_head}
    model = Transformer(Config(**sizes, d_mlp=weights["W_in"].shape[-1])).requires_grad_(False)
    for name in ("W_E", "W_pos", "W_U"):
        getattr(model, name).copy_(weights[name])
    for layer, block in enumerate(model.blocks):
        for part, names in (
            (block.attn, ("W_Q", "W_K", "W_V", "W_O")),
            (block.mlp, ("W_in", "W_out")),
        ):
            for name in names:
                getattr(part, name).copy_(weights[name][layer])
    return model(tokens)


@alternative("run_transformer")
def head_by_head_and_in_place(weights, tokens):
    stream = embed(weights, tokens)
    for layer in range(weights["W_in"].shape[0]):
        before = stream.clone()
        for head in range(weights["W_Q"].shape[1]):
            stream += attend(before, weights, layer, heads=[head])
        stream += apply_mlp(stream, weights, layer)
    return torch.einsum("btd,dv->btv", stream, weights["W_U"])


# split_head_by_source -----------------------------------------------------------------------------


def read_head(model, tokens, layer, head):
    """Return the pattern (b, q, k), and what each position offers in the stream (b, k, d)."""
    cache = model.run_with_cache(tokens)[1]
    return cache["pattern", layer][:, head], cache["v", layer][:, :, head] @ model.W_O[layer, head]


@mutant("split_head_by_source")
def forgets_the_pattern(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    return (offered @ model.W_U).unsqueeze(1).expand(-1, pattern.shape[1], -1, -1)


@mutant("split_head_by_source", "swaps_query_and_key", says="has axes 1 and 2 exchanged")
def puts_the_key_before_the_query(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    return torch.einsum("bqk,bkd,dv->bkqv", pattern, offered, model.W_U)


@mutant("split_head_by_source")
def gives_the_querys_own_value(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    return torch.einsum("bqk,bqd,dv->bqkv", pattern, offered, model.W_U)


@mutant("split_head_by_source")
def ignores_the_layer(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, 0, head)
    return torch.einsum("bqk,bkd,dv->bqkv", pattern, offered, model.W_U)


@mutant("split_head_by_source")
def ignores_the_head(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, 0)
    return torch.einsum("bqk,bkd,dv->bqkv", pattern, offered, model.W_U)


@mutant("split_head_by_source")
def skips_the_value_and_output_weights(model, tokens, layer, head):
    cache = model.run_with_cache(tokens)[1]
    return torch.einsum(
        "bqk,bkd,dv->bqkv", cache["pattern", layer][:, head], cache["resid_pre", layer], model.W_U
    )


@mutant("split_head_by_source")
def leaves_out_the_unembedding(model, tokens, layer, head):
    return torch.einsum("bqk,bkd->bqkd", *read_head(model, tokens, layer, head))


@mutant("split_head_by_source", says="is summed over")
def adds_up_the_sources(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    return pattern @ offered @ model.W_U


@mutant("split_head_by_source")
def shares_evenly(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    n_pos = tokens.shape[1]
    return (pattern @ offered @ model.W_U / n_pos).unsqueeze(2).expand(-1, -1, n_pos, -1)


@alternative("split_head_by_source")
def into_a_tensor_of_the_stubs_shape(model, tokens, layer, head):
    n_batch, n_pos = tokens.shape
    result = torch.zeros(n_batch, n_pos, n_pos, model.config.d_vocab)
    pattern, offered = read_head(model, tokens, layer, head)
    for i in range(n_pos):
        result[:, i] = pattern[:, i].unsqueeze(-1) * (offered @ model.W_U)
    return result


@alternative("split_head_by_source")
def from_the_stream_by_the_ov_matrix(model, tokens, layer, head):
    cache = model.run_with_cache(tokens, names_filter=[("pattern", layer), ("resid_pre", layer)])[1]
    offered = cache["resid_pre", layer] @ model.OV(layer, head) @ model.W_U
    return cache["pattern", layer][:, head].unsqueeze(-1) * offered.unsqueeze(1)


# find_deciders ------------------------------------------------------------------------------------


def measure_pushes(config, weights, tokens, answer, wrong):
    """Measure what each writer adds to the logit difference, (b, t) by name."""
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    logits = {
        name: part @ model.W_U
        for name, part in model.decompose(model.run_with_cache(tokens)[1]).items()
    }
    row = torch.arange(len(tokens))
    return {name: part[row, :, answer] - part[row, :, wrong] for name, part in logits.items()}


def sort_out(pushes):
    names = sorted(pushes, key=lambda name: pushes[name].item(), reverse=True)
    return [name for name in names if pushes[name] >= 1], [
        name for name in names[::-1] if pushes[name] <= -1
    ]


def solve(*inputs):
    return sort_out({name: push[:, -1].mean() for name, push in measure_pushes(*inputs).items()})


@mutant("find_deciders")
def reads_the_answer_logit_alone(config, weights, tokens, answer, wrong):
    # Compare the answer with a token whose logit is always 0.
    nothing = torch.zeros(config["d_model"], 1)
    wider = weights | {"W_U": torch.cat([weights["W_U"], nothing], dim=1)}
    config = config | {"d_vocab_out": config["d_vocab"] + 1}
    return solve(config, wider, tokens, answer, torch.full_like(wrong, config["d_vocab"]))


@mutant("find_deciders")
def averages_over_positions(config, weights, tokens, answer, wrong):
    pushes = measure_pushes(config, weights, tokens, answer, wrong)
    return sort_out({name: push.mean() for name, push in pushes.items()})


@mutant("find_deciders")
def judges_by_one_prompt(config, weights, tokens, answer, wrong):
    pushes = measure_pushes(config, weights, tokens, answer, wrong)
    return sort_out({name: push[0, -1] for name, push in pushes.items()})


@mutant("find_deciders")
def adds_up_the_prompts(config, weights, tokens, answer, wrong):
    pushes = measure_pushes(config, weights, tokens, answer, wrong)
    return sort_out({name: push[:, -1].sum() for name, push in pushes.items()})


@mutant("find_deciders")
def flips_the_sign(config, weights, tokens, answer, wrong):
    return solve(config, weights, tokens, wrong, answer)


@mutant("find_deciders")
def forgets_those_against(config, weights, tokens, answer, wrong):
    return solve(config, weights, tokens, answer, wrong)[0], []


@mutant("find_deciders")
def forgets_the_sign(config, weights, tokens, answer, wrong):
    pushes = {
        name: push[:, -1].mean()
        for name, push in measure_pushes(config, weights, tokens, answer, wrong).items()
    }
    return sort_out({name: push.abs() for name, push in pushes.items()})[0], sort_out(pushes)[1]


@mutant("find_deciders")
def lists_the_weakest_first(config, weights, tokens, answer, wrong):
    return tuple(part[::-1] for part in solve(config, weights, tokens, answer, wrong))


@mutant("find_deciders", says="You answer the same")
def constant_output(config, weights, tokens, answer, wrong):
    return ["a1.h0"], ["a1.h1"]


SAID = "writers that push"


def reduce(inputs, how):
    return sort_out({name: how(push[:, -1]) for name, push in measure_pushes(*inputs).items()})


@mutant("find_deciders", says=SAID)
def takes_the_median(*inputs):
    return reduce(inputs, lambda push: push.median())


@mutant("find_deciders", says=SAID)
def looks_at_ten_prompts(*inputs):
    return reduce(inputs, lambda push: push[:10].mean())


@mutant("find_deciders", says=SAID)
def threshold_of_a_half(*inputs):
    return reduce(inputs, lambda push: 2 * push.mean())


@mutant("find_deciders", says=SAID)
def threshold_of_two(*inputs):
    return reduce(inputs, lambda push: push.mean() / 2)


@mutant("find_deciders", says=SAID)
def compares_with_the_average_token(config, weights, tokens, answer, wrong):
    mean = weights["W_U"].mean(dim=1, keepdim=True)
    wider = weights | {"W_U": torch.cat([weights["W_U"], mean], dim=1)}
    config = config | {"d_vocab_out": config["d_vocab"] + 1}
    return solve(config, wider, tokens, answer, torch.full_like(wrong, config["d_vocab"]))


@alternative("find_deciders")
def by_differences_of_partial_sums(config, weights, tokens, answer, wrong):
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    cache = model.run_with_cache(
        tokens, names_filter=["embed", "pos_embed", lambda name: name.endswith("result")]
    )[1]
    parts = {"embed": cache["embed"], "pos_embed": cache["pos_embed"]}
    for layer in range(config["n_layers"]):
        parts |= {
            f"a{layer}.h{head}": cache["result", layer][:, :, head]
            for head in range(config["n_heads"])
        }
    total = torch.zeros_like(cache["embed"])
    pushes = []
    row = torch.arange(len(tokens))
    for name, part in parts.items():
        before, after = (stream[:, -1] @ model.W_U for stream in (total, total + part))
        gain = (after - before)[row, answer] - (after - before)[row, wrong]
        pushes.append((float(gain.mean()), name))
        total = total + part
    pushes.sort()
    return [name for push, name in pushes[::-1] if push >= 1], [
        name for push, name in pushes if push <= -1
    ]
