"""Grade lesson 08.

What is right comes from slow runs head by head, from finite differences, or was planted in models
set by hand.
"""

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import (
    Wrong,
    as_list,
    check,
    expect,
    expect_found,
)
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Norm, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set.disguise import rotate_model

MUTANTS = load_mutants(__file__)

Head = tuple[int, int]
SHAPES = (
    dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=3, n_heads=3, d_head=5, attn_scale=0.7),
    dict(d_vocab=7, n_ctx=9, d_model=10, n_layers=2, n_heads=4, d_head=3, d_mlp=13)
    | dict(norm="layer", act="gelu"),
    dict(d_vocab=9, n_ctx=6, d_model=8, n_layers=4, n_heads=3, d_head=4, d_mlp=7)
    | dict(norm="rms", act="gelu"),
)
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}


@dataclass(frozen=True)
class Trial:
    """Hold a random float64 model, two batches of prompts, and the tokens to compare."""

    named: NamedModel
    clean: Tensor
    corrupt: Tensor
    answer: Tensor
    wrong: Tensor
    cached: dict = field(default_factory=dict)

    @functools.cached_property
    def model(self) -> Transformer:
        return self.named.build().double().requires_grad_(False)

    @property
    def inputs(self) -> tuple:
        return self.named, self.clean, self.corrupt, self.answer, self.wrong

    def difference(self, logits: Tensor) -> float:
        """Subtract the wrong token's logit from the answer's, at each prompt's last position."""
        pairs = zip(logits[:, -1], self.answer.tolist(), self.wrong.tolist(), strict=True)
        return float(sum(row[answer] - row[wrong] for row, answer, wrong in pairs)) / len(logits)

    def written(self, what: str) -> dict[Head, Tensor]:
        if what not in self.cached:
            self.cached[what] = run_slowly(self.model, getattr(self, what))[1]
        return self.cached[what]

    def change(self, *head: int) -> Tensor:
        return self.written("corrupt")[head] - self.written("clean")[head]


@torch.no_grad()
def draw_trial(seed: int, shape: dict, rows: int = 3, length: int = 5) -> Trial:
    """Draw a model, prompts, and the tokens that best tell the clean from the corrupt ones."""
    generator = torch.Generator().manual_seed(seed)
    named = NamedModel("random", seed=seed, **shape)
    clean, corrupt = torch.randint(shape["d_vocab"], (2, rows, length), generator=generator)
    model = named.build()
    gain = (model(clean) - model(corrupt))[:, -1]
    return Trial(named, clean, corrupt, gain.argmax(dim=-1), gain.argmin(dim=-1))


def normalize(norm: Norm | None, x: Tensor) -> Tensor:
    return x if norm is None else norm.normalize(x)


def run_slowly(
    model: Transformer,
    tokens: Tensor,
    own: dict[Head, Tensor] | None = None,
    heard: dict[tuple[int, int, str], Tensor] | None = None,
    last: Tensor | float = 0.0,
) -> tuple[Tensor, dict[Head, Tensor]]:
    """Compute logits, and what every head writes (b, t, d), query by query.

    A head in `own` writes that instead. What is in `heard` is added to one input of one head,
    `last` to what the unembedding reads.
    """
    stream = model.embed(tokens)
    result = {}
    for layer, block in enumerate(model.blocks):
        attn = block.attn
        after = stream
        for head in range(model.config.n_heads):
            q, k, v = (
                normalize(block.ln1, stream + (heard or {}).get((layer, head, part), 0.0)) @ W[head]
                for part, W in zip("qkv", (attn.W_Q, attn.W_K, attn.W_V), strict=True)
            )
            rows = []
            for i in range(tokens.shape[1]):
                scores = (
                    torch.stack([(q[:, i] * k[:, j]).sum(-1) for j in range(i + 1)])
                    / model.config.attn_scale
                )
                weights = scores.exp() / scores.exp().sum(0)  # key, batch
                rows.append(sum(weights[j].unsqueeze(-1) * v[:, j] for j in range(i + 1)))
            result[layer, head] = (own or {}).get(
                (layer, head), torch.stack(rows, dim=1) @ attn.W_O[head]
            )
            after = after + result[layer, head]
        stream = after if block.mlp is None else after + block.mlp(normalize(block.ln2, after))
    return model.unembed(stream + last), result


# 8.1 ----------------------------------------------------------------------------------------------


def judge_edge(student, part: str) -> None:
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape)
        # In two of three models a layer follows the reader's; neither head is its layer's last.
        n = shape["n_heads"]
        layer = max(1, shape["n_layers"] - 2)
        writer = (seed % layer, seed // 3 % (n - 1))
        reader = (layer, (writer[1] + 1 + seed // 7 % (n - 2)) % (n - 1))
        got = student.call(
            "patch_edge", trial.named, trial.clean, trial.corrupt, writer, reader, part
        )
        heard = {(*reader, part): trial.change(*writer)}
        want = run_slowly(trial.model, trial.clean, heard=heard)[0]
        expect(got, want, what="the tensor of logits", **ROUNDING)


@check("patch_edge")
def test_an_edge_into_keys(student):
    """An edge into the keys of a head."""
    judge_edge(student, "k")


@check("patch_edge")
def test_an_edge_into_queries(student):
    """An edge into the queries of a head."""
    judge_edge(student, "q")


@check("patch_edge")
def test_an_edge_into_values(student):
    """An edge into the values of a head."""
    judge_edge(student, "v")


# 8.2 ----------------------------------------------------------------------------------------------


def measure_split(trial: Trial, layer: int, head: int) -> list[float]:
    """Measure by how much runs differ in which all, the unembedding, or the rest hear the news."""
    change = trial.change(layer, head)
    own = {(layer, head): trial.written("corrupt")[layer, head]}
    runs = ({}, {"own": own}, {"last": change}, {"own": own, "last": -change})
    clean, *patched = (
        trial.difference(run_slowly(trial.model, trial.clean, **run)[0]) for run in runs
    )
    return [value - clean for value in patched]


def judge_effect(student, place: int, what: str) -> None:
    """Hold one of the three effects to the slow one."""
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape, rows=4)
        layer = seed % max(1, shape["n_layers"] % 4 - 1)  # of four layers the first
        head = seed // 3 % (shape["n_heads"] - 1)
        got = as_list(student.call("split_head_effect", *trial.inputs, layer, head))
        if got is None or len(got) != 3:
            raise Wrong(
                sentence="Return three numbers: the total, the direct and the indirect effect."
            )
        expect(got[place], measure_split(trial, layer, head)[place], what=what, **ROUNDING)


@check("split_head_effect")
def test_the_total_effect(student):
    """The total effect."""
    judge_effect(student, 0, "the total effect")


@check("split_head_effect")
def test_the_direct_effect(student):
    """The direct effect, with and without a final norm."""
    judge_effect(student, 1, "the direct effect")


@check("split_head_effect")
def test_the_indirect_effect(student):
    """The indirect effect."""
    judge_effect(student, 2, "the indirect effect")


# 8.3 ----------------------------------------------------------------------------------------------

# Of the way, in double precision; the models have no ReLU, whose kink might lie in between.
NUDGE = 1e-5


def slope_along(trial: Trial, at: dict[Head, Tensor], head: Head) -> float:
    """Measure how much the metric grows if one head goes its whole way as steeply as it starts.

    The heads in `at` write that. It takes two runs, a little to either side.
    """
    start = at.get(head, trial.written("clean")[head])
    step = NUDGE * trial.change(*head)
    low, high = (
        trial.difference(run_slowly(trial.model, trial.clean, own=at | {head: value})[0])
        for value in (start - step, start + step)
    )
    return (high - low) / (2 * NUDGE)


def judge_attribution(student, rows: slice) -> None:
    """Hold the estimates of some layers to finite differences."""
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape, rows=3 + seed % 2)
        got = student.call("attribute_heads", *trial.inputs)
        layers, heads = range(shape["n_layers"]), range(shape["n_heads"])
        want = torch.tensor([[slope_along(trial, {}, (i, n)) for n in heads] for i in layers])
        if isinstance(got, Tensor) and got.shape == want.shape:
            got, want = got[rows], want[rows]
        expect(got, want, what="the table of estimates", **ROUNDING)


@check("attribute_heads")
def test_heads_of_the_last_layer(student):
    """Heads of the last layer."""
    judge_attribution(student, slice(-1, None))


@check("attribute_heads", weight=2)
def test_heads_that_others_read(student):
    """Heads that later layers read."""
    judge_attribution(student, slice(None, -1))


# 8.4 ----------------------------------------------------------------------------------------------


def integrate_slowly(trial: Trial, layer: int, steps: int) -> Tensor:
    """Average each head's slope along its way over the middles, by finite differences."""
    heads = [(layer, n) for n in range(trial.model.config.n_heads)]
    clean = trial.written("clean")
    points = [(step + 0.5) / steps for step in range(steps)]
    ways = [{head: clean[head] + point * trial.change(*head) for head in heads} for point in points]
    return torch.tensor(
        [sum(slope_along(trial, at, head) for at in ways) / steps for head in heads]
    )


def judge_integral(student, steps: int, cases: slice) -> None:
    for seed, shape in list(zip(student.seeds(3), SHAPES, strict=True))[cases]:
        trial = draw_trial(seed, shape)
        layer = seed % (shape["n_layers"] - 1)
        got = student.call("integrate_heads", *trial.inputs, layer, steps)
        want = integrate_slowly(trial, layer, steps)
        expect(got, want, what="the list of shares", **ROUNDING)


@check("integrate_heads")
def test_three_steps(student):
    """With three steps, the gradients are those of the three middles."""
    judge_integral(student, 3, slice(None, 2))


@check("integrate_heads")
def test_seven_steps(student):
    """With seven steps, in a deeper model."""
    judge_integral(student, 7, slice(2, None))


@check("integrate_heads")
def test_the_shares_add_up_to_the_effect_of_the_layer(student):
    """With many steps, the shares add up to the effect of patching the layer."""
    for seed, shape in zip(student.seeds(2), SHAPES[1:], strict=True):
        trial = draw_trial(seed, shape)
        layer = 0
        got = student.call("integrate_heads", *trial.inputs, layer, 60)
        heads = [(layer, n) for n in range(shape["n_heads"])]
        if not isinstance(got, Tensor) or got.shape != (len(heads),):
            raise Wrong(sentence=f"Return one number per head of the layer: shape ({len(heads)},).")
        if len(got.unique()) < len(heads):
            raise Wrong(sentence="Heads of random models have shares of their own: yours are even.")
        own = {head: trial.written("corrupt")[head] for head in heads}
        patched, whole = (run_slowly(trial.model, trial.clean, own=each)[0] for each in (own, {}))
        want = trial.difference(patched) - trial.difference(whole)
        if abs(float(got.sum()) - want) > 0.02 * (1 + abs(want)):
            raise Wrong(
                sentence="The shares of the heads do not add up to what patching all of them "
                "together does."
            )


# 8.5 ----------------------------------------------------------------------------------------------

N_TOKENS, N_CTX, N_PROMPTS = 10, 12, 24
READER_LAYER = 2
SIDES = {"modest": 0.085, "faint": 0.052, "hinders": -0.1}


@dataclass(frozen=True)
class Planted:
    """Hold a model, its prompts and answers, one of its heads, and the edges that feed it.

    Prompts and answers are clean and corrupt.
    """

    model: Transformer
    clean: Tensor
    corrupt: Tensor
    answer: Tensor
    wrong: Tensor
    head: int
    feeds: dict[str, tuple[str, ...]]  # "q", "k" or "v" -> who feeds it
    roles: dict[str, str]

    @property
    def inputs(self) -> tuple:
        prompts = self.clean, self.corrupt, self.answer, self.wrong
        return self.model, *prompts, READER_LAYER, self.head

    def spell(self, feeds: dict[str, tuple[str, ...]]) -> set[str]:
        reader = f"a{READER_LAYER}.h{self.head}"
        return {f"{writer}->{reader}<{part}>" for part in feeds for writer in feeds[part]}

    @property
    def right(self) -> set[str]:
        return self.spell(self.feeds)

    @property
    def possible(self) -> list[str]:
        writers = ("input", *(name for name in self.roles if name[1] < str(READER_LAYER)))
        return sorted(self.spell(dict.fromkeys("qkv", writers)))


@functools.cache
def plant(seed: int, kind: str) -> Planted:
    """Plant three layers of four heads in random order that continue repeated text.

    All weights are dense. Layer 0: `first` writes the token again, where only `previous` reads it
    (layer 1), which writes it one position later. The reader (layer 2) finds by its keys the
    position after an equal token. kind "asks": its queries hear a head instead of the embedding;
    "tells": its values do; "both": queries and values hear the same head. A rival in its layer does
    the same job by the embedding. Of what the values read, "modest" adds .085, which costs 1.2,
    "faint" .052, which costs .8, and "hinders" takes .1 away. By their weights "idle" heads feed
    the reader best, but they look where nothing is. The rest write where nobody reads.
    """
    generator = torch.Generator().manual_seed(seed)
    groups = dict.fromkeys(("token", "first", "previous", "again", "next", "unread"), N_TOKENS)
    stream = by_hand.Stream(position=N_CTX, **groups)
    config = Config(
        N_TOKENS, N_CTX, stream.d_model, n_layers=3, n_heads=4, d_head=N_CTX, attn_scale=1.0
    )
    model = by_hand.make_blank(config)
    token = stream["token"]
    position = stream["position"]
    again = stream["again"]
    by_hand.write_embedding(model, token, position)
    by_hand.read_out(model, stream["next"], 1.0)
    feeder = 1 + seed % 2
    faint = 2 - seed % 2  # which of two layers, counted from 1
    layers = [["first"], ["previous"], ["reader", "rival"]]
    layers[feeder - 1] += ["feeder", "hinders"]
    layers[faint - 1] += ["faint", "modest"]
    read_by = {"asks": (again, token), "tells": (token, again), "both": (again, again)}[kind]
    roles: dict[str, str] = {}
    for layer, names in enumerate(layers):
        order = torch.randperm(4, generator=generator).tolist()
        for head, role in zip(order, [*names, "idle", "looks back", "loud"], strict=False):
            roles[f"a{layer}.h{head}"] = role
            query = position
            key = position
            source = token
            target = 5 * stream["unread"]
            if role in ("previous", "looks back"):
                query = position[1:]
                key = position[:-1]
            if role == "previous":
                source, target = stream["first"], stream["previous"]
            elif role in ("first", "feeder"):
                target = stream["first"] if role == "first" else again
            elif role in SIDES:
                target = SIDES[role] * read_by[1]
            elif role == "idle":  # sees the first token only, of which it writes nothing
                key = position[:1].expand_as(position)
                target = 3 * (stream["previous"] if layer == feeder - 1 else read_by[0])
                target[0] = 0.0
            elif role in ("reader", "rival"):
                query = read_by[0] if role == "reader" else token
                key = stream["previous"]
                source = token
                source = read_by[1] if role == "reader" else token
                target = (10 if role == "reader" else 4) * stream["next"]
            by_hand.attend_where_equal(model, layer, head, query, key, 20.0)
            by_hand.copy_directions(model, layer, head, source, target)
    where = {role: name for name, role in roles.items()}
    query, value = (where["feeder"] if read is again else "input" for read in read_by)
    feeds = {"q": (query,), "k": (where["previous"],)}
    feeds["v"] = (value, where["modest"])
    turned, _ = rotate_model(model, generator)
    return Planted(turned, *draw_prompts(generator), int(where["reader"][-1]), feeds, roles)


def draw_prompts(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw token 0, seven distinct tokens, and the first four again; the fifth comes next.

    A corrupt prompt repeats others, so that another position is asked for. What is wrong is what
    stands there in place of the answer, or in the first half token 0, which nobody says: there an
    edge costs half as much, so that few prompts tell another story than all.
    """
    clean, corrupt = [], []
    while len(clean) < N_PROMPTS:
        one, two = (
            (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:7]).tolist() for _ in range(2)
        )
        if one[4] not in two[3:5]:
            clean.append([0, *one, *one[:4]])
            corrupt.append([0, *two, two[6], *two[:3]])
    tokens, other = torch.tensor(clean), torch.tensor(corrupt)
    return tokens, other, tokens[:, 5], other[:, 5] * (torch.arange(N_PROMPTS) >= N_PROMPTS // 2)


@functools.lru_cache(maxsize=1)
def ask_edges(student) -> list[tuple[set[str], Planted]]:
    """Ask what the learner finds in three models, once for all checks."""
    cases = [
        plant(seed, kind)
        for seed, kind in zip(student.seeds(3), ("asks", "tells", "both"), strict=True)
    ]
    pairs = []
    for case in cases:
        got = as_list(student.call("find_feeding_edges", *case.inputs))
        if got is None or not all(isinstance(edge, str) for edge in got):
            raise Wrong(sentence=f"Return a list of edges, such as [{case.possible[0]!r}].")
        if odd := [edge for edge in got if edge not in case.possible]:
            example = case.possible[0]
            raise Wrong(
                sentence=f"{odd[0]!r} is no edge into the head that was asked for; "
                f"they look like {example!r}."
            )
        pairs.append((set(got), case))
    return pairs


def judge_feeders(student, part: str) -> None:
    """Hold the edges into one input of the head, in three models, to those that were planted."""
    asked = ask_edges(student)

    def spell(edges_of_each) -> set[str]:
        numbered = ((i, edge) for i, edges in enumerate(edges_of_each) for edge in edges)
        return {f"{edge} (model {i + 1})" for i, edge in numbered if edge.endswith(f"<{part}>")}

    got, right = spell([given for given, _ in asked]), spell([case.right for _, case in asked])
    possible = sorted(spell([case.possible for _, case in asked]))
    places = [{edge.replace(f"h{case.head}<", "<") for edge in edges} for edges, case in asked]
    if places[0] and places[0] == places[1] == places[2]:
        raise Wrong("constant_output")  # some of it may be right, but nothing was looked for
    input_name = {"q": "queries", "k": "keys", "v": "values"}[part]
    expect_found(sorted(got), [right], possible, what=f"edges into the {input_name} of three heads")


@check("find_feeding_edges")
def test_who_feeds_the_queries(student):
    """Who feeds the queries, in three unknown models."""
    judge_feeders(student, "q")


@check("find_feeding_edges")
def test_who_feeds_the_keys(student):
    """Who feeds the keys."""
    judge_feeders(student, "k")


@check("find_feeding_edges")
def test_who_feeds_the_values(student):
    """Who feeds the values."""
    judge_feeders(student, "v")
