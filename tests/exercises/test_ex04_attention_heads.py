"""Grade lesson 04.

Scores come from loops over positions and numbers, tables from running heads, pairs as they were
planted.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set.disguise import draw_rotation

MISTAKES = {
    "prefix_matching_scores": {
        "scores_the_occurrences": "You add up the attention to the earlier occurrences themselves: "
        "what should come next stands somewhere else.",
        "looks_before_the_occurrences": "You add up the attention to the positions before the "
        "earlier occurrences: your shift goes the wrong way.",
        "averages_over_all_queries": "A query whose token is new has nothing to match, and you "
        "count it as a failure of the head.",
        "uses_the_last_occurrence_only": "You stop at the latest earlier occurrence: a token may "
        "have stood there several times.",
        "uses_the_first_occurrence_only": "You stop at the first occurrence: a token may have "
        "stood there several times.",
        "averages_over_the_occurrences": "A head that splits its attention evenly between two "
        "right places gets half the score with you.",
        "averages_prompt_by_prompt": "You average within each prompt first, so that a query in a "
        "prompt with few repeats weighs more than others.",
        "forgets_its_own_position": "Where a token stands twice in a row, the place after the "
        "first of them is the query's own: you leave it out.",
        "swaps_query_and_key": "You read the pattern with its last two axes exchanged: rows are "
        "queries.",
        "mixes_up_the_prompts": "You look for the token in all prompts of the batch: a head sees "
        "only its own prompt.",
        "one_score_for_all_heads": "You give all heads the same number, their average: each head "
        "has a score of its own.",
    },
    "match_table": {
        "forgets_the_scale": "Your entries are what comes before the division: scores are smaller "
        "than that.",
        "ignores_the_writer": "Your keys read the embedding: it is what the writer makes of it "
        "that they should read.",
        "query_reads_the_writer": "Your table has what the writer wrote at both ends; the query's "
        "stream is the plain embedding.",
        "composes_with_the_query": "What the writer wrote stands at your query, and the plain "
        "token at your key: it should be the other way round.",
        "exchanges_the_heads": "You have taken the QK circuit of the writer and the OV circuit of "
        "the reader: which of the two is read?",
        "reads_the_value_circuit": "You pass what was written on through the reader's values: "
        "scores are made of queries and keys.",
        "ignores_the_layers": "Your table is right for heads of layers 0 and 1 only: the names say "
        "which layers are meant.",
    },
    "composition_scores": {
        "ignores_part": "Your scores are the same for queries, keys and values: what does each of "
        "them do with the stream?",
        "exchanges_query_and_key": "Your scores for q are those for k, and the other way round: QK "
        "has the query on its left.",
        "forgets_to_divide": "You give the size of the product: large weights then look like "
        "composition.",
        "divides_by_the_writer_only": "You divide by the size of what is written, but not by that "
        "of the matrix that reads it.",
        "largest_singular_value": "Your sizes count the strongest direction alone: the norm that "
        "is asked for adds up all entries, squared.",
        "product_in_the_wrong_order": "In your product the reader comes first: stream vectors are "
        "rows, so what is written first stands on the left.",
        "leaves_out_the_outer_matrices": "You multiply only the two matrices that meet, W_O and "
        "what reads it: what the writer can read, and what the reader does with it, counts too.",
        "nan_for_silent_heads": "A head whose circuit is zero gives 0 / 0 with you: there is "
        "nothing to be read, so what is its score?",
    },
    "find_induction_pairs": {
        "silences_one_at_a_time": "You name no pair at all: where one head can do another's work, "
        "taking one away (or one edge) loses no answer.",
        "trusts_composition": "Two of your pairs fit together by their weights, but one of the two "
        "reads what is never in the stream, or writes where nobody reads. What happens when they "
        "run?",
        "trusts_attention": "You pair all heads that look back with all heads that match: some of "
        "them pass nothing on.",
        "trusts_copying": "You take heads that copy for heads that match: one of them copies the "
        "token that is already there.",
        "pairs_every_worker": "Every head that you name does work, but not with each of those that "
        "you pair it with: whose output do its keys read?",
        "finds_the_best_pair_only": "What you name is right, and there is more: one pair that "
        "works does not rule out another.",
        "the_same_for_every_model": "You give the same answer for different models: the places of "
        "the heads differ between them.",
        "names_every_pair": "You name all pairs of heads, which says nothing about any of them.",
    },
}

Blame = dict[str, Callable[[], Any]]


# 4.1 ----------------------------------------------------------------------------------------------


def slow_matching(
    pattern: Tensor, tokens: Tensor, keys_of: Callable[[list[int], int], list[int]]
) -> dict[tuple[int, int], Tensor]:
    """Return the attention of all heads to the keys that `keys_of` names.

    There is one entry for each (prompt, query) that has earlier occurrences.
    """
    found = {}
    for b, prompt in enumerate(tokens.tolist()):
        for q, token in enumerate(prompt):
            if token in prompt[:q]:
                keys = keys_of(prompt, q)
                found[b, q] = sum(
                    (pattern[b, :, q, k].double() for k in keys),
                    torch.zeros(pattern.shape[1]).double(),
                )
    return found


def find_earlier(prompt: list[int], q: int) -> list[int]:
    return [k for k in range(q) if prompt[k] == prompt[q]]


def find_after(prompt: list[int], q: int) -> list[int]:
    return [k + 1 for k in find_earlier(prompt, q)]


def average(values: list[Tensor]) -> Tensor:
    return sum(values, torch.zeros_like(values[0])) / len(values)


def wrong_matching(pattern: Tensor, tokens: Tensor, want: Tensor) -> Blame:
    def by(
        keys_of: Callable[[list[int], int], list[int]], values: Tensor = pattern
    ) -> Callable[[], Tensor]:
        return lambda: average(list(slow_matching(values, tokens, keys_of).values()))

    def within_prompts() -> Tensor:
        found = slow_matching(pattern, tokens, find_after)
        rows = [
            [value for (b, _), value in found.items() if b == row] for row in range(len(tokens))
        ]
        return average([average(row) for row in rows if row])

    def divided() -> Tensor:
        found = slow_matching(pattern, tokens, find_after)
        counts = [len(find_earlier(tokens[b].tolist(), q)) for b, q in found]
        return average([value / n for value, n in zip(found.values(), counts, strict=True)])

    def across_prompts() -> Tensor:
        values = []
        for b, prompt in enumerate(tokens.tolist()):
            for q, token in enumerate(prompt):
                keys = {k + 1 for other in tokens.tolist() for k in range(q) if other[k] == token}
                values += [pattern[b, :, q, sorted(keys)].double().sum(1)] if keys else []
        return average(values)

    found = slow_matching(pattern, tokens, find_after)
    return {
        "scores_the_occurrences": by(find_earlier),
        "looks_before_the_occurrences": by(
            lambda prompt, q: [k - 1 for k in find_earlier(prompt, q) if k > 0]
        ),
        "averages_over_all_queries": lambda: (
            average(list(found.values())) * len(found) / tokens.numel()
        ),
        "uses_the_last_occurrence_only": by(lambda prompt, q: find_after(prompt, q)[-1:]),
        "uses_the_first_occurrence_only": by(lambda prompt, q: find_after(prompt, q)[:1]),
        "averages_over_the_occurrences": divided,
        "averages_prompt_by_prompt": within_prompts,
        "forgets_its_own_position": by(
            lambda prompt, q: [k for k in find_after(prompt, q) if k < q]
        ),
        "swaps_query_and_key": by(find_after, pattern.transpose(2, 3)),
        "mixes_up_the_prompts": across_prompts,
        "one_score_for_all_heads": lambda: want.mean().expand_as(want),
    }


def judge_matching(student, shapes: list[tuple[int, int, int, int]], draw: Callable) -> None:
    for seed in student.seeds(2):
        generator = torch.Generator().manual_seed(seed)
        for n_batch, n_heads, n_pos, n_tokens in shapes:
            tokens = draw(n_batch, n_pos, n_tokens, generator)
            scores = 2 * torch.randn(n_batch, n_heads, n_pos, n_pos, generator=generator)
            pattern = scores.masked_fill(
                torch.ones(n_pos, n_pos).triu(1).bool(), float("-inf")
            ).softmax(-1)
            want = average(list(slow_matching(pattern, tokens, find_after).values()))
            got = student.call("prefix_matching_scores", pattern, tokens)
            blame = wrong_matching(pattern, tokens, want)
            expect(got, want, mistakes=blame, what="the tensor of scores")


def draw_repeated(n_batch: int, n_pos: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw blocks of distinct tokens that repeat, with another period in each prompt.

    The first repeats more than twice.
    """
    rows = []
    for b in range(n_batch):
        period = 3 if b == 0 else int(torch.randint(3, n_pos - 2, (1,), generator=generator))
        block = torch.randperm(n_tokens, generator=generator)[:period]
        rows.append(block[torch.arange(n_pos) % period])
    return torch.stack(rows)


def draw_random(n_batch: int, n_pos: int, n_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw random tokens: the first prompt starts with one twice, in the last all are new."""
    tokens = torch.randint(n_tokens, (n_batch, n_pos), generator=generator)
    tokens[0, 1] = tokens[0, 0]
    tokens[-1] = torch.randperm(n_tokens, generator=generator)[:n_pos]
    return tokens


@check("prefix_matching_scores")
def test_repeated_blocks_are_scored(student):
    """Prompts that repeat a block of distinct tokens, of several lengths."""
    judge_matching(student, [(4, 3, 11, 13), (3, 1, 9, 10)], draw_repeated)


@check("prefix_matching_scores")
def test_any_tokens_are_scored(student):
    """Random prompts: tokens twice in a row, several earlier occurrences, prompts in which nothing
    returns."""
    judge_matching(student, [(3, 2, 7, 8), (5, 4, 6, 9)], draw_random)


# 4.2 ----------------------------------------------------------------------------------------------


def run_match(model: Transformer, writer: tuple[int, int], reader: tuple[int, int]) -> Tensor:
    """Make the table by running the model: the writer first, then the reader on two streams.

    The writer runs on one position; the table holds the reader's scores.
    """
    with torch.no_grad():
        # Every token is a prompt of one position, which a head can only attend to.
        alone = model.W_E.unsqueeze(1)
        names = [("result", writer[0])]
        written = model_part(model, alone, writer[0], names)["result", writer[0]][:, 0, writer[1]]
        n = len(written)
        # The key, then the query.
        pairs = torch.stack([written.repeat(n, 1), model.W_E.repeat_interleave(n, dim=0)], dim=1)
        name = ("attn_scores", reader[0])
        scores = model_part(model, pairs, reader[0], [name])[name]
        return scores[:, reader[1], 1, 0].reshape(n, n)


def model_part(model: Transformer, streams: Tensor, layer: int, names: list) -> Any:
    """Return the cache of one layer alone, run on these streams."""
    _, cache = model.run_with_cache(
        resid=streams, start_at_layer=layer, stop_at_layer=layer + 1, names_filter=names
    )
    return cache


def wrong_tables(
    model: Transformer, writer: tuple[int, int], reader: tuple[int, int], want: Tensor
) -> Blame:
    scale = model.config.attn_scale
    E, QK, OV = (W.detach() for W in (model.W_E, model.QK(*reader), model.OV(*writer)))
    early = model.QK(1, reader[1]).detach(), model.OV(0, writer[1]).detach()
    return {
        "forgets_the_scale": lambda: want * scale,
        "ignores_the_writer": lambda: E @ QK @ E.T / scale,
        "query_reads_the_writer": lambda: E @ OV @ QK @ (E @ OV).T / scale,
        "composes_with_the_query": lambda: E @ OV @ QK @ E.T / scale,
        "exchanges_the_heads": lambda: (
            E @ model.QK(*writer).detach() @ (E @ model.OV(*reader).detach()).T / scale
        ),
        "reads_the_value_circuit": lambda: E @ model.OV(*reader).detach() @ (E @ OV).T / scale,
        "ignores_the_layers": lambda: E @ early[0] @ (E @ early[1]).T / scale,
    }


def judge_tables(student, cases: list[tuple[dict, tuple[int, int], tuple[int, int]]]) -> None:
    for seed in student.seeds(2):
        for config, writer, reader in cases:
            named = NamedModel("random", seed=seed, **config)
            model = named.build()
            want = run_match(model, writer, reader)
            names = [f"a{layer}.h{head}" for layer, head in (writer, reader)]
            got = student.call("match_table", named, writer=names[0], reader=names[1])
            blame = wrong_tables(model, writer, reader, want)
            what = "the table of scores (query, previous)"
            expect(got, want, mistakes=blame, rtol=1e-3, atol=1e-5, what=what)


@check("match_table")
def test_heads_of_the_first_two_layers_meet(student):
    """Heads of layers 0 and 1."""
    small = {"d_vocab": 7, "n_ctx": 5, "d_model": 10, "n_layers": 2, "n_heads": 3, "d_head": 4}
    large = dict(d_vocab=12, n_ctx=3, d_model=9, n_layers=2, n_heads=2, d_head=5, attn_scale=0.3)
    judge_tables(student, [(small, (0, 2), (1, 1)), (large, (0, 0), (1, 1))])


@check("match_table")
def test_heads_of_later_layers_meet(student):
    """Heads of any two layers."""
    deep = dict(d_vocab=8, n_ctx=6, d_model=12, n_layers=4, n_heads=3, d_head=5, attn_scale=0.7)
    judge_tables(student, [(deep, (1, 0), (3, 2)), (deep, (0, 1), (2, 0))])


# 4.3 ----------------------------------------------------------------------------------------------

Rows = list[list[float]]


def multiply(left: Rows, right: Rows) -> Rows:
    columns = list(zip(*right, strict=True))
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left
    ]


def measure_size(matrix: Rows) -> float:
    return math.sqrt(sum(entry * entry for row in matrix for entry in row))


def slow_composition(model: Transformer, writer_layer: int, reader_layer: int, part: str) -> Tensor:
    """Write out every sum of products, one number after the other."""
    n = model.config.n_heads
    weights = {
        name: [block.attn.get_parameter(name).tolist() for block in model.blocks]
        for name in ("W_Q", "W_K", "W_V", "W_O")
    }
    table = torch.zeros(n, n, dtype=torch.float64)
    for j in range(n):
        Q, K, V, O_ = (weights[name][reader_layer][j] for name in ("W_Q", "W_K", "W_V", "W_O"))
        first, second = {"q": (Q, turn(K)), "k": (K, turn(Q)), "v": (V, O_)}[part]
        R = multiply(first, second)
        for i in range(n):
            OV = multiply(weights["W_V"][writer_layer][i], weights["W_O"][writer_layer][i])
            sizes = measure_size(OV) * measure_size(R)
            table[i, j] = measure_size(multiply(OV, R)) / sizes if sizes else 0.0
    return table


def turn(matrix: Rows) -> Rows:
    return [list(column) for column in zip(*matrix, strict=True)]


def wrong_compositions(
    model: Transformer, writer_layer: int, reader_layer: int, part: str, want: Tensor
) -> Blame:
    n = model.config.n_heads

    def circuits(i: int, j: int, of: str) -> tuple[Tensor, Tensor]:
        QK, OV = model.QK(reader_layer, j).detach(), model.OV(reader_layer, j).detach()
        return model.OV(writer_layer, i).detach(), {"q": QK, "k": QK.T, "v": OV}[of]

    def table(score: Callable[[Tensor, Tensor], Tensor], of: str = part) -> Tensor:
        return torch.tensor(
            [[float(score(*circuits(i, j, of))) for j in range(n)] for i in range(n)]
        )

    def inner() -> Tensor:
        reads = getattr(model, f"W_{part.upper()}").detach()[reader_layer]
        writes = model.W_O.detach()[writer_layer]
        score = [[(A @ B).norm() / (A.norm() * B.norm()) for B in reads] for A in writes]
        return torch.tensor(score)

    def proper(of: str) -> Tensor:
        return table(lambda A, B: (A @ B).norm() / (A.norm() * B.norm()), of)

    def spectral(A: Tensor, B: Tensor) -> Tensor:
        return torch.linalg.matrix_norm(A @ B, 2) / (
            torch.linalg.matrix_norm(A, 2) * torch.linalg.matrix_norm(B, 2)
        )

    return {
        "nan_for_silent_heads": lambda: proper(part),
        "exchanges_query_and_key": lambda: proper({"q": "k", "k": "q", "v": "v"}[part]),
        "forgets_to_divide": lambda: table(lambda A, B: (A @ B).norm()),
        "divides_by_the_writer_only": lambda: table(lambda A, B: (A @ B).norm() / A.norm()),
        "largest_singular_value": lambda: table(spectral),
        "product_in_the_wrong_order": lambda: table(
            lambda A, B: (B @ A).norm() / (A.norm() * B.norm())
        ),
        "leaves_out_the_outer_matrices": inner,
    }


def judge_composition(student, part: str, silent: bool = False) -> None:
    sizes = [({"n_layers": 2, "d_model": 7, "n_heads": 3, "d_head": 2}, 0, 1)]
    sizes += [({"n_layers": 4, "d_model": 8, "n_heads": 2, "d_head": 3}, 1, 3)]
    for seed in student.seeds(2):
        for config, writer_layer, reader_layer in sizes:
            model = Transformer(Config(d_vocab=5, n_ctx=4, **config), seed=seed)
            with torch.no_grad():
                for block in model.blocks:  # heads of different sizes
                    for W in (block.attn.W_Q, block.attn.W_O):
                        W *= torch.linspace(0.5, 2.0, len(W)).view(-1, 1, 1)
                if silent:
                    model.blocks[writer_layer].attn.W_O[1] = 0.0
                    model.blocks[reader_layer].attn.W_Q[0] = 0.0
            got = student.call("composition_scores", model, writer_layer, reader_layer, part)
            want = slow_composition(model, writer_layer, reader_layer, part)
            blame = wrong_compositions(model, writer_layer, reader_layer, part, want)
            others = [
                student.call("composition_scores", model, writer_layer, reader_layer, of)
                for of in "qkv"
            ]
            if all(isinstance(other, Tensor) and torch.equal(other, others[0]) for other in others):
                blame = {"ignores_part": others[0]}
            what = "the table of scores (writer, reader)"
            expect(got, want, mistakes=blame, rtol=1e-3, atol=1e-5, what=what)


@check("composition_scores")
def test_keys_compose(student):
    """Composition with the keys."""
    judge_composition(student, "k")


@check("composition_scores")
def test_queries_compose(student):
    """Composition with the queries."""
    judge_composition(student, "q")


@check("composition_scores")
def test_values_compose(student):
    """Composition with the values."""
    judge_composition(student, "v")


@check("composition_scores", weight=0.5)
def test_heads_of_zeros_score_zero(student):
    """Heads whose circuit is zero everywhere."""
    for part in "qkv":
        judge_composition(student, part, silent=True)


# 4.4 ----------------------------------------------------------------------------------------------

N_TOKENS, N_CTX, D_HEAD, N_PROMPTS = 11, 16, 20, 24

# What the four heads of each layer are; a and b are two places in the stream for "the token before
# me".
MODELS = {
    1: (("back a", "silent", "idle a", "loud"), ("match a", "match a", "unread a", "echo")),
    2: (("back a", "back b", "idle a", "silent"), ("match a", "match b", "unread b", "echo")),
    3: (("back a", "back a", "idle a", "silent"), ("match a", "unread a", "unread a", "echo")),
}


class Planted(NamedTuple):
    """Hold a model with known pairs, its prompts, and what each head is."""

    model: Transformer
    tokens: Tensor
    answer: Tensor
    kinds: dict[str, str]

    def pairs(
        self, writers: tuple[str, ...], readers: tuple[str, ...], fitting: bool = False
    ) -> set[str]:
        """List all pairs of heads whose kinds start so.

        With `fitting`, list only those that use the same place in the stream.
        """
        named = {
            layer: [
                head
                for head in self.kinds
                if head.startswith(f"a{layer}") and self.kinds[head].startswith(words)
            ]
            for layer, words in enumerate((writers, readers))
        }
        both = [(i, j) for i in named[0] for j in named[1]]
        return {
            f"{i}->{j}" for i, j in both if not fitting or self.kinds[i][-1] == self.kinds[j][-1]
        }

    @property
    def right(self) -> set[str]:
        return self.pairs(("back",), ("match",), fitting=True)


@functools.cache
def plant(seed: int, number: int) -> Planted:
    """Plant model `number`, its stream turned and its heads at random places.

    The places are drawn from `seed` and differ from model to model.
    """
    generator = torch.Generator().manual_seed(seed + number)
    n = N_TOKENS
    # Nobody writes `nothing`.
    stream = by_hand.Stream(token=n, position=N_CTX, a=n, b=n, next=n, unread=n, nothing=n)
    model = by_hand.make_blank(
        Config(n, N_CTX, stream.d_model, n_layers=2, n_heads=4, d_head=D_HEAD, attn_scale=1.0)
    )
    by_hand.write_embedding(model, stream["token"], stream["position"])
    by_hand.read_out(model, stream["next"], 10.0)
    kinds = {}
    for layer, words in enumerate(MODELS[number]):
        order = (
            torch.randperm(4, generator=torch.Generator().manual_seed(seed + 10 * layer)) + number
        ) % 4
        for head, kind in zip(order.tolist(), words, strict=True):
            set_head(model, layer, head, kind, stream)
            kinds[f"a{layer}.h{head}"] = kind
    tokens, answer = draw_prompts(generator)
    with torch.no_grad():  # the first prompt is answered by the embedding, whatever the heads do
        model.W_U[:, answer[0]] += 5 * stream["token"][tokens[0, -1]]
    turn_model(model, generator)
    return Planted(model, tokens, answer, kinds)


def set_head(model: Transformer, layer: int, head: int, kind: str, stream: by_hand.Stream) -> None:
    """Set one head to be of a kind.

    `idle` reads what is never there, `silent` writes nothing, `unread` writes where nobody reads,
    `echo` says the present token.
    """
    word, _, place = kind.partition(" ")
    token, position = stream["token"], stream["position"]
    if word in ("back", "idle", "silent"):
        by_hand.attend_to_previous(model, layer, head, position, 20.0)
    if word in ("match", "unread"):
        by_hand.attend_where_equal(model, layer, head, token, stream[place], 20.0)
    if word == "echo":
        by_hand.attend_where_equal(model, layer, head, token, token, 20.0)
    source = stream["nothing"] if word == "idle" else token
    target = {"loud": 5 * stream["unread"], "unread": stream["unread"], "silent": 0 * token}
    target |= {"match": stream["next"], "echo": 0.3 * stream["next"]}
    by_hand.copy_directions(model, layer, head, source, target.get(word, stream[place or "a"]))


@torch.no_grad()
def turn_model(model: Transformer, generator: torch.Generator) -> None:
    """Put the model into another basis of the stream, and of the inside of every head."""
    turn = draw_rotation(model.config.d_model, generator).float()
    for W in (model.W_E, model.W_pos):
        W.copy_(W @ turn)
    model.W_U.copy_(turn.T @ model.W_U)
    for block in model.blocks:
        meet, move = (
            torch.stack([draw_rotation(D_HEAD, generator).float() for _ in range(4)])
            for _ in range(2)
        )
        attn = block.attn
        for W, inside in ((attn.W_Q, meet), (attn.W_K, meet), (attn.W_V, move)):
            W.copy_(turn.T @ W @ inside)
        attn.W_O.copy_(move.mT @ attn.W_O @ turn)


def draw_prompts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw token 0, then a block of 7 to 10 distinct tokens, repeated to the context's end."""
    prompts = []
    for _ in range(N_PROMPTS):
        period = int(torch.randint(7, N_TOKENS, (1,), generator=generator))
        block = (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:period]).tolist()
        prompts.append([0] + [block[t % period] for t in range(N_CTX)])
    tokens = torch.tensor(prompts)
    return tokens[:, :-1], tokens[:, -1]


def judge_pairs(student, number: int) -> None:
    planted = {other: plant(student.seeds(1)[0], other) for other in MODELS}
    answers = {
        other: student.call("find_induction_pairs", *case[:3]) for other, case in planted.items()
    }
    case, got = planted[number], answers[number]
    possible = case.pairs(("",), ("",))
    named = [
        set(answer) if isinstance(answer, (list, tuple, frozenset)) else None
        for answer in answers.values()
    ]
    if all(names is not None and not names for names in named):
        raise Wrong("silences_one_at_a_time")
    if got and named[0] == named[1] == named[2] and named[0] != possible:
        mistake: dict = {"the_same_for_every_model": set(got)}
    else:
        attending = ("back", "silent", "idle")
        matching = ("match", "unread")
        mistake = {
            "names_every_pair": possible,
            "trusts_composition": case.pairs(("back", "idle"), matching, fitting=True),
            "trusts_attention": case.pairs(attending, matching),
            "trusts_copying": case.pairs(("back",), ("match", "echo")),
            "pairs_every_worker": case.pairs(("back",), ("match",)),
        }
        if isinstance(got, (list, tuple, frozenset)) and set(got) < case.right:
            mistake["finds_the_best_pair_only"] = set(got)
    expect_found(got, [case.right], sorted(possible), mistakes=mistake, what="pairs")


@check("find_induction_pairs")
def test_the_pairs_of_the_first_model_are_found(student):
    """The pairs of the first of three models."""
    judge_pairs(student, 1)


@check("find_induction_pairs")
def test_the_pairs_of_the_second_model_are_found(student):
    """The pairs of the second model."""
    judge_pairs(student, 2)


@check("find_induction_pairs")
def test_the_pairs_of_the_third_model_are_found(student):
    """The pairs of the third model."""
    judge_pairs(student, 3)
