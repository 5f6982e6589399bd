"""List wrong answers to lesson 04 that the grader rejects by name, and unusual right ones."""

import itertools
import math

import torch

from mini_transformer.course.grading.mutants import alternative, mutant
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import read_ov, read_qk, score_composition, score_copying

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "prefix_matching_scores": ["`pattern` holds"],
    "composition_scores": ["What a head writes"],
    "find_induction_pairs": ["The model has", "The stream and", "Any tool"],
}

# prefix_matching_scores ---------------------------------------------------------------------------


def find_earlier(tokens, within=True):
    """Mark (b, q, k) where the key holds the query's token (or in any prompt), and comes before."""
    same = tokens.unsqueeze(2) == tokens.unsqueeze(1)
    anywhere = (tokens[:, :, None, None] == tokens).any(dim=2)
    return (same if within else anywhere).tril(-1).float()


def shift(table, by=1):
    """Move the table along the keys."""
    moved = torch.zeros_like(table)
    if by > 0:
        moved[:, :, by:] = table[:, :, :-by]
    else:
        moved[:, :, :by] = table[:, :, -by:]
    return moved


def score(pattern, targets, counted=None):
    """Average attention (n) to targets (b, q, k) over the queries counted (b, q)."""
    counted = targets.any(dim=2) if counted is None else counted
    found = torch.einsum("bnqk,bqk->bnq", pattern, targets)
    return torch.einsum("bnq,bq->n", found, counted.float()) / counted.sum()


def match(pattern, tokens, change=lambda earlier: earlier, counted=None, by=1, within=True):
    """Score with other targets, or with other queries counted, both made of what is earlier."""
    earlier = find_earlier(tokens, within)
    counted = earlier.any(dim=2) if counted is None else counted(earlier)
    return score(pattern, shift(change(earlier), by) if by else change(earlier), counted)


def wrong_match(name, sentence, clause="", **how):
    mark = mutant("prefix_matching_scores", sentence, name=name, clause=clause)
    mark(lambda pattern, tokens: match(pattern, tokens, **how))


wrong_match(
    "scores_the_occurrences",
    "You add up the attention to the earlier occurrences themselves: what should come next stands"
    " somewhere else.",
    "the positions right after",
    by=0,
)
wrong_match(
    "looks_before_the_occurrences",
    "You add up the attention to the positions before the earlier occurrences: your shift goes "
    "the wrong way.",
    by=-1,
)
wrong_match(
    "averages_over_all_queries",
    "A query whose token is new has nothing to match, and you count it as a failure of the head.",
    "the average over all queries that count",
    counted=lambda earlier: torch.ones(earlier.shape[:2]),
)
wrong_match(
    "uses_the_last_occurrence_only",
    "You stop at the latest earlier occurrence: a token may have stood there several times.",
    "*all* earlier occurrences",
    change=lambda earlier: earlier * (earlier.flip(2).cumsum(2).flip(2) == 1),
)
wrong_match(
    "uses_the_first_occurrence_only",
    "You stop at the first occurrence: a token may have stood there several times.",
    change=lambda earlier: earlier * (earlier.cumsum(2) == 1),
)
wrong_match(
    "averages_over_the_occurrences",
    "A head that splits its attention evenly between two right places gets half the score with "
    "you.",
    "add up the attention",
    change=lambda earlier: earlier / earlier.sum(2, keepdim=True).clamp(min=1),
)
wrong_match(
    "mixes_up_the_prompts",
    "You look for the token in all prompts of the batch: a head sees only its own prompt.",
    "somewhere before it in the same prompt",
    within=False,
)
wrong_match(
    "asks_for_two_occurrences",
    "Queries whose token stands before them only once do not count with you: once is enough.",
    "A query counts if its token stands somewhere before it",
    counted=lambda earlier: earlier.sum(dim=2) > 1,
)
wrong_match(
    "counts_the_last_query_only",
    "You score the last position of each prompt alone: every query counts whose token stood "
    "before.",
    counted=lambda earlier: (
        earlier.any(dim=2) * (torch.arange(earlier.shape[1]) == earlier.shape[1] - 1)
    ),
)
wrong_match(
    "skips_the_first_position",
    "You do not count an occurrence at position 0, which is a token like the others here.",
    change=lambda earlier: earlier * (torch.arange(earlier.shape[2]) > 0),
    counted=lambda earlier: earlier[:, :, 1:].any(dim=2),
)
wrong_match(
    "uses_the_first_prompt_s_places",
    "You look in every prompt where the first one's tokens stood: each prompt has its own.",
    change=lambda earlier: earlier[:1].expand_as(earlier),
    counted=lambda earlier: earlier[:1].any(dim=2).expand(earlier.shape[:2]),
)


@mutant(
    "prefix_matching_scores",
    "You average within each prompt first, so that a query in a prompt with few repeats weighs "
    "more than others.",
    clause="in all prompts together",
)
def averages_prompt_by_prompt(pattern, tokens):
    rows = [
        match(pattern[b : b + 1], tokens[b : b + 1])
        for b in range(len(tokens))
        if find_earlier(tokens[b : b + 1]).any()
    ]
    return torch.stack(rows).mean(dim=0)


@mutant(
    "prefix_matching_scores",
    "Where a token stands twice in a row, the place after the first of them is the query's own: "
    "you leave it out.",
    clause="(If the token stands right before the query, too, one of these is the query's own "
    "position.)",
)
def forgets_its_own_position(pattern, tokens):
    earlier = find_earlier(tokens)
    return score(pattern, shift(earlier).tril(-1), earlier.any(dim=2))


@mutant(
    "prefix_matching_scores",
    "A query counts with you also if its token stood only in another prompt, where its own has "
    "nothing to match.",
)
def counts_what_stood_in_other_prompts(pattern, tokens):
    counted = find_earlier(tokens, within=False).any(dim=2)
    return score(pattern, shift(find_earlier(tokens)), counted)


@mutant("prefix_matching_scores", name="forgets_its_own_position")
def does_not_count_its_own_position(pattern, tokens):
    return score(pattern, shift(find_earlier(tokens)).tril(-1))


@mutant(
    "prefix_matching_scores",
    "You read the pattern with its last two axes exchanged: rows are queries.",
)
def swaps_query_and_key(pattern, tokens):
    return match(pattern.transpose(2, 3), tokens)


@mutant(
    "prefix_matching_scores",
    "You give all heads the same number, their average: each head has a score of its own.",
    clause="The score of a head",
)
def one_score_for_all_heads(pattern, tokens):
    scores = match(pattern, tokens)
    return scores.mean().expand_as(scores)


@mutant(
    "prefix_matching_scores",
    "You leave out queries from which a head pays nothing to the right places: they count, and "
    "with 0.",
)
def averages_over_hits(pattern, tokens):
    found = torch.einsum("bnqk,bqk->bnq", pattern, shift(find_earlier(tokens)))
    return found.sum((0, 2)) / (found > 0).sum((0, 2)).clamp(min=1)


@mutant(
    "prefix_matching_scores",
    "You count for how many queries the most attended place is a right one: asked for is how much "
    "attention goes there.",
    clause="how much attention each head pays",
)
def counts_the_most_attended(pattern, tokens):
    n_pos = tokens.shape[1]
    return match(torch.nn.functional.one_hot(pattern.argmax(-1), n_pos).float(), tokens)


@mutant("prefix_matching_scores", "You leave out the token 0, which is one like the others here.")
def skips_token_zero(pattern, tokens):
    return score(pattern, shift(find_earlier(tokens)) * (tokens != 0).unsqueeze(2))


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
    return match(pattern, tokens)


# match_table --------------------------------------------------------------------------------------


def parse(name):
    layer, head = name[1:].split(".h")
    return int(layer), int(head)


def make_table(
    model, writer, reader, *, query=lambda E, written: E, key=lambda E, written: written,
    heads=lambda writer, reader: (writer, reader), turn=False, tokens=lambda model: model.W_E,
    circuits=("OV", "QK"), scale=lambda config: config.attn_scale,
):  # fmt: skip
    """Fill the table of scores; each switch exchanges one part of it for a wrong one."""
    writer, reader = heads(parse(writer), parse(reader))
    E = tokens(model)
    writes, reads = (
        getattr(model, of)(*at) for of, at in zip(circuits, (writer, reader), strict=True)
    )
    written = E @ writes
    scores = query(E, written) @ (reads.T if turn else reads) @ key(E, written).T
    return scores / scale(model.config)


def wrong_table(name, sentence="", clause="", says="", then=lambda table: table, **how):
    mark = mutant("match_table", sentence, name=name, clause=clause, says=says)
    mark(lambda model, writer, reader: then(make_table(model, writer, reader, **how)))


wrong_table(
    "transposed_table",
    clause="Entry [i, j]",
    says="has axes 0 and 1 exchanged",
    then=lambda table: table.T,
)
wrong_table(
    "returns_attention",
    clause="before the softmax",
    says="is the softmax over the last axis",
    then=lambda table: table.softmax(dim=-1),
)
wrong_table(
    "leaves_out_the_first_token",
    clause="Both axes have d_vocab entries",
    says="shape (6, 6), expected (7, 7)",
    then=lambda table: table[1:, 1:],
)
wrong_table(
    "rounds",
    "Your scores are rounded to whole numbers: asked for are the scores themselves.",
    "the attention score",
    then=lambda table: table.round(),
)
wrong_table(
    "forgets_the_scale",
    "Your entries are what comes before the division: scores are smaller than that.",
    "after the division",
    scale=lambda config: 1,
)
wrong_table(
    "divides_by_the_root_of_d_head",
    "You divide by the root of d_head, which is the model's scale only if it has no other.",
    "`model.config.attn_scale`",
    scale=lambda config: math.sqrt(config.d_head),
)
wrong_table(
    "ignores_the_writer",
    "Your keys read the embedding: it is what the writer makes of it that they should read.",
    "it writes a vector",
    key=lambda E, written: E,
)
wrong_table(
    "key_holds_the_embedding_too",
    "Your keys read the embedding together with what the writer wrote: they should read that and "
    "nothing else.",
    "a key whose stream is this vector and nothing else",
    key=lambda E, written: E + written,
)
wrong_table(
    "query_reads_the_writer",
    "Your table has what the writer wrote at both ends; the query's stream is the plain embedding.",
    query=lambda E, written: written,
)
wrong_table(
    "query_holds_the_writer_too",
    "Your query's stream holds the embedding and also what the writer wrote: it should hold the "
    "embedding and nothing else.",
    "the stream at the query is the embedding of token i and nothing else",
    query=lambda E, written: E + written,
)
wrong_table(
    "composes_with_the_query",
    "What the writer wrote stands at your query, and the plain token at your key: it should be "
    "the other way round.",
    query=lambda E, written: written,
    key=lambda E, written: E,
)
wrong_table(
    "turns_the_reader_s_circuit",
    "You read QK the wrong way round: `query @ QK @ key`, so what the writer wrote goes to the "
    "queries with you, and the tokens to the keys.",
    turn=True,
)
wrong_table(
    "exchanges_the_heads",
    "You have taken the QK circuit of the writer and the OV circuit of the reader: which of the "
    "two is read?",
    "`reader`, a head of a later layer",
    heads=lambda writer, reader: (reader, writer),
)
wrong_table(
    "reads_the_value_circuit",
    "You pass what was written on through the reader's values: scores are made of queries and "
    "keys.",
    circuits=("OV", "OV"),
)
wrong_table(
    "ignores_the_layers",
    "Your table is right for heads of layers 0 and 1 only: the names say which layers are meant.",
    heads=lambda writer, reader: ((0, writer[1]), (1, reader[1])),
)
wrong_table(
    "reads_the_next_layer",
    "You take the reader from the layer after the writer's: its name says which layer it is in.",
    heads=lambda writer, reader: (writer, (writer[0] + 1, reader[1])),
)
wrong_table(
    "reads_single_digits",
    "You read one digit of a head's number: a layer may have more than ten heads.",
    heads=lambda *heads: tuple((layer, int(str(head)[0])) for layer, head in heads),
)
wrong_table(
    "reads_the_unembedding",
    "You take W_U's columns for the tokens, but a stream holds their embeddings.",
    "the embedding of token j",
    tokens=lambda model: model.W_U.T,
)
wrong_table(
    "adds_positions",
    "Your streams hold the mean of the position vectors, too.",
    "no positions are involved",
    tokens=lambda model: model.W_E + model.W_pos.mean(0),
)


@mutant("match_table", "You take OV transposed: a row `x` becomes `x @ OV`.")
def turns_the_writer_s_circuit(model, writer, reader):
    written = model.W_E @ model.OV(*parse(writer)).T
    return model.W_E @ model.QK(*parse(reader)) @ written.T / model.config.attn_scale


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


# composition_scores -------------------------------------------------------------------------------


def compose(A, B, size=torch.linalg.norm):
    return size(A @ B) / (size(A) * size(B)).clamp(min=1e-30)


def read_part(QK, OV, part):
    return {"q": QK, "k": QK.T, "v": OV}[part]


def fill_table(
    model, writer_layer, reader_layer, part, *, score=compose, read=read_part, own=True, turned=""
):
    """Fill in score(OV, R) for every pair of heads. `own`: with the reader's circuits."""
    heads = range(model.config.n_heads)
    scores = torch.zeros(len(heads), len(heads))
    for i, j in itertools.product(heads, heads):
        place = (reader_layer if own else writer_layer, j)
        R = read(model.QK(*place), model.OV(*place), part)
        scores[i, j] = score(model.OV(writer_layer, i), R.T if part in turned.split() else R)
    return scores


def wrong_scores(name, sentence="", clause="", says="", **how):
    mark = mutant("composition_scores", sentence, name=name, clause=clause, says=says)
    mark(lambda *given: fill_table(*given, **how))


def measure_largest(matrix):
    return torch.linalg.matrix_norm(matrix, ord=2)


wrong_scores(
    "ignores_part",
    "Your scores are the same for queries, keys and values: what does each of them do with the "
    "stream?",
    "Call the matrix for `part` R.",
    read=lambda QK, OV, part: QK.T,
)
wrong_scores(
    "exchanges_query_and_key",
    "Your scores for q are those for k, and the other way round: QK has the query on its left.",
    turned="q k",
)
wrong_scores(
    "takes_the_keys_for_queries",
    "For keys you take QK as it stands: that is what the queries make of a stream.",
    "its keys `stream @ QK.T`",
    turned="k",
)
wrong_scores(
    "takes_the_queries_for_keys",
    "For queries you take QK transposed: that is what the keys make of a stream.",
    "its queries make `stream @ QK` of it",
    turned="q",
)
wrong_scores(
    "turns_the_values",
    "For values you take OV transposed: only the keys read a circuit from its other side.",
    "its values `stream @ OV`",
    turned="v",
)
wrong_scores(
    "takes_the_writer_s_layer",
    "Both circuits are from `writer_layer` with you: what is written is read in `reader_layer`.",
    "with the reader's own QK and OV",
    own=False,
)
wrong_scores(
    "forgets_to_divide",
    "You give the size of the product: large weights then look like composition.",
    "The score is |OV R| / (|OV| |R|)",
    score=lambda A, B: (A @ B).norm(),
)
wrong_scores(
    "divides_by_the_writer_only",
    "You divide by the size of what is written, but not by that of the matrix that reads it.",
    score=lambda A, B: (A @ B).norm() / A.norm().clamp(min=1e-30),
)
wrong_scores(
    "largest_singular_value",
    "Your sizes count the strongest direction alone: the norm that is asked for adds up all "
    "entries, squared.",
    "the Frobenius norm",
    score=lambda A, B: compose(A, B, measure_largest),
)
wrong_scores(
    "adds_up_sizes",
    "Your sizes add up the entries without their signs: the norm that is asked for adds up their "
    "squares, and takes the root.",
    "of the sum of all squared entries",
    score=lambda A, B: compose(A, B, lambda M: M.abs().sum()),
)
wrong_scores(
    "forgets_the_root",
    clause="the square root of",
    says="is the square of what it should be",
    score=lambda A, B: compose(A, B) ** 2,
)
wrong_scores(
    "product_in_the_wrong_order",
    "In your product the reader comes first: stream vectors are rows, so what is written first "
    "stands on the left.",
    score=lambda A, B: compose(B, A),
)
wrong_scores(
    "nan_for_silent_heads",
    "A head whose circuit is zero gives 0 / 0 with you: there is nothing to be read, so what is "
    "its score?",
    "A head whose circuit is zero everywhere scores 0.",
    score=lambda A, B: (A @ B).norm() / (A.norm() * B.norm()),
)
wrong_scores(
    "silences_small_heads",
    "You call small circuits zero: 0 is only for those that are zero everywhere.",
    "zero everywhere",
    score=lambda A, B: compose(A, B) * (min(A.norm(), B.norm()) > 0.1),
)


@mutant(
    "composition_scores",
    "In your product for values the reader comes first; for queries and keys it does not.",
)
def values_in_the_wrong_order(model, writer_layer, reader_layer, part):
    score = (lambda A, B: compose(B, A)) if part == "v" else compose
    return fill_table(model, writer_layer, reader_layer, part, score=score)


@mutant(
    "composition_scores",
    "You multiply only the two matrices that meet, W_O and what reads it: what the writer can "
    "read, and what the reader does with it, counts too.",
)
def leaves_out_the_outer_matrices(model, writer_layer, reader_layer, part):
    reads = {"q": model.W_Q, "k": model.W_K, "v": model.W_V}[part][reader_layer]
    writes = model.W_O[writer_layer]
    return torch.stack([torch.stack([compose(A, B) for B in reads]) for A in writes])


@mutant(
    "composition_scores",
    says="has axes 0 and 1 exchanged",
    clause="Row i, column j: head i of `writer_layer`, head j of `reader_layer`",
)
def swaps_writer_and_reader(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, reader_layer, part).T


@mutant("composition_scores", says="Your function never uses `reader_layer`")
def reads_in_the_next_layer(model, writer_layer, reader_layer, part):
    return fill_table(model, writer_layer, writer_layer + 1, part)


@mutant(
    "composition_scores",
    "You divide by the size of all heads of a layer together: each head has its own.",
    clause="every head of one layer with every head of a later one",
)
def one_size_for_the_layer(model, writer_layer, reader_layer, part):
    tops = fill_table(model, writer_layer, reader_layer, part, score=lambda A, B: (A @ B).norm())
    sizes = fill_table(
        model, writer_layer, reader_layer, part, score=lambda A, B: A.norm() * B.norm()
    )
    return tops * len(tops) / sizes.norm()


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


@alternative("composition_scores")
def with_a_little_in_the_denominator(*given):
    return fill_table(*given, score=lambda A, B: (A @ B).norm() / (A.norm() * B.norm() + 1e-8))


# find_induction_pairs -----------------------------------------------------------------------------


def list_pairs(model):
    heads = range(model.config.n_heads)
    return list(itertools.product(heads, heads))


def name(pairs):
    return [f"a0.h{i}->a1.h{j}" for i, j in pairs]


def measure_accuracy(model, tokens, answer, alive):
    """Measure the share of right answers if only these (layer, head) write."""

    def silence(z, hook):
        heads = range(model.config.n_heads)
        z[:, :, [head for head in heads if (hook.layer, head) not in alive]] = 0.0

    hooks = [(("z", 0), silence), (("z", 1), silence)]
    says = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(dim=-1)
    return (says == answer).float().mean()


def find_right(model, tokens, answer):
    return [
        (i, j)
        for i, j in list_pairs(model)
        if measure_accuracy(model, tokens, answer, [(0, i), (1, j)]) > 0.5
    ]


def look(model, tokens):
    """Say which heads of layer 0 look at the previous position, and which of layer 1 match."""
    cache = model.run_with_cache(tokens)[1]
    back = cache["pattern", 0].diagonal(offset=-1, dim1=2, dim2=3).mean((0, 2)) > 0.9
    earlier = (tokens[:, :-1] == tokens[:, -1:]).float()
    matching = torch.einsum("bnk,bk->n", cache["pattern", 1][:, :, -1, 1:], earlier) / len(tokens)
    return back.tolist(), (matching > 0.9).tolist()


def find_by_tables(model, tokens, *, back=True, keys=True, says=True, use=lambda table: table):
    """Find pairs by weights alone: the writer looks back, keys match, the reader copies."""
    looks = [
        read_qk(model, f"a0.h{i}", "position", "position").diagonal(-1).mean() > 10
        for i in range(model.config.n_heads)
    ]
    return name(
        (i, j)
        for i, j in list_pairs(model)
        if (looks[i] or not back)
        and (use(read_qk(model, f"a1.h{j}", key=f"a0.h{i}")).diagonal().mean() > 5 or not keys)
        and (use(read_ov(model, f"a1.h{j}")).diagonal().mean() > 2 or not says)
    )


def wrong_tables(name, sentence, clause="", **how):
    mark = mutant("find_induction_pairs", sentence, name=name, clause=clause)
    mark(lambda model, tokens, answer: find_by_tables(model, tokens, **how))


wrong_tables(
    "does_not_ask_where_the_writer_looks",
    "One of the heads of layer 0 that you name tells the reader another token than the previous "
    "one.",
    "tells each position its previous token",
    back=False,
)
wrong_tables(
    "does_not_ask_what_the_keys_read",
    "Every head that you name does its part, but not with each of those that you pair it with: "
    "whose output do its keys read?",
    "whose keys read what *this* head wrote",
    keys=False,
)
wrong_tables(
    "does_not_ask_what_is_said",
    "Some of the heads of layer 1 that you name find the right token and do not say it.",
    "which says the token that it finds",
    says=False,
)
wrong_tables(
    "ignores_the_sign",
    "One of the heads of layer 1 that you name finds the right token and speaks against it.",
    use=torch.abs,
)


@mutant(
    "find_induction_pairs",
    "You name no pair at all. If you took away one head, or one edge, at a time: where one head "
    "can do another's work, that loses no answer.",
    clause="Each alone is enough",
)
def silences_one_at_a_time(model, tokens, answer):
    everyone = list(itertools.product((0, 1), range(model.config.n_heads)))
    needed = [
        at
        for at in everyone
        if measure_accuracy(model, tokens, answer, [h for h in everyone if h != at]) < 0.5
    ]
    return name((i, j) for i, j in list_pairs(model) if (0, i) in needed and (1, j) in needed)


@mutant("find_induction_pairs", says="that do not belong there")
def silences_pairs(model, tokens, answer):
    everyone = list(itertools.product((0, 1), range(model.config.n_heads)))
    return name(
        (i, j)
        for i, j in list_pairs(model)
        if measure_accuracy(
            model, tokens, answer, [h for h in everyone if h not in ((0, i), (1, j))]
        )
        < 0.5
    )


@mutant(
    "find_induction_pairs",
    "Some of your pairs fit together by their weights, but one of the two reads what is never in "
    "the stream, or writes where nobody reads, or the wrong thing. What happens when they run?",
    clause="some compose",
)
def trusts_composition(model, tokens, answer):
    scores = score_composition(model, "k")[0, :, 1]
    return name((i, j) for i, j in list_pairs(model) if scores[i, j] > scores.max() / 2)


@mutant(
    "find_induction_pairs",
    "You pair all heads that look back with all heads that match: some of them pass nothing on.",
    clause="some look where those look",
)
def trusts_attention(model, tokens, answer):
    back, matching = look(model, tokens)
    return name((i, j) for i, j in list_pairs(model) if back[i] and matching[j])


@mutant(
    "find_induction_pairs",
    "You take heads that copy for heads that match: one of them copies the token that is already "
    "there.",
    clause="some copy",
)
def trusts_copying(model, tokens, answer):
    writers = {i for i, _ in find_right(model, tokens, answer)}
    copies = score_copying(model)[1] > 0.9
    return name((i, j) for i, j in list_pairs(model) if i in writers and copies[j])


@mutant("find_induction_pairs", says="that do not belong there")
def pairs_every_worker(model, tokens, answer):
    right = find_right(model, tokens, answer)
    return name((i, j) for i in {i for i, _ in right} for j in {j for _, j in right})


@mutant(
    "find_induction_pairs",
    says="and 0 that do not belong there",
    clause="There may be several pairs",
)
def finds_the_first_pair_only(model, tokens, answer):
    return name(find_right(model, tokens, answer)[:1])


@mutant(
    "find_induction_pairs",
    "You name one partner for each head of layer 0: two heads may read what one wrote.",
    clause="that share a head or do not",
)
def one_reader_each(model, tokens, answer):
    return name({i: (i, j) for i, j in find_right(model, tokens, answer)}.values())


@mutant(
    "find_induction_pairs",
    "You name one partner for each head of layer 1: one head may read what two wrote.",
)
def one_writer_each(model, tokens, answer):
    return name({j: (i, j) for i, j in find_right(model, tokens, answer)}.values())


@mutant("find_induction_pairs", says="You answer the same", clause="in an unknown model")
def the_same_for_every_model(model, tokens, answer):
    return ["a0.h1->a1.h0", "a0.h1->a1.h1"]  # those of the lesson


@mutant(
    "find_induction_pairs", "You name all pairs of heads, which says nothing about any of them."
)
def names_every_pair(model, tokens, answer):
    return name(list_pairs(model))


@mutant("find_induction_pairs", name="names_every_pair", clause="on every prompt `tokens[i]`")
def looks_at_the_first_prompt(model, tokens, answer):
    return name(find_right(model, tokens[:1], answer[:1]))


@mutant(
    "find_induction_pairs",
    says="such as 'a0.h0->a1.h0'",
    clause='The result looks like ["a0.h1->a1.h0", "a0.h1->a1.h3"]',
)
def returns_numbers(model, tokens, answer):
    return find_right(model, tokens, answer)


@alternative("find_induction_pairs")
def from_the_tables(model, tokens, answer):
    """Use weights alone, but in terms of tokens: looks back, fits, and copies."""
    return tuple(find_by_tables(model, tokens))


@alternative("find_induction_pairs")
def as_a_set(model, tokens, answer):
    return set(name(find_right(model, tokens, answer)))


@alternative("find_induction_pairs")
def by_cutting_edges(model, tokens, answer):
    """Leave only the embedding's edges, one K-edge, and one head's edge to the logits."""
    nothing = write_outputs(model, tokens, "zero")
    found = []
    for i, j in list_pairs(model):
        kept = [edge for edge in list_edges(model) if edge.startswith("input->")]
        kept += [f"a0.h{i}->a1.h{j}<k>", f"a1.h{j}->logits"]
        logits = run_edges(model, tokens, mask_of(model, kept).unsqueeze(0), nothing)[0, :, -1]
        if (logits.argmax(dim=-1) == answer).float().mean() > 0.9:
            found.append((i, j))
    return name(found)
