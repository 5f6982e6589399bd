"""Grade lesson 08.

What is right comes from slow runs head by head, from finite differences, or was planted in models
set by hand.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mini_transformer.course.grading.checks import Wrong, check, expect, expect_found, score_found
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.model import Config, Norm, Transformer
from mini_transformer.toys import by_hand
from mini_transformer.toys.hand_set.disguise import rotate_model

MISTAKES = {
    "patch_edge": {
        "patches_the_whole_head": "Everybody who comes later hears your writer's corrupt value: "
        "that is the patch of a head, not of one of its edges.",
        "patches_the_whole_layer": "All heads in the reader's layer hear the corrupt value: one of "
        "them should.",
        "patches_all_three_inputs": "Queries, keys and values of the reader all hear the corrupt "
        "value, whatever `part` is.",
        "swaps_query_and_key": "Asked for the query you patch the key, and the other way round.",
        "patches_the_wrong_run": "You put the clean value into the corrupt run: here it is the "
        "clean run that hears something corrupt.",
        "replaces_the_whole_input": "Your reader's input comes from the corrupt run altogether: it "
        "should hear one writer from there, and all others as they are.",
        "hears_only_the_writer": "Your reader hears the writer and nobody else: where has the rest "
        "of the stream gone?",
        "hears_the_writer_twice": "Your reader hears the writer's corrupt value in addition to the "
        "clean one.",
        "takes_the_writer_away": "Your reader no longer hears the writer at all: corrupt is not "
        "the same as silent.",
        "last_position_only": "Your edge is patched at the last position only: keys and values are "
        "read at all of them.",
        "swaps_the_head_numbers": "You have exchanged the numbers of the two heads within their "
        "layers.",
        "flips_the_sign": "Your change points the wrong way: the reader is to hear the corrupt "
        "value, not to be moved away from it.",
        "runs_on_the_corrupt_prompts": "Your run is one on the corrupt prompts: all but one reader "
        "should hear what they hear in the clean run.",
    },
    "split_head_effect": {
        "direct_through_later_layers": "Your direct effect is the total one: later blocks also "
        "read the stream that you change.",
        "indirect_by_subtraction": "Your indirect effect is total minus direct. That need not be "
        "what happens if the unembedding alone misses the news: run it.",
        "direct_without_the_norm": "You read the direct effect off with the unembedding alone: "
        "what does the stream pass on the way to it?",
        "swaps_direct_and_indirect": "The direct and the indirect effect are exchanged.",
        "forgets_the_baseline": "You return the metric of the three runs: an effect is by how much "
        "it changes.",
        "patches_the_whole_layer": "All heads of the layer are patched: one of them was asked for.",
        "patches_the_wrong_run": "You put the head's clean value into the corrupt run.",
        "takes_the_head_away": "Your head is silent in place of saying what it says on the corrupt "
        "prompts.",
    },
    "attribute_heads": {
        "gradient_of_the_corrupt_run": "Your gradient is that of the corrupt run: which run is "
        "patched, and so where does the line start?",
        "forgets_the_clean_value": "You multiply the gradient by the corrupt value: a patch moves "
        "a head by the difference of two values.",
        "multiplies_by_the_clean_value": "You multiply the gradient by the clean value: where does "
        "the patch move the head to?",
        "gradient_alone": "You sum up the gradient: how far does the head move?",
        "last_position_only": "You count the last position only: a head's output is also read from "
        "earlier ones.",
        "patches_exactly": "You have patched every head. That is what the estimate is to be "
        "compared with: here one gradient has to do.",
    },
    "integrate_heads": {
        "gradient_at_the_clean_end": "All your gradients are those of the clean run: the point of "
        "the exercise is to walk.",
        "starts_at_the_beginning_of_each_piece": "You take the gradient where each piece of the "
        "line begins, not in its middle.",
        "ends_at_the_end_of_each_piece": "You take the gradient where each piece of the line ends, "
        "not in its middle.",
        "one_head_at_a_time": "You move one head while the others of the layer stay clean: here "
        "they all move together.",
        "runs_on_the_corrupt_prompts": "Your heads move in a run on the corrupt prompts: everybody "
        "else should stay with the clean ones.",
        "walks_from_zero": "Your line starts at zero and not at the clean value.",
        "last_position_only": "You count the last position only: a head's output is also read from "
        "earlier ones.",
    },
    "find_feeding_edges": {
        "names_all_three_inputs": "You found who feeds the head, but name all three inputs of it "
        "for each: patch one at a time.",
        "patches_whole_heads": "You name every head whose patch changes the answer: some of them "
        "feed somebody else, who feeds this head.",
        "patches_the_whole_layer": "Some of your edges feed another head of the same layer, which "
        "also writes answers.",
        "trusts_the_gradient": "You miss edges whose gradient is nearly zero: attention that is "
        "certain does not move for a small step.",
        "forgets_the_input": "You name heads only, but this head also reads the embedding.",
        "swaps_query_and_key": "What you say of queries is true of keys, and the other way round.",
        "constant_output": "You name the same edges in every model, but the places of the heads "
        "differ.",
        "counts_any_change": "You also name edges that change the metric by a fraction of what was "
        "asked for.",
    },
}

Head = tuple[int, int]
Blame = dict[str, Callable[[], Any]]
SHAPES = (
    dict(d_vocab=11, n_ctx=8, d_model=12, n_layers=3, n_heads=2, d_head=5, attn_scale=0.7),
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


def draw_trial(seed: int, shape: dict, rows: int = 3, length: int = 5) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    v = shape["d_vocab"]
    clean, corrupt = (torch.randint(v, (rows, length), generator=generator) for _ in range(2))
    answer = torch.randint(v, (rows,), generator=generator)
    wrong = (answer + 1 + seed % 3) % v
    return Trial(NamedModel("random", seed=seed, **shape), clean, corrupt, answer, wrong)


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


def wrong_edges(trial: Trial, writer: Head, reader: Head, part: str) -> Blame:
    model = trial.model
    clean = trial.clean
    change = trial.change(*writer)
    heads = range(model.config.n_heads)
    layer, head = reader
    other = {"q": "k", "k": "q", "v": "v"}[part]
    streams = [model(tokens, stop_at_layer=layer) for tokens in (clean, trial.corrupt)]
    old, new = (trial.written(what)[writer] for what in ("clean", "corrupt"))
    last = torch.zeros_like(change)
    last[:, -1] = change[:, -1]

    def hear(extra: Tensor, reader: Head = reader, parts: str = part) -> Callable[[], Tensor]:
        return lambda: run_slowly(model, clean, heard={(*reader, each): extra for each in parts})[0]

    def hear_in_layer() -> Tensor:
        return run_slowly(model, clean, heard={(layer, n, part): change for n in heads})[0]

    def swap_numbers() -> Tensor:
        swapped = trial.change(writer[0], head)
        return run_slowly(model, clean, heard={(layer, writer[1], part): swapped})[0]

    return {
        "patches_the_whole_head": lambda: run_slowly(model, clean, own={writer: new})[0],
        "patches_the_whole_layer": hear_in_layer,
        "patches_all_three_inputs": hear(change, parts="qkv"),
        "swaps_query_and_key": hear(change, parts=other),
        "patches_the_wrong_run": lambda: run_slowly(
            model, trial.corrupt, heard={(*reader, part): -change}
        )[0],
        "replaces_the_whole_input": hear(streams[1] - streams[0]),
        "hears_only_the_writer": hear(new - streams[0]),
        "hears_the_writer_twice": hear(new),
        "takes_the_writer_away": hear(-old),
        "last_position_only": hear(last),
        "swaps_the_head_numbers": swap_numbers,
        "flips_the_sign": hear(-change),
        "runs_on_the_corrupt_prompts": lambda: run_slowly(
            model, trial.corrupt, heard={(*reader, part): change}
        )[0],
    }


def judge_edge(student, part: str) -> None:
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape)
        # In two of three models a layer follows the reader's; no head's place is the usual one.
        n = shape["n_heads"]
        layer = max(1, shape["n_layers"] - 2)
        writer = (seed % layer, seed // 3 % n)
        reader = (layer, (writer[1] + 1 + seed // 7 % (n - 1)) % n)
        got = student.call(
            "patch_edge", trial.named, trial.clean, trial.corrupt, writer, reader, part
        )
        heard = {(*reader, part): trial.change(*writer)}
        want = run_slowly(trial.model, trial.clean, heard=heard)[0]
        blame = wrong_edges(trial, writer, reader, part)
        expect(got, want, mistakes=blame, what="the tensor of logits", **ROUNDING)


@check("patch_edge")
def test_an_edge_into_queries(student):
    """An edge into the queries of a head."""
    judge_edge(student, "q")


@check("patch_edge")
def test_an_edge_into_keys(student):
    """An edge into the keys of a head."""
    judge_edge(student, "k")


@check("patch_edge")
def test_an_edge_into_values(student):
    """An edge into the values of a head."""
    judge_edge(student, "v")


# 8.2 ----------------------------------------------------------------------------------------------


def measure_split(
    trial: Trial, layer: int, head: int, new: Tensor, tokens: Tensor, old: Tensor
) -> list[float]:
    """Measure the clean run, and runs in which all, the unembedding, or the rest hear `new`."""
    model = trial.model
    runs = (
        {},
        {"own": {(layer, head): new}},
        {"last": new - old},
        {"own": {(layer, head): new}, "last": old - new},
    )
    return [trial.difference(run_slowly(model, tokens, **run)[0]) for run in runs]


def wrong_splits(trial: Trial, layer: int, head: int, metrics: list[float]) -> Blame:
    base, *rest = metrics
    total, direct, indirect = (value - base for value in rest)
    model = trial.model
    change = trial.change(layer, head)
    old, new = (trial.written(what) for what in ("clean", "corrupt"))

    def split(*given: Any) -> tuple[float, ...]:
        base, *rest = measure_split(trial, layer, head, *given)
        return tuple(value - base for value in rest)

    def split_layer() -> tuple[float, ...]:
        heads = [(layer, n) for n in range(model.config.n_heads)]
        own = {each: new[each] for each in heads}
        shift = sum(new[each] - old[each] for each in heads)
        runs = ({"own": own}, {"last": shift}, {"own": own, "last": -shift})
        return tuple(
            trial.difference(run_slowly(model, trial.clean, **run)[0]) - base for run in runs
        )

    return {
        "direct_through_later_layers": lambda: (total, total, indirect),
        "indirect_by_subtraction": lambda: (total, direct, total - direct),
        "direct_without_the_norm": lambda: (total, trial.difference(change @ model.W_U), indirect),
        "swaps_direct_and_indirect": lambda: (total, indirect, direct),
        "forgets_the_baseline": lambda: tuple(rest),
        "patches_the_whole_layer": split_layer,
        "patches_the_wrong_run": lambda: split(old[layer, head], trial.corrupt, new[layer, head]),
        "takes_the_head_away": lambda: split(0 * old[layer, head], trial.clean, old[layer, head]),
    }


def judge_effect(student, place: int) -> None:
    """Hold one of the three effects to the slow one; all three tell which mistake it is."""
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape, rows=4)
        layer = seed % (shape["n_layers"] - 1)
        head = seed // 3 % (shape["n_heads"] - 1)
        got = student.call("split_head_effect", *trial.inputs, layer, head)
        if isinstance(got, Tensor):
            got = got.tolist()
        if not isinstance(got, (list, tuple)) or len(got) != 3:
            raise Wrong(
                sentence="Return three numbers: the total, the direct and the indirect effect."
            )
        written = (trial.written(what)[layer, head] for what in ("corrupt", "clean"))
        metrics = measure_split(trial, layer, head, next(written), trial.clean, next(written))
        want = tuple(value - metrics[0] for value in metrics[1:])
        try:
            what = f"the {('total', 'direct', 'indirect')[place]} effect"
            expect(got[place], want[place], what=what, **ROUNDING)
        except Wrong:
            blame = wrong_splits(trial, layer, head, metrics)
            expect(tuple(got), want, mistakes=blame, what="the split", **ROUNDING)
            raise


@check("split_head_effect")
def test_the_total_effect(student):
    """The total effect."""
    judge_effect(student, 0)


@check("split_head_effect")
def test_the_direct_effect(student):
    """The direct effect, with and without a final norm."""
    judge_effect(student, 1)


@check("split_head_effect")
def test_the_indirect_effect(student):
    """The indirect effect."""
    judge_effect(student, 2)


# 8.3 ----------------------------------------------------------------------------------------------

# Of the way, in double precision; the models have no ReLU, whose kink might lie in between.
NUDGE = 1e-5


def slope_along(
    trial: Trial, tokens: Tensor, at: dict[Head, Tensor], head: Head, direction: Tensor
) -> float:
    """Measure the metric's growth per unit of `direction` in what one head writes.

    It takes two runs, a little to either side.
    """
    start = at.get(head, trial.written("clean" if tokens is trial.clean else "corrupt")[head])
    low, high = (
        trial.difference(
            run_slowly(trial.model, tokens, own={**at, head: start + sign * NUDGE * direction})[0]
        )
        for sign in (-1, 1)
    )
    return (high - low) / (2 * NUDGE)


def list_heads(trial: Trial) -> list[Head]:
    return list(
        itertools.product(range(trial.model.config.n_layers), range(trial.model.config.n_heads))
    )


def make_table(trial: Trial, measure: Callable[[Head], float]) -> Tensor:
    """Make a table of one number per head, (layer, head)."""
    values = torch.tensor([measure(head) for head in list_heads(trial)], dtype=torch.float64)
    return values.view(trial.model.config.n_layers, -1)


def keep_last(x: Tensor) -> Tensor:
    return torch.cat([0 * x[:, :-1], x[:, -1:]], dim=1)


def wrong_attributions(trial: Trial, want: Tensor) -> Blame:
    clean, corrupt = trial.written("clean"), trial.written("corrupt")
    base = trial.difference(run_slowly(trial.model, trial.clean)[0])

    def along(
        direction: Callable[[Head], Tensor], tokens: Tensor = trial.clean
    ) -> Callable[[], Tensor]:
        return lambda: make_table(
            trial, lambda head: slope_along(trial, tokens, {}, head, direction(head))
        )

    def patch(head: Head) -> float:
        return (
            trial.difference(run_slowly(trial.model, trial.clean, own={head: corrupt[head]})[0])
            - base
        )

    return {
        "gradient_of_the_corrupt_run": along(lambda head: trial.change(*head), trial.corrupt),
        "forgets_the_clean_value": along(lambda head: corrupt[head]),
        "multiplies_by_the_clean_value": along(lambda head: clean[head]),
        "last_position_only": along(lambda head: keep_last(trial.change(*head))),
        "patches_exactly": lambda: make_table(trial, patch),
        "gradient_alone": along(lambda head: sum_of_z(trial, head)),
    }


def sum_of_z(trial: Trial, head: Head) -> Tensor:
    """Return the direction in which every entry of what the head hands on grows alike."""
    direction = trial.model.blocks[head[0]].attn.W_O[head[1]].sum(0)
    return direction.expand_as(trial.written("clean")[head])


def judge_attribution(student, layers: str) -> None:
    """Hold the estimates of the last layer, or of all earlier ones, to finite differences."""
    rows = slice(-1, None) if layers == "last" else slice(None, -1)
    for seed, shape in zip(student.seeds(3), SHAPES, strict=True):
        trial = draw_trial(seed, shape, rows=3 + seed % 2)
        got = student.call("attribute_heads", *trial.inputs)
        want = make_table(
            trial, lambda head, t=trial: slope_along(t, t.clean, {}, head, t.change(*head))
        )
        fits = isinstance(got, Tensor) and got.shape == want.shape
        if not fits or not torch.allclose(got[rows].double(), want[rows], **ROUNDING):
            blame = wrong_attributions(trial, want)
            expect(got, want, mistakes=blame, what="the table of estimates", **ROUNDING)


@check("attribute_heads")
def test_heads_of_the_last_layer(student):
    """Heads of the last layer."""
    judge_attribution(student, "last")


@check("attribute_heads", weight=2)
def test_heads_that_others_read(student):
    """Heads that later layers read."""
    judge_attribution(student, "earlier")


# 8.4 ----------------------------------------------------------------------------------------------


def integrate_slowly(
    trial: Trial,
    layer: int,
    points: list[float],
    together: bool = True,
    edit: Callable[[Tensor], Tensor] = lambda change: change,
    from_zero: bool = False,
    tokens: Tensor | None = None,
) -> Tensor:
    """Multiply each head's move by its mean slope at these points, by finite differences."""
    heads = [(layer, n) for n in range(trial.model.config.n_heads)]
    clean = trial.written("clean")
    move = {head: trial.change(*head) for head in heads}
    start = {head: clean[head] * (not from_zero) for head in heads}
    if from_zero:
        move = {head: trial.written("corrupt")[head] for head in heads}
    shares = []
    for head in heads:
        moving = heads if together else [head]
        slopes = [
            slope_along(
                trial,
                trial.clean if tokens is None else tokens,
                {each: start[each] + point * move[each] for each in moving},
                head,
                edit(move[head]),
            )
            for point in points
        ]
        shares.append(sum(slopes) / len(points))
    return torch.tensor(shares, dtype=torch.float64)


def wrong_integrals(trial: Trial, layer: int, steps: int, want: Tensor) -> Blame:
    middles = [(step + 0.5) / steps for step in range(steps)]

    def walk(points: list[float] = middles, **how: Any) -> Callable[[], Tensor]:
        return lambda: integrate_slowly(trial, layer, points, **how)

    return {
        "gradient_at_the_clean_end": walk([0.0]),
        "starts_at_the_beginning_of_each_piece": walk([step / steps for step in range(steps)]),
        "ends_at_the_end_of_each_piece": walk([(step + 1) / steps for step in range(steps)]),
        "one_head_at_a_time": walk(together=False),
        "walks_from_zero": walk(from_zero=True),
        "runs_on_the_corrupt_prompts": walk(tokens=trial.corrupt),
        "last_position_only": walk(edit=keep_last),
    }


def judge_integral(student, steps: int, cases: slice) -> None:
    for seed, shape in list(zip(student.seeds(3), SHAPES, strict=True))[cases]:
        trial = draw_trial(seed, shape)
        layer = seed % (shape["n_layers"] - 1)
        got = student.call("integrate_heads", *trial.inputs, layer, steps)
        want = integrate_slowly(trial, layer, [(step + 0.5) / steps for step in range(steps)])
        blame = wrong_integrals(trial, layer, steps, want)
        expect(got, want, mistakes=blame, what="the list of shares", **ROUNDING)


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
    the same job by the embedding. "modest" adds a tenth of what the values read, "faint" still
    less. By their weights "idle" heads feed the reader best, but they look where nothing is. The
    write where nobody reads.
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
    layers[feeder - 1].append("feeder")
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
            elif role in ("faint", "modest"):
                target = (0.03 if role == "faint" else 0.1) * read_by[1]
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

    A corrupt prompt has another answer.
    """

    def draw(answers: tuple[int, ...]) -> list[list[int]]:
        prompts: list[list[int]] = []
        while len(prompts) < N_PROMPTS:
            block = (1 + torch.randperm(N_TOKENS - 1, generator=generator)[:7]).tolist()
            if not answers or block[4] != answers[len(prompts)]:
                prompts.append([0, *block, *block[:4]])
        return prompts

    clean = draw(())
    corrupt = draw(tuple(prompt[5] for prompt in clean))
    tokens, other = torch.tensor(clean), torch.tensor(corrupt)
    return tokens, other, tokens[:, 5], other[:, 5]


def wrong_edge_lists(case: Planted) -> dict[str, set[str]]:
    """Return what known mistakes make of the true edges."""
    right, feeds = case.right, case.feeds
    where = {role: name for name, role in case.roles.items()}
    feeders = {name for names in feeds.values() for name in names}
    heads = {"first", "previous", "feeder", "modest"}
    whole = tuple(where[role] for role in heads)
    rival = {"q": ("input",), "k": feeds["k"], "v": ("input",)}
    return {
        "names_all_three_inputs": case.spell(dict.fromkeys("qkv", tuple(feeders))),
        "patches_whole_heads": case.spell(dict.fromkeys("qkv", whole)),
        "patches_the_whole_layer": right | case.spell(rival),
        "trusts_the_gradient": case.spell({"v": feeds["v"]}),
        "forgets_the_input": {edge for edge in right if not edge.startswith("input")},
        "swaps_query_and_key": case.spell({"q": feeds["k"], "k": feeds["q"], "v": feeds["v"]}),
        "counts_any_change": right | case.spell({"v": (where["faint"],)}),
    }


@functools.lru_cache(maxsize=1)
def ask_edges(student) -> list[tuple[set[str], Planted]]:
    """Ask what the learner finds in three models, once for all checks."""
    cases = [
        plant(seed, kind)
        for seed, kind in zip(student.seeds(3), ("asks", "tells", "both"), strict=True)
    ]
    pairs = []
    for case in cases:
        got = student.call("find_feeding_edges", *case.inputs)
        is_list = isinstance(got, (list, tuple, frozenset))
        if not is_list or not all(isinstance(edge, str) for edge in got):
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
    answers, cases = zip(*ask_edges(student), strict=True)

    def spell(edges_of_each) -> set[str]:
        numbered = ((i, edge) for i, edges in enumerate(edges_of_each) for edge in edges)
        return {f"{edge} (model {i + 1})" for i, edge in numbered if edge.endswith(f"<{part}>")}

    got, right = spell(answers), spell([case.right for case in cases])
    possible = sorted(spell([case.possible for case in cases]))
    if got != right:
        earned = score_found(got, right, len(possible))
        for name in wrong_edge_lists(cases[0]):
            if list(answers) == [wrong_edge_lists(case)[name] for case in cases]:
                raise Wrong(name, earned=earned)
        places = [
            {edge.replace(f"h{case.head}<", "<") for edge in edges}
            for edges, case in zip(answers, cases, strict=True)
        ]
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
