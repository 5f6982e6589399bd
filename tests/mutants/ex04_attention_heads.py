"""List wrong answers to lesson 04 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.checks import alternative, mutant
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import read_ov, read_qk, score_composition, score_copying


def same_and_earlier(tokens):
    """Mark (b, q, k) where the key holds the query's token and comes before it."""
    return (tokens.unsqueeze(2) == tokens.unsqueeze(1)).tril(-1).float()


def shift(table, by=1):
    """Move the table along the keys."""
    moved = torch.zeros_like(table)
    if by > 0:
        moved[:, :, by:] = table[:, :, :-by]
    else:
        moved[:, :, :by] = table[:, :, -by:]
    return moved


def score(pattern, targets, counted):
    """Average attention (n) to targets (b, q, k) over the queries counted (b, q)."""
    found = torch.einsum("bnqk,bqk->bnq", pattern, targets)
    return torch.einsum("bnq,bq->n", found, counted.float()) / counted.sum()


@mutant("prefix_matching_scores")
def scores_the_occurrences(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(pattern, earlier, earlier.any(dim=2))


@mutant("prefix_matching_scores")
def looks_before_the_occurrences(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(pattern, shift(earlier, -1), earlier.any(dim=2))


@mutant("prefix_matching_scores")
def averages_over_all_queries(pattern, tokens):
    return score(pattern, shift(same_and_earlier(tokens)), torch.ones(tokens.shape))


@mutant("prefix_matching_scores")
def uses_the_last_occurrence_only(pattern, tokens):
    earlier = same_and_earlier(tokens)
    last = earlier * (earlier.flip(2).cumsum(2).flip(2) == 1)
    return score(pattern, shift(last), earlier.any(dim=2))


@mutant("prefix_matching_scores")
def uses_the_first_occurrence_only(pattern, tokens):
    earlier = same_and_earlier(tokens)
    first = torch.nn.functional.one_hot(earlier.argmax(dim=2), tokens.shape[1]) * earlier
    return score(pattern, shift(first), earlier.any(dim=2))


@mutant("prefix_matching_scores")
def averages_over_the_occurrences(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(
        pattern, shift(earlier) / earlier.sum(2, keepdim=True).clamp(min=1), earlier.any(dim=2)
    )


@mutant("prefix_matching_scores")
def averages_prompt_by_prompt(pattern, tokens):
    rows = [
        score(pattern[b : b + 1], shift(earlier), earlier.any(dim=2))
        for b in range(len(tokens))
        if (earlier := same_and_earlier(tokens[b : b + 1])).any()
    ]
    return torch.stack(rows).mean(dim=0)


@mutant("prefix_matching_scores")
def forgets_its_own_position(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(pattern, shift(earlier).tril(-1), earlier.any(dim=2))


@mutant("prefix_matching_scores")
def swaps_query_and_key(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(pattern.transpose(2, 3), shift(earlier), earlier.any(dim=2))


@mutant("prefix_matching_scores")
def mixes_up_the_prompts(pattern, tokens):
    # In any prompt, before the query.
    anywhere = (tokens[:, :, None, None] == tokens).any(dim=2).tril(-1).float()
    return score(pattern, shift(anywhere), anywhere.any(dim=2))


@mutant("prefix_matching_scores")
def one_score_for_all_heads(pattern, tokens):
    scores = in_loops(pattern, tokens)
    return scores.mean().expand_as(scores)


@alternative("prefix_matching_scores")
def in_loops(pattern, tokens):
    found = []
    for b, prompt in enumerate(tokens.tolist()):
        for q, token in enumerate(prompt):
            after = [k + 1 for k in range(q) if prompt[k] == token]
            if after:
                found.append(pattern[b, :, q, after].sum(dim=1))
    return torch.stack(found).mean(dim=0)


@alternative("prefix_matching_scores")
def with_einsum(pattern, tokens):
    earlier = same_and_earlier(tokens)
    return score(pattern, shift(earlier), earlier.any(dim=2))


def parse(name):
    layer, head = name[1:].split(".h")
    return int(layer), int(head)


def make_table(model, writer, reader):
    return (
        model.W_E @ model.QK(*reader) @ (model.W_E @ model.OV(*writer)).T / model.config.attn_scale
    )


@mutant("match_table", says="has axes 0 and 1 exchanged")
def transposed_table(model, writer, reader):
    return make_table(model, parse(writer), parse(reader)).T


@mutant("match_table")
def forgets_the_scale(model, writer, reader):
    return make_table(model, parse(writer), parse(reader)) * model.config.attn_scale


@mutant("match_table")
def ignores_the_writer(model, writer, reader):
    return model.W_E @ model.QK(*parse(reader)) @ model.W_E.T / model.config.attn_scale


@mutant("match_table")
def query_reads_the_writer(model, writer, reader):
    written = model.W_E @ model.OV(*parse(writer))
    return written @ model.QK(*parse(reader)) @ written.T / model.config.attn_scale


@mutant("match_table")
def composes_with_the_query(model, writer, reader):
    written = model.W_E @ model.OV(*parse(writer))
    return written @ model.QK(*parse(reader)) @ model.W_E.T / model.config.attn_scale


@mutant("match_table")
def exchanges_the_heads(model, writer, reader):
    return make_table(model, parse(reader), parse(writer))


@mutant("match_table")
def reads_the_value_circuit(model, writer, reader):
    written = model.W_E @ model.OV(*parse(writer))
    return model.W_E @ model.OV(*parse(reader)) @ written.T / model.config.attn_scale


@mutant("match_table")
def ignores_the_layers(model, writer, reader):
    return make_table(model, (0, parse(writer)[1]), (1, parse(reader)[1]))


@mutant("match_table", says="is the softmax over the last axis")
def returns_attention(model, writer, reader):
    return make_table(model, parse(writer), parse(reader)).softmax(dim=-1)


@alternative("match_table")
def with_the_package(model, writer, reader):
    return read_qk(model, reader, query="token", key=writer)


@alternative("match_table")
def one_query_at_a_time(model, writer, reader):
    (i, writing), (j, reading) = parse(writer), parse(reader)
    values = model.W_E @ model.W_V[i, writing]
    keys = values @ model.W_O[i, writing] @ model.W_K[j, reading]
    rows = [keys @ (embedding @ model.W_Q[j, reading]) for embedding in model.W_E]
    return torch.stack(rows) / model.config.attn_scale


def read_part(model, layer, head, part):
    QK = model.QK(layer, head)
    return {"q": QK, "k": QK.T, "v": model.OV(layer, head)}[part]


def fill_table(model, writer_layer, reader_layer, part, score):
    """Fill in score(OV, R) for every pair of heads."""
    heads = range(model.config.n_heads)
    rows = [
        [
            float(score(model.OV(writer_layer, i), read_part(model, reader_layer, j, part)))
            for j in heads
        ]
        for i in heads
    ]
    return torch.tensor(rows)


def compose(A, B):
    return (A @ B).norm() / (A.norm() * B.norm()).clamp(min=1e-30)


@mutant("composition_scores")
def ignores_part(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, reader_layer, "k", compose)


@mutant("composition_scores")
def exchanges_query_and_key(model, writer_layer, reader_layer, part):
    return fill_table(
        model, writer_layer, reader_layer, {"q": "k", "k": "q", "v": "v"}[part], compose
    )


@mutant("composition_scores")
def forgets_to_divide(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, reader_layer, part, lambda A, B: (A @ B).norm())


@mutant("composition_scores")
def divides_by_the_writer_only(model, writer_layer, reader_layer, part):
    return fill_table(
        model, writer_layer, reader_layer, part, lambda A, B: (A @ B).norm() / A.norm()
    )


@mutant("composition_scores")
def largest_singular_value(model, writer_layer, reader_layer, part):
    def score(A, B):
        both, *alone = (torch.linalg.matrix_norm(M, ord=2) for M in (A @ B, A, B))
        return both / (alone[0] * alone[1])

    return fill_table(model, writer_layer, reader_layer, part, score)


@mutant("composition_scores", says="is the square of what it should be")
def forgets_the_root(model, writer_layer, reader_layer, part):
    def size(M):
        return (M**2).sum()

    return fill_table(
        model, writer_layer, reader_layer, part, lambda A, B: size(A @ B) / (size(A) * size(B))
    )


@mutant("composition_scores")
def product_in_the_wrong_order(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, reader_layer, part, lambda A, B: compose(B, A))


@mutant("composition_scores")
def leaves_out_the_outer_matrices(model, writer_layer, reader_layer, part):
    reads = {"q": model.W_Q, "k": model.W_K, "v": model.W_V}[part][reader_layer]
    writes = model.W_O[writer_layer]
    return torch.stack([torch.stack([compose(A, B) for B in reads]) for A in writes])


@mutant("composition_scores", says="has axes 0 and 1 exchanged")
def swaps_writer_and_reader(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, reader_layer, part, compose).T


@mutant("composition_scores")
def nan_for_silent_heads(model, writer_layer, reader_layer, part):
    return fill_table(
        model, writer_layer, reader_layer, part, lambda A, B: (A @ B).norm() / (A.norm() * B.norm())
    )


@alternative("composition_scores")
def all_pairs_at_once(model, writer_layer, reader_layer, part):
    writer = torch.einsum("ndh,nhe->nde", model.W_V[writer_layer], model.W_O[writer_layer])
    first, second = {
        "q": (model.W_Q, model.W_K.mT),
        "k": (model.W_K, model.W_Q.mT),
        "v": (model.W_V, model.W_O),
    }[part]
    reader = first[reader_layer] @ second[reader_layer]
    both = torch.einsum("ide,jef->ijdf", writer, reader).square().sum((2, 3)).sqrt()
    sizes = [M.square().sum((1, 2)).sqrt() for M in (writer, reader)]
    return (both / torch.outer(*sizes)).nan_to_num(0.0)


@alternative("composition_scores")
def with_the_packages_table(model, writer_layer, reader_layer, part):
    return score_composition(model, part)[writer_layer, :, reader_layer]


HEADS = range(4)
EVERY = [(i, j) for i in HEADS for j in HEADS]


def name(pairs):
    return [f"a0.h{i}->a1.h{j}" for i, j in pairs]


def measure_accuracy(model, tokens, answer, alive):
    """Measure the share of right answers if only these (layer, head) write."""

    def silence(z, hook):
        z[:, :, [head for head in HEADS if (hook.layer, head) not in alive]] = 0.0

    hooks = [(("z", 0), silence), (("z", 1), silence)]
    says = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(dim=-1)
    return (says == answer).float().mean()


def find_right(model, tokens, answer):
    return [
        (i, j) for i, j in EVERY if measure_accuracy(model, tokens, answer, [(0, i), (1, j)]) > 0.5
    ]


def list_heads():
    return [(layer, head) for layer in (0, 1) for head in HEADS]


def look_back(model, tokens):
    """List the heads of layer 0 that look at the previous position."""
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    return [i for i in HEADS if pattern[:, i].diagonal(offset=-1, dim1=1, dim2=2).mean() > 0.9]


def find_matching(model, tokens):
    """List the heads of layer 1 that look right after the last token's earlier occurrence."""
    pattern = model.run_with_cache(tokens)[1]["pattern", 1][:, :, -1]
    earlier = (tokens[:, :-1] == tokens[:, -1:]).float()
    return [j for j in HEADS if (pattern[:, j, 1:] * earlier).sum(dim=1).mean() > 0.9]


@mutant("find_induction_pairs")
def silences_one_at_a_time(model, tokens, answer):
    everyone = list_heads()
    needed = [
        at
        for at in everyone
        if measure_accuracy(model, tokens, answer, [h for h in everyone if h != at]) < 0.5
    ]
    return name((i, j) for i, j in EVERY if (0, i) in needed and (1, j) in needed)


@mutant("find_induction_pairs")
def trusts_composition(model, tokens, answer):
    scores = score_composition(model, "k")[0, :, 1]
    return name((i, j) for i, j in EVERY if scores[i, j] > scores.max() / 2)


@mutant("find_induction_pairs")
def trusts_attention(model, tokens, answer):
    return name((i, j) for i in look_back(model, tokens) for j in find_matching(model, tokens))


@mutant("find_induction_pairs")
def trusts_copying(model, tokens, answer):
    writers = {i for i, _ in find_right(model, tokens, answer)}
    copying = [j for j in HEADS if score_copying(model)[1, j] > 0.9]
    return name((i, j) for i in writers for j in copying)


@mutant("find_induction_pairs")
def pairs_every_worker(model, tokens, answer):
    right = find_right(model, tokens, answer)
    return name((i, j) for i in {i for i, _ in right} for j in {j for _, j in right})


@mutant("find_induction_pairs")
def finds_the_best_pair_only(model, tokens, answer):
    return name(find_right(model, tokens, answer)[:1])


@mutant("find_induction_pairs")
def the_same_for_every_model(model, tokens, answer):
    return ["a0.h1->a1.h0", "a0.h1->a1.h1"]  # those of the lesson


@mutant("find_induction_pairs")
def names_every_pair(model, tokens, answer):
    return name(EVERY)


@mutant("find_induction_pairs", name="names_every_pair")
def looks_at_the_first_prompt(model, tokens, answer):
    found = []
    for i, j in EVERY:

        def silence_others(z, hook, keep=(i, j)):
            z[:, :, torch.arange(z.shape[2]) != keep[hook.layer]] = 0.0

        hooks = [(("z", layer), silence_others) for layer in (0, 1)]
        if model.run_with_hooks(tokens[:1], fwd_hooks=hooks)[0, -1].argmax() == answer[0]:
            found.append((i, j))
    return name(found)


@alternative("find_induction_pairs")
def from_the_tables(model, tokens, answer):
    """Use weights alone, but in terms of tokens: looks back, fits, and copies."""
    back = [read_qk(model, f"a0.h{i}", "position", "position").diagonal(-1).mean() for i in HEADS]
    found = []
    for i, j in EVERY:
        match = read_qk(model, f"a1.h{j}", key=f"a0.h{i}").diagonal().mean()
        copies = read_ov(model, f"a1.h{j}").diagonal().mean()
        if back[i] > 10 and match > 10 and copies > 5:
            found.append((i, j))
    return tuple(name(found))


@alternative("find_induction_pairs")
def by_cutting_edges(model, tokens, answer):
    """Leave only the embedding's edges, one K-edge, and one head's edge to the logits."""
    nothing = write_outputs(model, tokens, "zero")
    found = []
    for i, j in EVERY:
        kept = [edge for edge in list_edges(model) if edge.startswith("input->")]
        kept += [f"a0.h{i}->a1.h{j}<k>", f"a1.h{j}->logits"]
        logits = run_edges(model, tokens, mask_of(model, kept).unsqueeze(0), nothing)[0, :, -1]
        if (logits.argmax(dim=-1) == answer).float().mean() > 0.9:
            found.append((i, j))
    return name(found)
