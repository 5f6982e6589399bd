"""List wrong answers to lesson 01 that the grader rejects by name, and unusual right ones."""

import functools
import math

import torch

from mini_transformer import Config, Transformer
from mini_transformer.course.grading.mutants import alternative, mutant

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "find_deciders": ["Build the model with"],
}


def variant(exercise, base, name, sentence="", /, says="", clause="", **switches):
    """Mark `base` with these switches as a wrong answer."""

    def answer(*args):
        return base(*args, **switches)

    mutant(exercise, sentence, name=name, says=says, clause=clause)(answer)


# attention_pattern --------------------------------------------------------------------------------


def score(q, k, scale=None):
    return torch.einsum("bqnh,bknh->bnqk", q, k) / (scale or q.shape[-1] ** 0.5)


def hide(scores, value=float("-inf"), diagonal=1):
    return scores.masked_fill(torch.ones_like(scores[0, 0]).triu(diagonal).bool(), value)


def share_out(weights):
    return weights / weights.sum(-1, keepdim=True)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def even(q, k):
    return share_out(torch.ones(q.shape[1], q.shape[1]).tril()).expand(len(q), q.shape[2], -1, -1)


def look(q, k, scale=None, scores=score, mask=hide, spread=lambda scores: scores.softmax(-1)):
    return spread(mask(scores(q, k, scale)))


for name, clause, sentence, switches in (
    (
        "softmax_over_wrong_axis",
        "Every query spreads a weight of 1 over the keys",
        "For every key your weights sum to 1 over the queries; it is the query that has one unit "
        "of attention to spread.",
        {"spread": lambda scores: scores.softmax(-2)},
    ),
    (
        "masks_after_the_softmax",
        "by a softmax over their scores",
        "Later keys get 0, but what they had is lost and a query's weights no longer sum to 1: "
        "when must the softmax learn that a key is out of bounds?",
        {"mask": lambda x: x, "spread": lambda x: x.softmax(-1).tril()},
    ),
    (
        "shares_out_after_the_mask",
        "",
        "Your softmax counts the later keys, too, and what is left is shared out anew: where a "
        "later key's score is much the highest, 0 / 0 is left.",
        {"mask": lambda x: x, "spread": lambda x: share_out(x.softmax(-1).tril())},
    ),
    (
        "shares_out_zeros",
        "",
        "Later keys count with score 0 in your softmax and are dropped afterwards: where all "
        "other scores are far below 0, 0 / 0 is left.",
        {"mask": torch.tril, "spread": lambda x: share_out(x.softmax(-1).tril())},
    ),
    (
        "subtracts_the_highest_of_all",
        "",
        "You subtract the highest score of all from every row: where a whole row is far below it, "
        "all exponentials are 0. Each row has its own highest score.",
        {"mask": lambda x: x, "spread": lambda x: share_out((x - x.max()).exp().tril())},
    ),
    (
        "clips_the_scores",
        "",
        "Your scores are cut off at 50 above and below, so that all that are larger count alike: "
        "a softmax needs differences only, however large the scores are.",
        {"mask": lambda x: hide(x.clamp(-50, 50))},
    ),
    (
        "hides_the_present",
        "at its own and at earlier positions",
        "The first query has nothing left to look at and becomes nan: a position may attend to "
        "itself.",
        {"mask": lambda x: hide(x, diagonal=0)},
    ),
    (
        "forgets_the_causal_mask",
        "keys at later positions get weight exactly 0",
        "Your queries also look at later positions, where the answer stands.",
        {"mask": lambda x: x},
    ),
    (
        "masks_the_past",
        "",
        "Your queries look only at themselves and later positions: the other triangle is the "
        "future.",
        {"mask": lambda x: hide(x.flip(-1, -2)).flip(-1, -2)},
    ),
    (
        "hides_the_future_with_zeros",
        "",
        "A later key that has score 0 still gets weight, since exp(0) is 1: which score gives "
        "weight 0?",
        {"mask": torch.tril},
    ),
    (
        "hides_the_future_with_minus_100",
        "",
        "Later keys get a score of -100, which is more than some scores that a query may see: "
        "which score is below all others?",
        {"mask": lambda x: hide(x, -100.0)},
    ),
    (
        "swaps_query_and_key",
        "The score of key position j for query position i",
        "Row i of your pattern holds the scores of key i for all queries: the one who looks and "
        "the one who is looked at are swapped.",
        {"scores": lambda q, k, scale: score(k, q)},
    ),
    (
        "compares_directions",
        "the dot product of their vectors",
        "Your queries and keys have length 1 before they are compared: the dot product counts "
        "their lengths, too.",
        {"scores": lambda q, k, scale: score(unit(q), unit(k))},
    ),
    (
        "forgets_the_scale",
        "divided by the square root of the head width h",
        "Your scores are plain dot products: those of long vectors are large, and the task "
        "divides them by something.",
        {"scale": 1},
    ),
    (
        "divides_by_the_width",
        "",
        "You divide the scores by the head width itself, which makes the pattern too even.",
        {"scores": lambda q, k, scale: score(q, k, q.shape[-1])},
    ),
    (
        "overflows",
        "Scores may be as large as a few hundred",
        "Large scores give nan: the exponential of a few hundred is more than a float holds, so "
        "subtract something first, or let torch do it.",
        {"mask": lambda x: x, "spread": lambda x: share_out(x.exp().tril())},
    ),
):
    variant("attention_pattern", look, name, sentence, clause=clause, **switches)

variant(
    "attention_pattern",
    even,
    "ignores_the_scores",
    "Every query looks at all positions up to its own alike: what have queries and keys decided?",
)
for name, says, switches in (
    (
        "takes_the_number_of_heads_for_the_width",
        "is what a softmax of scores 1.155 times as large gives",
        {"scores": lambda q, k, scale: score(q, k, q.shape[2] ** 0.5)},
    ),
    (
        "looks_at_the_highest_only",
        "is 1 where what it should be is highest",
        {"spread": lambda x: (x == x.amax(-1, keepdim=True)).float()},
    ),
):
    variant("attention_pattern", look, name, says=says, **switches)


@mutant("attention_pattern", says="the same for all others", clause="All prompts and all heads")
def looks_at_one_prompt(q, k):
    return look(q[:1], k[:1]).expand(len(q), -1, -1, -1)


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


def attend(stream, weights, layer, heads=None, scale=None, causal=True, turned=False):
    """Compute what some heads of a layer write (by default all)."""
    Q, K, V, O = (  # noqa: E741
        weights[name][layer][heads or slice(None)] for name in ("W_Q", "W_K", "W_V", "W_O")
    )
    q, k, v = (torch.einsum("btd,ndh->btnh", stream, W) for W in (Q, K, V))
    scores = score(k, q, scale) if turned else score(q, k, scale)
    pattern = (hide(scores) if causal else scores).softmax(dim=-1)
    return torch.einsum("bnqk,bknh,nhd->bqd", pattern, v, O)


def apply_mlp(stream, weights, layer, act=torch.relu):
    return act(stream @ weights["W_in"][layer]) @ weights["W_out"][layer]


def embed(weights, tokens):
    return weights["W_E"][tokens] + weights["W_pos"][: tokens.shape[1]]


def keep(layer):
    return layer


def run(weights, tokens, start=embed, heads=attend, mlp=apply_mlp, use=keep, read="W_U", **kept):
    """Run it with a part exchanged; `kept` are shares of the stream that stay beside a writer."""
    stream = start(weights, tokens)
    for layer in map(use, range(len(weights["W_Q"]))):
        before = stream
        stream = kept.get("beside_heads", 1) * before + heads(before, weights, layer)
        seen = before if kept.get("old") else stream
        stream = kept.get("beside_mlp", 1) * stream + mlp(seen, weights, layer)
    return stream @ (weights[read] if read == "W_U" else weights[read].T)


def with_heads(**switches):
    return {"heads": functools.partial(attend, **switches)}


def add_in_turn(stream, weights, layer, mlp=None):
    after = stream
    for head in range(weights["W_Q"].shape[1]):
        after = after + attend(stream if mlp else after, weights, layer, heads=[head])
        after = after + (mlp(after, weights, layer) if mlp else 0)
    return after - stream


def divide(stream, weights, layer, by):
    sizes = weights["W_Q"].shape
    return attend(stream, weights, layer, scale=by(sizes[2], sizes[1]) ** 0.5)


def mix_heads(stream, weights, layer):
    """Join the heads' values in an order in which positions and heads are mixed."""
    q, k, v = (stream.unsqueeze(1) @ weights[name][layer] for name in ("W_Q", "W_K", "W_V"))
    z = hide(q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    return z.reshape(*stream.shape[:2], -1) @ weights["W_O"][layer].flatten(0, 1)


for name, clause, sentence, switches in (
    (
        "forgets_the_positions",
        "one vector per token, and one per position",
        "Without the position embedding, a token starts with the same stream wherever it stands.",
        {"start": lambda w, tokens: w["W_E"][tokens]},
    ),
    (
        "takes_the_last_positions",
        "t is at most n_ctx",
        "You take the last rows of W_pos; the first position has the first row, however short the "
        "prompts are.",
        {"start": lambda w, tokens: w["W_E"][tokens] + w["W_pos"][-tokens.shape[1] :]},
    ),
    (
        "looks_positions_up_by_token",
        "",
        "You look up W_pos by the token; which row counts is a matter of where the token stands.",
        {"start": lambda w, x: w["W_E"][x] + w["W_pos"][x.clamp(max=len(w["W_pos"]) - 1)]},
    ),
    (
        "overwrites_the_stream",
        "read the same stream and add to it",
        "What attention wrote has replaced the stream: nothing in the stream is ever overwritten.",
        {"beside_heads": 0},
    ),
    (
        "forgets_the_causal_mask",
        "attention: causal",
        "In your model a position reads from later ones: what may a query look at?",
        with_heads(causal=False),
    ),
    (
        "forgets_the_scale",
        "scores over the root of h",
        "Your attention is too sharp: the scores have to be divided before the softmax.",
        with_heads(scale=1),
    ),
    (
        "divides_by_the_root_of_d_model",
        "",
        "You divide the scores by the root of d_model: it is the head's own width that counts.",
        {"heads": functools.partial(divide, by=lambda d, n: d)},
    ),
    (
        "takes_the_width_for_granted",
        "",
        "You divide the scores by the root of d_model / n_heads: a head may be wider or narrower "
        "than that, so read h off its weights.",
        {"heads": functools.partial(divide, by=lambda d, n: d / n)},
    ),
    (
        "swaps_query_and_key",
        "",
        "Your scores are those of the key at i for the query at j: W_Q and W_K are exchanged.",
        with_heads(turned=True),
    ),
    (
        "runs_the_first_head_only",
        "all heads",
        "Only the first head of each layer writes anything in your model.",
        with_heads(heads=[0]),
    ),
    (
        "heads_in_sequence",
        "all heads read the same stream",
        "Your second head reads what the first head of its own layer has written: all heads of a "
        "layer read the same stream.",
        {"heads": add_in_turn},
    ),
    (
        "mlp_after_every_head",
        "then the MLP reads the sum",
        "Your MLP writes once for every head; it does so once in a layer, when all heads have.",
        {"heads": functools.partial(add_in_turn, mlp=apply_mlp), "mlp": lambda *args: 0},
    ),
    (
        "averages_the_heads",
        "",
        "What your heads write is averaged; each of them adds all of it.",
        {"heads": lambda x, w, layer: attend(x, w, layer) / w["W_Q"].shape[1]},
    ),
    (
        "mixes_heads_and_positions",
        "",
        "The heads' values, (b, n, t, h), are reshaped to (b, t, n * h) with the axes in their old "
        "order, which mixes heads with positions: move the head axis first.",
        {"heads": mix_heads},
    ),
    (
        "reuses_the_first_layer",
        "with l layers stacked",
        "All your layers have the weights of the first one.",
        {"use": lambda layer: 0},
    ),
    (
        "forgets_the_relu",
        "then ReLU",
        "Your MLP is one linear map after another, so that it could as well be one matrix: "
        "something stands between its two.",
        {"mlp": functools.partial(apply_mlp, act=keep)},
    ),
    (
        "takes_another_activation",
        "",
        "Your MLP has a GELU where the task has a ReLU.",
        {"mlp": functools.partial(apply_mlp, act=torch.nn.functional.gelu)},
    ),
    (
        "leaks",
        "",
        "Your ReLU leaks: below 0 it gives a hundredth of what went in, and should give 0.",
        {"mlp": functools.partial(apply_mlp, act=torch.nn.functional.leaky_relu)},
    ),
    (
        "cuts_off_what_the_mlp_writes",
        "then @ W_out",
        "What your MLP writes has no negative numbers: the ReLU stands between its two matrices, "
        "and nothing after the second.",
        {"mlp": lambda *args: apply_mlp(*args).relu()},
    ),
    (
        "mlp_reads_the_old_stream",
        "the MLP reads the sum",
        "Your MLP does not see what attention has just added in its own layer.",
        {"old": True},
    ),
    (
        "mlp_replaces_the_stream",
        "and adds to it, each",
        "What the MLP wrote has replaced the stream: the MLP is a writer like the others.",
        {"beside_mlp": 0},
    ),
    (
        "mlp_reads_all_positions",
        "each position by itself",
        "Your MLP reads the sum over all positions so far, but it works at each by itself.",
        {"mlp": lambda x, w, layer: apply_mlp(x.cumsum(1), w, layer)},
    ),
    (
        "reads_out_by_the_embedding",
        "the unembedding",
        "Your logits are read off with W_E; the weights hold a W_U for that.",
        {"read": "W_E"},
    ),
):
    variant("run_transformer", run, name, sentence, clause=clause, **switches)


@mutant("run_transformer", "All your attention layers run before the first MLP: layers alternate.")
def all_attention_first(weights, tokens):
    stream = embed(weights, tokens)
    for part in (attend, apply_mlp):
        for layer in range(len(weights["W_Q"])):
            stream = stream + part(stream, weights, layer)
    return stream @ weights["W_U"]


@mutant("run_transformer", says="fails when called", clause="l may be 0")
def expects_a_layer(weights, tokens):
    return run(weights | {"W_Q": weights["W_Q"][0].unsqueeze(0)}, tokens)


@mutant("run_transformer", says="the same for all others")
def runs_the_first_prompt(weights, tokens):
    return run(weights, tokens[:1]).expand(len(tokens), -1, -1)


@mutant(
    "run_transformer",
    "You let a Transformer do it: the task asks for torch alone.",
    clause="Use torch only, no Transformer",
)
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


def split(model, tokens, layer, head, *, weigh=keep, offer=None, terms="bqk,bkd->bqkd", U=keep):
    pattern, offered = read_head(model, tokens, layer, head)
    if offer:
        offered = offer(model.run_with_cache(tokens)[1], model, layer, head)
    return torch.einsum(terms, weigh(pattern), offered) @ U(model.W_U)


def project(stream, model, layer, head):
    return stream @ model.W_V[layer, head] @ model.W_O[layer, head]


def drop_own(pattern):
    return pattern.tril(-1)


for name, clause, sentence, switches in (
    (
        "forgets_the_pattern",
        "attention weight times value",
        "You have what each position offers, but every query gets all of it: how much of it does "
        "this query take?",
        {"weigh": torch.ones_like},
    ),
    (
        "takes_all_that_it_may_see",
        "",
        "Every query gets all that the positions up to its own offer: how much of it does this "
        "query take?",
        {"weigh": lambda pattern: torch.ones_like(pattern).tril()},
    ),
    (
        "takes_the_pattern_of_the_key",
        "",
        "The pattern that you weigh by is transposed: its rows are queries, its columns keys.",
        {"weigh": lambda pattern: pattern.mT},
    ),
    (
        "leaves_out_its_own_position",
        "from each source position",
        "A query may read its own position, too; yours takes nothing from there.",
        {"weigh": drop_own},
    ),
    (
        "gives_the_querys_own_value",
        "",
        "You weight the value of the position that reads: whose value does a query's weight for a "
        "key belong to?",
        {"terms": "bqk,bqd->bqkd"},
    ),
    (
        "skips_the_value_and_output_weights",
        "times W_O",
        "You weight the streams at the source positions: a head passes on only what its own two "
        "matrices let through.",
        {"offer": lambda cache, model, layer, head: cache["resid_pre", layer]},
    ),
    (
        "reads_the_embedding",
        "",
        "Your values are those of the token embedding: a head reads the stream that enters its "
        "layer, with positions and what earlier layers wrote.",
        {"offer": lambda cache, *where: project(cache["embed"], *where)},
    ),
    (
        "reads_the_stream_after_the_layer",
        "",
        "Your values are those of the stream that leaves the layer; the head reads the one that "
        "enters it.",
        {"offer": lambda cache, model, n, head: project(cache["resid_post", n], model, n, head)},
    ),
    (
        "writes_by_the_first_layers_weights",
        "",
        "You use W_O of layer 0 for a head of another layer.",
        {"offer": lambda c, model, n, head: c["v", n][:, :, head] @ model.W_O[0, head]},
    ),
    (
        "leaves_out_the_unembedding",
        "is the part of the logit of token v",
        "You have the vectors that the head adds to the stream: which matrix turns a stream into "
        "logits?",
        {"U": lambda U: torch.eye(len(U))},
    ),
):
    variant("split_head_by_source", split, name, sentence, clause=clause, **switches)


@mutant(
    "split_head_by_source",
    name="swaps_query_and_key",
    says="has axes 1 and 2 exchanged",
    clause="Entry [b, i, j, v]",
)
def puts_the_key_before_the_query(model, tokens, layer, head):
    return split(model, tokens, layer, head).transpose(1, 2)


@mutant("split_head_by_source", "Your answer is right for layer 0, whatever layer was asked for.")
def ignores_the_layer(model, tokens, layer, head):
    return split(model, tokens, 0, head)


@mutant("split_head_by_source", "You split a head of the last layer, whatever layer was asked for.")
def takes_the_last_layer(model, tokens, layer, head):
    return split(model, tokens, model.config.n_layers - 1, head)


@mutant("split_head_by_source", "Your answer is right for head 0, whatever head was asked for.")
def ignores_the_head(model, tokens, layer, head):
    return split(model, tokens, layer, 0)


@mutant(
    "split_head_by_source",
    "That is what all heads of the layer add together; one of them was asked for.",
    clause="how much one head adds",
)
def takes_all_heads(model, tokens, layer, head):
    return sum(split(model, tokens, layer, each) for each in range(model.config.n_heads))


@mutant(
    "split_head_by_source",
    "You weigh by the pattern of the layer before, and take the values of the layer asked for.",
)
def takes_the_pattern_of_the_layer_before(model, tokens, layer, head):
    pattern = read_head(model, tokens, max(layer - 1, 0), head)[0]
    return split(model, tokens, layer, head, weigh=lambda _: pattern)


@mutant(
    "split_head_by_source",
    "You silence each source and see how the logits move: in that, later layers answer, too, and "
    "only what the head adds directly was asked for.",
    clause="no later layer in between",
)
def silences_each_source(model, tokens, layer, head):
    def silence(v, hook, j):
        v[:, j, head] = 0

    hooks = [functools.partial(silence, j=j) for j in range(tokens.shape[1])]
    runs = [model.run_with_hooks(tokens, fwd_hooks=[(("v", layer), hook)]) for hook in hooks]
    return model(tokens).unsqueeze(2) - torch.stack(runs, dim=2)


@mutant(
    "split_head_by_source",
    "Each source gets a part of the whole sum, as large as its attention weight: but what it gives "
    "depends on what stands there, too.",
)
def shares_by_attention(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    return pattern.unsqueeze(-1) * (pattern @ offered @ model.W_U).unsqueeze(2)


@mutant(
    "split_head_by_source",
    says="is summed over",
    clause="Summed over the source positions j, the result is what the head writes",
)
def adds_up_the_sources(model, tokens, layer, head):
    return split(model, tokens, layer, head).sum(2)


@mutant(
    "split_head_by_source",
    "You put down all that a query gets to the position with the highest weight; it reads from "
    "the others, too.",
    clause="a sum over the key positions that it reads",
)
def gives_all_to_the_strongest(model, tokens, layer, head):
    pattern, offered = read_head(model, tokens, layer, head)
    strongest = torch.nn.functional.one_hot(pattern.argmax(-1), pattern.shape[-1])
    return strongest.unsqueeze(-1) * (pattern @ offered @ model.W_U).unsqueeze(2)


@mutant(
    "split_head_by_source",
    "Your sources add up to the right sum, but each of them got the same share of it.",
)
def shares_evenly(model, tokens, layer, head):
    parts = split(model, tokens, layer, head)
    return parts.mean(2, keepdim=True).expand_as(parts)


@mutant(
    "split_head_by_source",
    "You keep the logit of the token that stands at the source and leave all others at 0, as if "
    "every head copied: a head may raise any token's logit.",
    clause="directly to each logit",
)
def counts_the_sources_own_token(model, tokens, layer, head):
    parts = split(model, tokens, layer, head)
    return parts * (tokens[:, None, :, None] == torch.arange(parts.shape[-1]))


@mutant("split_head_by_source", says="is right for the last along the second axis only")
def splits_at_the_last_position(model, tokens, layer, head):
    parts = split(model, tokens, layer, head)
    return torch.cat([torch.zeros_like(parts[:, :-1]), parts[:, -1:]], dim=1)


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


def measure_pushes(config, weights, tokens, answer, wrong, against=True):
    """Measure what each writer adds to the logit difference, (b, t) by name."""
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    parts = model.decompose(model.run_with_cache(tokens)[1])
    row = torch.arange(len(tokens))
    logits = {name: part @ model.W_U for name, part in parts.items()}
    return {
        name: part[row, :, answer] - (part[row, :, wrong] if against else 0)
        for name, part in logits.items()
    }


def average(push):
    return push[:, -1].mean()


def decide(*inputs, push=average, up=1.0, keep=lambda name: True, **switches):
    found = {
        name: push(each).item()
        for name, each in measure_pushes(*inputs, **switches).items()
        if keep(name)
    }
    ranks = sorted(found, key=lambda name: -found[name])
    favour = [name for name in ranks if found[name] >= up]
    return favour, [name for name in ranks[::-1] if found[name] <= -up]


for name, clause, sentence, switches in (
    (
        "reads_the_answer_logit_alone",
        "logit[answer[i]] - logit[wrong[i]]",
        "You look only at the logit of the answer: a writer that raises all logits alike decides "
        "nothing.",
        {"against": False},
    ),
    (
        "averages_over_positions",
        "called for at the last position",
        "You average over all positions, but the answer is called for at one.",
        {"push": torch.mean},
    ),
    (
        "judges_by_one_prompt",
        "",
        "You look at the first prompt only: each prompt is pushed by other writers.",
        {"push": lambda push: push[0, -1]},
    ),
    (
        "adds_up_the_prompts",
        "averaged over the prompts",
        "You add up the pushes of all prompts, so that the more prompts there are the less it "
        "takes.",
        {"push": lambda push: push[:, -1].sum()},
    ),
    (
        "takes_the_median",
        "",
        "You take the median over the prompts; the task takes the average.",
        {"push": lambda push: push[:, -1].median()},
    ),
    (
        "averages_sizes",
        "",
        "You average the sizes of the pushes, so that a writer that pushes now here, now there "
        "counts as strong.",
        {"push": lambda push: push[:, -1].abs().mean() * average(push).sign()},
    ),
    (
        "looks_at_ten_prompts",
        "",
        "You average over the first ten prompts only.",
        {"push": lambda push: push[:10, -1].mean()},
    ),
    (
        "names_all_that_push",
        "is at least 1",
        "You name everybody who pushes at all; the task asks for 1 at least, or -1 at most.",
        {"up": 1e-9},
    ),
    (
        "names_those_near_one",
        "-1 or less",
        "You name writers that push by .9: the task asks for 1 at least, or -1 at most.",
        {"up": 0.8},
    ),
    (
        "asks_for_too_much",
        "",
        "You leave out writers that push by more than 1, or less than -1, but hardly so.",
        {"up": 1.3},
    ),
    (
        "names_heads_only",
        "labelled as in `model.decompose(cache)`",
        "You name heads only: the embeddings and MLPs are writers like the others.",
        {"keep": lambda name: name[0] == "a"},
    ),
    (
        "leaves_out_the_embeddings",
        '("embed", "pos_embed", "a0.h0", ..., and "m0"',
        "You leave out the two embeddings, which are writers like the others.",
        {"keep": lambda name: "embed" not in name},
    ),
    (
        "leaves_out_the_mlps",
        "",
        "You leave out the MLPs, which are writers like the others.",
        {"keep": lambda name: name[0] != "m"},
    ),
):
    variant("find_deciders", decide, name, sentence, clause=clause, **switches)


@mutant(
    "find_deciders",
    "You name who pushes by 1 or more on most of the prompts; the task averages the pushes.",
)
def counts_prompts(*inputs):
    last = {name: push[:, -1] for name, push in measure_pushes(*inputs).items()}
    ranks = sorted(last, key=lambda name: -last[name].mean().item())
    favour = [name for name in ranks if (last[name] >= 1).float().mean() > 0.5]
    return favour, [name for name in ranks[::-1] if (last[name] <= -1).float().mean() > 0.5]


@mutant(
    "find_deciders",
    "You average over those prompts only that the model answers right.",
)
def asks_where_the_model_is_right(*inputs):
    lead = sum(push[:, -1] for push in measure_pushes(*inputs).values()) > 0
    return decide(*inputs, push=lambda push: push[lead, -1].mean().nan_to_num())


@mutant(
    "find_deciders",
    "You compare the answer with the average token; the task names the token to compare with.",
)
def compares_with_the_average_token(config, weights, tokens, answer, wrong):
    mean = weights["W_U"].mean(dim=1, keepdim=True)
    wider = weights | {"W_U": torch.cat([weights["W_U"], mean], dim=1)}
    config = config | {"d_vocab_out": config["d_vocab"] + 1}
    return decide(config, wider, tokens, answer, torch.full_like(wrong, config["d_vocab"]))


@mutant(
    "find_deciders",
    "You compare the first prompt's two tokens on every prompt; each has its own.",
    clause="on prompt i",
)
def compares_the_first_prompts_tokens(config, weights, tokens, answer, wrong):
    pair = answer[:1].expand_as(answer), wrong[:1].expand_as(wrong)
    return decide(config, weights, tokens, *pair)


@mutant(
    "find_deciders",
    "You silence each writer and see how the lead moves: in that, others answer, too, and only "
    "what it adds directly counts.",
    clause="what it adds directly",
)
def silences_each_writer(config, weights, tokens, answer, wrong):
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    row = torch.arange(len(tokens))

    def silence(value, hook, name):
        part = value[:, :, int(name[-1])] if name[0] == "a" else value
        part.zero_()

    def lead(hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
        return (logits[row, answer] - logits[row, wrong]).unsqueeze(1)

    effects = {}
    for name in measure_pushes(config, weights, tokens, answer, wrong):
        kind = {"a": "result", "m": "mlp_out"}.get(name[0])
        place = (kind, int(name[1])) if kind else name
        hook = functools.partial(silence, name=name)
        effects[name] = (lead([]) - lead([(place, hook)])).mean()
    ranks = sorted(effects, key=lambda name: -effects[name])
    return [n for n in ranks if effects[n] >= 1], [n for n in ranks[::-1] if effects[n] <= -1]


@mutant("find_deciders", says="has its two parts exchanged", clause="for or against")
def flips_the_sign(config, weights, tokens, answer, wrong):
    return decide(config, weights, tokens, wrong, answer)


@mutant(
    "find_deciders",
    "You have found the writers that favour the answer, but some push against it: pushes can be "
    "negative.",
    clause="then those whose average push",
)
def forgets_those_against(*inputs):
    return decide(*inputs)[0], []


@mutant(
    "find_deciders",
    "Your first list goes by the size of the push: whoever pushes hard against the answer does "
    "not favour it.",
)
def forgets_the_sign(*inputs):
    return decide(*inputs, push=lambda push: average(push).abs())[0], decide(*inputs)[1]


@mutant(
    "find_deciders",
    "You name the strongest writer on each side only; the task asks for all that reach 1.",
)
def names_the_strongest(*inputs):
    return tuple(part[:1] for part in decide(*inputs))


@mutant("find_deciders", says="in the reverse order", clause="the strongest first")
def lists_the_weakest_first(*inputs):
    return tuple(part[::-1] for part in decide(*inputs))


@mutant("find_deciders", says="in the reverse order", clause="the most negative first")
def lists_those_against_from_high_to_low(*inputs):
    favour, against = decide(*inputs)
    return favour, against[::-1]


@mutant("find_deciders", says="You answer the same")
def constant_output(config, weights, tokens, answer, wrong):
    return ["a1.h0"], ["a1.h1"]


@alternative("find_deciders")
def by_differences_of_partial_sums(config, weights, tokens, answer, wrong):
    model = Transformer(Config(**config))
    model.load_state_dict(weights)
    cache = model.run_with_cache(
        tokens,
        names_filter=["embed", "pos_embed", lambda name: name.endswith(("result", "mlp_out"))],
    )[1]
    parts = {"embed": cache["embed"], "pos_embed": cache["pos_embed"]}
    for layer in range(config["n_layers"]):
        parts |= {
            f"a{layer}.h{head}": cache["result", layer][:, :, head]
            for head in range(config["n_heads"])
        }
        parts[f"m{layer}"] = cache["mlp_out", layer]
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
