"""Grade lesson 09.

Every run under a mask is made node by node, in double precision; circuits to be found are planted.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from mini_transformer import forge, toys
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.edges import list_edges
from mini_transformer.model import Transformer

MISTAKES = {
    "node_faithfulness": {
        "keeps_what_it_should_cut": "You have the faithfulness of everything but the circuit: a "
        "mask has 1 where an edge is on.",
        "keeps_every_edge_that_touches_a_node": "You keep edges of which only one end belongs to "
        "the circuit: what a node outside it writes must be off for all readers.",
        "forgets_the_logits": "You always get 0: who reads the answer off, although nobody names "
        "it?",
        "takes_a_part_for_another_node": "You keep edges into MLPs and the logits, but none into "
        "heads: a1.h0<q>, a1.h0<k> and a1.h0<v> all belong to the node a1.h0.",
        "divides_by_the_model": "Your value is the circuit's metric as a share of the model's: on "
        "this scale a model without edges does not stand at 0.",
        "forgets_to_subtract_above": "Below the line you subtract the metric without edges, but "
        "not above it.",
        "forgets_to_subtract_below": "Above the line you subtract the metric without edges, but "
        "not below it.",
        "ignores_the_ablation": "Your answers are those for resampled values, whatever ablation "
        "was asked for.",
        "off_from_the_clean_prompts": "Your edges that are off carry what is written on the clean "
        "prompts: whose values should they carry?",
        "averages_the_ratios": "You divide on every prompt and then average: first average the "
        "metrics of the three runs.",
        "bounds_the_share": "You cut the value off at 0 and 1: a circuit may do worse than "
        "nothing, or better than the model.",
    },
    "prune_by_divergence": {
        "counts_any_change": "An edge whose cut *lowers* the divergence stays off, however much: "
        "only what raises it counts.",
        "judges_each_edge_alone": "You switch each edge off in the whole model; what is judged "
        "later must miss what has been cut before.",
        "compares_with_the_whole_model": "You hold the whole divergence against tau: the edge pays "
        "only for what it adds to the divergence of what is left.",
        "starts_from_the_input": "You go from the input to the logits: the order decides who is "
        "judged in whose company.",
        "returns_what_was_cut": "You return the edges that were cut: the circuit is what is left.",
        "swaps_the_divergence": "Your divergence goes the other way round: the expectation is over "
        "what the whole model says.",
        "averages_over_the_vocabulary": "You average over the vocabulary: the more tokens there "
        "are, the smaller your divergence would be.",
        "looks_at_every_position": "You compare predictions at all positions, but only the last "
        "one is asked for.",
        "cuts_with_zeros": "Your edges carry nothing when they are off: they should carry what is "
        "written on the corrupt prompts.",
        "cuts_nothing": "You keep every edge: does what is cut stay cut?",
    },
    "integrate_masks": {
        "differentiates_the_whole_model": "Your gradient is that of the run with all edges on, "
        "whatever the steps: where on the way is it taken?",
        "steps_at_the_ends": "Your points are the ends of the pieces: with two steps 1/2 and 1.",
        "weighs_by_the_mask": "You multiply each gradient by the mask it was taken at: the whole "
        "way that a switch goes has length 1.",
        "differentiates_the_corrupt_run": "Your gradient is that of the run with all edges off: "
        "there is a way to go from there.",
    },
    "judge_circuit": {
        "takes_the_model_for_perfect": "You take it that the whole model is always right: how many "
        "prompts does it answer rightly here?",
        "knocks_out_of_the_circuit_alone": "You compare the circuit without an edge with the model "
        "that still has it: a complete circuit loses what the model loses.",
        "asks_what_the_rest_can_do": "You ask whether what is left without the circuit fails; but "
        "a stand-in may share edges with the circuit and work only together with them.",
        "one_needed_edge_is_enough": "You call a circuit minimal if one of its edges is needed, "
        "but it may carry idle ones.",
        "cuts_the_whole_model": "You test what is minimal in the whole model, where something else "
        "may stand in for the edge.",
        "averages_over_the_edges": "You average over the edges, so that one gap is lost among many "
        "edges without.",
        "forgets_the_ablation": "Your words are those for resampled values, whatever ablation was "
        "asked for.",
    },
    "find_circuit": {
        "tests_single_edges": "You name the edges that are needed one by one: where two can stand "
        "in for each other, this misses both.",
        "trusts_the_gradient": "You trust a gradient of the whole run: where attention is "
        "saturated there is none.",
        "counts_any_effect": "You name edges whose loss changes the logits, for better or for "
        "worse: what works against the answer does not help to give it.",
        "prunes_by_the_average": "You prune by a mean difference of logits, in which a gain on "
        "some prompts pays for a loss on others.",
        "forgets_the_ablation": "You prune with resampled values, whatever ablation was asked for: "
        "without anything in its place more is needed.",
        "stops_at_the_whole_model": "You name every edge: all of them together do the task, but "
        "most can go.",
        "the_same_for_every_model": "You name the same edges in models whose heads stand in other "
        "places.",
    },
}

Edges = Collection[str]
Blame = dict[str, Callable[[], Any]]
WORDS = ("faithful", "complete", "minimal")


# A run under a mask, from the definition ----------------------------------------------------------


def run_slowly(
    model: Transformer, tokens: Tensor, on: dict, off: dict
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute what every node writes, and the logits, under a mask.

    Edge e carries on[e] parts of its writer and the rest of off[writer].
    """
    w = {name: value.detach().double() for name, value in model.state_dict().items()}
    c = model.config
    t = tokens.shape[1]
    written = {"input": w["W_E"][tokens] + w["W_pos"][:t]}
    future = torch.ones(t, t).triu(1).bool()

    def hear(reader: str, writers: dict[str, Tensor]) -> Tensor:
        return sum(
            off[name] + on[f"{name}->{reader}"] * (value - off[name])
            for name, value in writers.items()
        )

    for layer in range(c.n_layers):
        W = {name: w[f"blocks.{layer}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O")}
        before = dict(written)
        for head in range(c.n_heads):
            q, k, v = (
                hear(f"a{layer}.h{head}<{part}>", before) @ W[f"W_{part.upper()}"][head]
                for part in "qkv"
            )
            scores = (q @ k.transpose(-1, -2) / c.attn_scale).masked_fill(future, float("-inf"))
            written[f"a{layer}.h{head}"] = scores.softmax(dim=-1) @ v @ W["W_O"][head]
        if c.d_mlp:
            pre = hear(f"m{layer}", dict(written)) @ w[f"blocks.{layer}.mlp.W_in"]
            written[f"m{layer}"] = pre.clamp(min=0) @ w[f"blocks.{layer}.mlp.W_out"]
    return written, hear("logits", dict(written)) @ w["W_U"]


class Setting:
    """Hold a model with clean and corrupt prompts, run under one mask at a time."""

    def __init__(
        self, model: Transformer, clean: Tensor, corrupt: Tensor, ablation: str = "resample"
    ) -> None:
        self.model = model
        self.clean = clean
        self.edges = list_edges(model)
        nothing = dict.fromkeys(self.edges, 0.0) | {edge.split("->")[0]: 0.0 for edge in self.edges}
        written, _ = run_slowly(model, corrupt, dict.fromkeys(self.edges, 1.0), nothing)
        self.off = {name: value.mean(dim=0, keepdim=True) for name, value in written.items()}
        if ablation != "mean":
            self.off = written if ablation == "resample" else nothing

    def run(self, on: Edges) -> Tensor:
        return self.weigh({edge: float(edge in on) for edge in self.edges})

    def weigh(self, on: dict) -> Tensor:
        return run_slowly(self.model, self.clean, on, self.off)[1]


def measure_gap(logits: Tensor, answer: Tensor, wrong: Tensor, at: int = -1) -> Tensor:
    """Return the logit of the answer minus the logit of the wrong token, per prompt."""
    row = torch.arange(len(answer))
    return logits[row, at, answer] - logits[row, at, wrong]


# Planted models -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Planted:
    """Hold a disguised model whose minimal circuits are known.

    Its heads and its stream are in other places.
    """

    model: Transformer
    batch: toys.Batch
    ablation: str
    circuits: tuple[frozenset[str], ...]
    names: dict[str, str]  # of heads, in the toy: here

    def rename(self, edges: Edges) -> frozenset[str]:
        return rename(edges, self.names)

    @functools.cached_property
    def setting(self) -> Setting:
        return Setting(self.model, self.batch.clean, self.batch.corrupt, self.ablation)

    @property
    def data(self) -> tuple:
        return self.model, self.batch.clean, self.batch.corrupt, self.batch.answer, self.ablation

    @property
    def data_with_wrong(self) -> tuple:
        return *self.data[:4], self.batch.wrong, self.ablation


def rename(edges: Edges, names: dict[str, str]) -> frozenset[str]:
    for_ends = []
    for edge in edges:
        writer, reader = edge.split("->")
        node, bracket, part = reader.partition("<")
        for_ends.append(f"{names.get(writer, writer)}->{names.get(node, node)}{bracket}{part}")
    return frozenset(for_ends)


@functools.cache
def plant(name: str, seed: int, turn: int = 0) -> Planted:
    """Plant a toy in disguise.

    The circuits are the toy's, which enumeration has shown to be all.
    """
    case = toys.load(name)
    ablation = "resample" if name == "induction_by_hand" else "zero"
    if name == "induction_by_hand":
        batch = case.task.draw(24, seed=seed % 2**20, corrupt="fresh")
        set_suppressor(case)
    else:
        batch = case.task.everything().distinct()
    # The backup toy has decoys of its own.
    model, names = disguise(case.model, seed, turn, decoys=int(name != "backup_head"))
    circuits = tuple(rename(c, names) for c in case.truth.circuits[ablation].edges)
    return Planted(model, batch, ablation, circuits, names)


@torch.no_grad()
def set_suppressor(case: toys.Case) -> None:
    """Let the unread head do the opposite of what the matching head does, and less of it."""
    layer, match, other = 1, *(int(case.truth.roles[role][-1]) for role in ("match", "unread"))
    attn = case.model.blocks[layer].attn
    for W in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O):
        W[other] = W[match]
    attn.W_O[other] *= -0.4


@torch.no_grad()
def disguise(
    model: Transformer, seed: int, turn: int, decoys: int
) -> tuple[Transformer, dict[str, str]]:
    """Shuffle heads, add decoys to each layer, turn the stream; say where each head went.

    The function stays the same. With another turn every head has another place. A decoy attends as
    another head does, and writes where nobody reads.
    """
    c = model.config
    generator = torch.Generator().manual_seed(seed)
    spare = 8
    Q = torch.linalg.qr(torch.randn(c.d_model + spare, c.d_model + spare, generator=generator)).Q
    stream = Q[: c.d_model]
    unread = Q[c.d_model :]
    new = Transformer(dataclasses.replace(c, d_model=len(Q), n_heads=c.n_heads + decoys))
    for name in ("W_E", "W_pos"):
        getattr(new, name).copy_(getattr(model, name) @ stream)
    new.W_U.copy_(stream.T @ model.W_U)
    names = {}
    for layer, (old, block) in enumerate(zip(model.blocks, new.blocks, strict=True)):
        places = (
            torch.randperm(new.config.n_heads, generator=generator) + turn
        ) % new.config.n_heads
        for head, place in enumerate(places.tolist()):
            twin = min(head, c.n_heads - 1)
            for which in ("W_Q", "W_K", "W_V"):
                getattr(block.attn, which)[place] = stream.T @ getattr(old.attn, which)[twin]
            block.attn.W_O[place] = old.attn.W_O[twin] @ stream
            if head >= c.n_heads:
                block.attn.W_O[place] = torch.randn(c.d_head, spare, generator=generator) @ unread
            names[f"a{layer}.h{head}"] = f"a{layer}.h{place}"
        if old.mlp is not None:
            order = torch.randperm(c.d_mlp, generator=generator)
            block.mlp.W_in.copy_(stream.T @ old.mlp.W_in[:, order])
            block.mlp.W_out.copy_(old.mlp.W_out[order] @ stream)
    return new, names


# 9.1 ----------------------------------------------------------------------------------------------


@functools.cache
def draw_random(
    seed: int, layers: int, heads: int, mlp: int
) -> tuple[NamedModel, Tensor, Tensor, Tensor, Tensor]:
    """Draw a random model, clean and corrupt prompts, and a token that each favours."""
    sizes = {"d_vocab": 11, "n_ctx": 7, "d_model": 12, "d_head": 5, "attn_scale": 0.5}
    named = NamedModel("random", seed=seed, n_layers=layers, n_heads=heads, d_mlp=mlp, **sizes)
    clean, corrupt = torch.randint(11, (2, 6, 5), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model = named.build()
        answer, wrong = (model(tokens)[:, -1].argmax(dim=-1) for tokens in (clean, corrupt))
    return named, clean, corrupt, answer, torch.where(wrong == answer, (answer + 1) % 11, wrong)


def keep_inside(edges: list[str], nodes: set[str], how: Callable = all) -> list[str]:
    return [edge for edge in edges if how(end.split("<")[0] in nodes for end in edge.split("->"))]


def judge_faithfulness(
    student,
    nodes_of: Callable[[list[str], torch.Generator], list[str]],
    ablations: tuple,
    below: float = torch.inf,
) -> None:
    """Judge three models. The last is drawn until its faithfulness is less than `below`."""
    for seed, ablation, size in zip(
        student.seeds(3), ablations, ((2, 3, 4), (3, 2, 0), (1, 4, 6)), strict=True
    ):
        for attempt in range(100):
            named, clean, corrupt, answer, wrong = draw_random(seed + attempt, *size)
            setting = Setting(named.build(), clean, corrupt, ablation)
            writers = list(dict.fromkeys(edge.split("->")[0] for edge in setting.edges))
            nodes = nodes_of(writers, torch.Generator().manual_seed(seed))
            inside = keep_inside(setting.edges, {*nodes, "logits"})
            want = measure_share(setting, inside, answer, wrong)
            if size[0] > 1 or want < below:
                break
        got = student.call(
            "node_faithfulness", named, clean, corrupt, answer, wrong, nodes, ablation
        )
        blame = blame_faithfulness(setting, {*nodes}, corrupt, answer, wrong, ablation)
        expect(got, want, mistakes=blame, rtol=2e-3, atol=2e-3, what="the faithfulness")


def measure_share(setting: Setting, edges: Edges, answer: Tensor, wrong: Tensor) -> float:
    parts = (edges, (), setting.edges)
    c, n, w = (float(measure_gap(setting.run(part), answer, wrong).mean()) for part in parts)
    # Nothing is off if off means clean: only in wrong answers.
    return (c - n) / (w - n) if w != n else float("nan")


def blame_faithfulness(
    setting: Setting, nodes: set[str], corrupt: Tensor, answer: Tensor, wrong: Tensor, ablation: str
) -> Blame:
    def share(edges: Edges, other: Setting = setting) -> float:
        return measure_share(other, edges, answer, wrong)

    inside = keep_inside(setting.edges, {*nodes, "logits"})
    parts = [
        measure_gap(setting.run(edges), answer, wrong) for edges in (inside, (), setting.edges)
    ]
    circuit, nothing, whole = parts
    whole_names = [edge for edge in inside if "<" not in edge]
    c, n, w = (float(part.mean()) for part in parts)
    model, clean = setting.model, setting.clean
    return {
        "forgets_the_logits": lambda: share(keep_inside(setting.edges, nodes)),
        "bounds_the_share": lambda: min(1.0, max(0.0, (c - n) / (w - n))),
        "takes_a_part_for_another_node": lambda: share(whole_names),
        "keeps_what_it_should_cut": lambda: share(
            [edge for edge in setting.edges if edge not in inside]
        ),
        "keeps_every_edge_that_touches_a_node": lambda: share(
            keep_inside(setting.edges, {*nodes, "logits"}, any)
        ),
        "divides_by_the_model": lambda: c / w,
        "forgets_to_subtract_above": lambda: c / (w - n),
        "forgets_to_subtract_below": lambda: (c - n) / w,
        "ignores_the_ablation": lambda: share(inside, Setting(model, clean, corrupt)),
        "off_from_the_clean_prompts": lambda: share(inside, Setting(model, clean, clean, ablation)),
        "averages_the_ratios": lambda: float(((circuit - nothing) / (whole - nothing)).mean()),
    }


@check("node_faithfulness", weight=2)
def test_a_part_of_the_nodes_is_measured_with_every_ablation(student):
    """Some nodes of random models, with every ablation."""

    def draw_nodes(writers: list[str], generator: torch.Generator) -> list[str]:
        order = torch.randperm(len(writers) - 1, generator=generator)[: (len(writers) + 1) // 2]
        return [*(writers[1 + i] for i in order.tolist()), "input", "logits"]

    judge_faithfulness(student, draw_nodes, ("mean", "zero", "resample"), below=-0.05)
    # The logits always belong to a circuit; the input does only if it is named.
    judge_faithfulness(student, lambda *args: draw_nodes(*args)[:-1], ("resample", "mean", "zero"))
    judge_faithfulness(student, lambda *args: draw_nodes(*args)[:-2], ("mean", "zero", "resample"))


@check("node_faithfulness", weight=0.5)
def test_no_nodes_give_0_and_all_nodes_give_1(student):
    """Without nodes it is 0, with all of them 1."""
    # not "resample": whoever takes what is off from the clean prompts would divide rounding errors,
    # and any sentence could come
    judge_faithfulness(student, lambda writers, generator: [], ("mean", "zero", "mean"))
    judge_faithfulness(student, lambda writers, generator: writers, ("zero", "mean", "zero"))


# 9.2 ----------------------------------------------------------------------------------------------


class Divergence:
    """Measure the divergence of masked runs from the whole model.

    One mistake is made if it is named.
    """

    def __init__(self, setting: Setting, mistake: str = "") -> None:
        self.setting = setting
        self.mistake = mistake
        self.whole = setting.run(setting.edges).log_softmax(dim=-1)
        self.lowest = 0.0  # log-probability so far

    def measure(self, edges: Edges) -> float:
        p, q = self.whole, self.setting.run(edges).log_softmax(dim=-1)
        self.lowest = min(self.lowest, float(q[:, -1].min()))
        if self.mistake == "swaps_the_divergence":
            p, q = q, p
        per_position = (p.exp() * (p - q)).sum(dim=-1)
        if self.mistake == "averages_over_the_vocabulary":
            per_position = per_position / p.shape[-1]
        everywhere = self.mistake == "looks_at_every_position"
        return float((per_position if everywhere else per_position[:, -1]).mean())

    def prune(self, tau: float) -> tuple[list[str], float]:
        """Return the edges that are left, and how close to tau any decision was."""
        mistake = self.mistake
        kept = list(self.setting.edges)
        value = 0.0
        closest = float("inf")
        for edge in (
            self.setting.edges if mistake == "starts_from_the_input" else self.setting.edges[::-1]
        ):
            alone = mistake == "judges_each_edge_alone"
            tried = [other for other in (self.setting.edges if alone else kept) if other != edge]
            raised = self.measure(tried)
            cost = raised - (0.0 if alone or mistake == "compares_with_the_whole_model" else value)
            cost = abs(cost) if mistake == "counts_any_change" else cost
            closest = min(closest, abs(cost - tau))
            if cost < tau:
                kept.remove(edge)
                value = raised
        return kept, closest


@functools.cache
@torch.no_grad()
def draw_pruning(
    seed: int, layers: int, heads: int, mlp: int
) -> tuple[Transformer, Tensor, Tensor, float, list[str]]:
    """Draw a sharp random model, prompts, the circuit, and a threshold that no edge comes close to.

    With one head a layer, drawn until these mistakes give another circuit: they often give the
    same.
    """
    confusing = ("counts_any_change", "swaps_the_divergence", "judges_each_edge_alone")
    for attempt in itertools.count():
        named, clean, corrupt, *_ = draw_random(seed + attempt, layers, heads, mlp)
        model = named.build()
        model.W_U.mul_(3)
        for block in model.blocks:
            block.attn.W_O.mul_(3)
        setting = Setting(model, clean, corrupt)
        exact = Divergence(setting)
        tau = 0.2
        kept, closest = exact.prune(tau)
        # No probability is 0 in single precision.
        if closest < 0.02 * tau or exact.lowest < -80:
            continue
        told = heads > 1 or all(
            Divergence(setting, name).prune(tau)[0] != kept for name in confusing
        )
        if told:
            return model, clean, corrupt, tau, kept
    raise AssertionError


def blame_pruning(
    model: Transformer, clean: Tensor, corrupt: Tensor, tau: float, kept: list[str]
) -> Blame:
    setting = Setting(model, clean, corrupt)

    def prune(mistake: str) -> list[str]:
        return Divergence(setting, mistake).prune(tau)[0]

    special = {
        "returns_what_was_cut": lambda: [edge for edge in setting.edges if edge not in kept],
        "cuts_with_zeros": lambda: Divergence(Setting(model, clean, corrupt, "zero")).prune(tau)[0],
        "cuts_nothing": lambda: setting.edges,
    }
    names = MISTAKES["prune_by_divergence"]
    return {name: special.get(name, lambda name=name: prune(name)) for name in names}


@check("prune_by_divergence", weight=2)
def test_random_models_are_pruned_as_told(student):
    """In random models, the edges that are left."""
    for seed, size in zip(student.seeds(3), ((2, 1, 3), (1, 3, 4), (2, 2, 0)), strict=True):
        *inputs, kept = draw_pruning(seed, *size)
        got = student.call("prune_by_divergence", *inputs)
        blame = blame_pruning(*inputs, kept)
        judge_found(got, [frozenset(kept)], list_edges(inputs[0]), blame, shared=False)


@check("prune_by_divergence")
def test_a_planted_circuit_is_found(student):
    """In a planted model, its circuit."""
    planted = plant("induction_by_hand", student.seeds(1)[0])
    model, clean, corrupt, *_ = planted.data
    got = student.call("prune_by_divergence", model, clean, corrupt, 0.1)
    judge_found(got, planted.circuits, planted.setting.edges, {})


def judge_found(
    got: Any, right: Collection[Edges], possible: list[str], blame: Blame, shared: bool = True
) -> None:
    """Judge as expect_found does, but compute mistakes only if needed.

    Unless `shared`, a half-right answer earns nothing.
    """
    try:
        expect_found(got, right, possible, what="edges")
    except Wrong as wrong:
        wrong.earned *= shared
        named = as_list(got)
        known = named is not None and all(name in possible for name in named)
        fitting = [name for name in blame if known and set(named) == set(blame[name]())]
        if len(fitting) == 1:
            raise Wrong(fitting[0], earned=wrong.earned) from None
        raise


# 9.3 ----------------------------------------------------------------------------------------------


def find_slopes(setting: Setting, answer: Tensor, wrong: Tensor, point: float) -> Tensor:
    """Return the gradient of the mean metric in the switches, all of them at `point`."""
    mask = torch.full((len(setting.edges),), point, dtype=torch.float64, requires_grad=True)
    on = dict(zip(setting.edges, mask.unbind(), strict=True))
    return torch.autograd.grad(measure_gap(setting.weigh(on), answer, wrong).mean(), mask)[0]


@check("integrate_masks")
def test_with_many_steps_the_scores_add_up_to_the_whole_difference(student):
    """With many steps the scores add up to what all edges make together."""
    named, clean, corrupt, answer, wrong = draw_random(student.seeds(1)[0], 2, 2, 3)
    setting = Setting(named.build(), clean, corrupt)
    got = student.call("integrate_masks", named, clean, corrupt, answer, wrong, 40)
    whole, nothing = (
        measure_gap(setting.run(edges), answer, wrong).mean() for edges in (setting.edges, ())
    )
    judge_slopes(got, setting, answer, wrong, 40)
    off_by = torch.as_tensor(got).sum().double() - (whole - nothing)
    assert off_by.abs() < 0.03 * (whole - nothing).abs() + 0.02


@check("integrate_masks", weight=2)
def test_every_edge_has_its_own_score(student):
    """With one, two and five steps every edge has its own score."""
    for seed, steps, size in zip(
        student.seeds(3), (2, 5, 1), ((2, 3, 4), (3, 2, 0), (1, 4, 6)), strict=True
    ):
        named, clean, corrupt, answer, wrong = draw_random(seed, *size)
        got = student.call("integrate_masks", named, clean, corrupt, answer, wrong, steps)
        judge_slopes(got, Setting(named.build(), clean, corrupt), answer, wrong, steps)


def judge_slopes(got: Any, setting: Setting, answer: Tensor, wrong: Tensor, steps: int) -> None:
    @functools.cache
    def slopes(point: float) -> Tensor:
        return find_slopes(setting, answer, wrong, point)

    middles, ends = ([(step + part) / steps for step in range(steps)] for part in (0.5, 1.0))
    want = sum(map(slopes, middles)) / steps
    blame = {
        "differentiates_the_whole_model": lambda: slopes(1.0),
        "differentiates_the_corrupt_run": lambda: slopes(0.0),
        "steps_at_the_ends": lambda: sum(map(slopes, ends)) / steps,
        "weighs_by_the_mask": lambda: sum(point * slopes(point) for point in middles) / steps,
    }
    expect(got, want, mistakes=blame, rtol=2e-3, atol=2e-3, what="the tensor of scores")


# 9.4 ----------------------------------------------------------------------------------------------


class Judge:
    """Compute F of any set of edges, and the words that a circuit deserves.

    One mistake is made if it is named.
    """

    def __init__(self, setting: Setting, answer: Tensor) -> None:
        self.setting = setting
        self.answer = answer
        self.known = dict[frozenset[str], float]()

    def share(self, edges: Edges) -> float:
        key = frozenset(edges)
        if key not in self.known:
            last = self.setting.run(key)[:, -1]
            row = torch.arange(len(last))
            others = last.clone()
            others[row, self.answer] = float("-inf")
            self.known[key] = float(
                (last[row, self.answer] > others.amax(dim=-1) + 0.01).double().mean()
            )
        return self.known[key]

    def words(self, circuit: Edges, mistake: str = "") -> list[str]:
        C = frozenset(circuit)
        M = frozenset(self.setting.edges)
        F = self.share
        gaps = [abs(F(C - {e}) - F(M - {e})) for e in C]
        losses = [F(C) - F(C - {e}) for e in C]
        complete = max(gaps) < 0.2
        minimal = min(losses) > 0.2
        if mistake == "knocks_out_of_the_circuit_alone":
            complete = all(abs(F(C - {e}) - F(M)) < 0.2 for e in C)
        if mistake == "asks_what_the_rest_can_do":
            complete = F(M - C) < 0.2
        if mistake == "one_needed_edge_is_enough":
            minimal = max(losses) > 0.2
        if mistake == "cuts_the_whole_model":
            minimal = all(F(M) - F(M - {e}) > 0.2 for e in C)
        if mistake == "averages_over_the_edges":
            complete = abs(sum(F(C - {e}) - F(M - {e}) for e in C)) / len(C) < 0.2
            minimal = sum(losses) / len(C) > 0.2
        whole = 1.0 if mistake == "takes_the_model_for_perfect" else F(M)
        holds = (abs(F(C) - whole) < 0.2, complete, minimal)
        return [word for word, true in zip(WORDS, holds, strict=True) if true]


def list_circuits(name: str, planted: Planted) -> list[frozenset[str]]:
    """List circuits to judge.

    There is a right one; one with an idle edge, or all that are right in one; one with a needed
    edge missing.
    """
    right = planted.circuits[0]
    if name == "induction_by_hand":
        idle = f"{planted.names['a0.h1']}->logits"
        return [right, right | {idle}]
    return [right, frozenset().union(*planted.circuits), right - {max(right)}]


@functools.lru_cache(maxsize=1)
def ask_words(student) -> list[tuple[list[str], Judge, frozenset[str], Planted]]:
    """Ask what the learner says of every planted circuit, and who knows better."""
    asked = []
    for name, seed in zip(
        ("induction_by_hand", "backup_head", "boolean_redundant_or"), student.seeds(3), strict=True
    ):
        planted = plant(name, seed)
        if name == "induction_by_hand":  # a quarter of the answers are not the model's
            batch = planted.batch
            astray = torch.where(
                torch.arange(len(batch.answer)) % 4 == 1, batch.wrong, batch.answer
            )
            batch = dataclasses.replace(batch, answer=astray)
            planted = dataclasses.replace(planted, batch=batch)
        judge = Judge(planted.setting, planted.batch.answer)
        for circuit in list_circuits(name, planted):
            got = as_list(student.call("judge_circuit", *planted.data, sorted(circuit)))
            if got is None or not all(word in WORDS for word in got):
                raise Wrong(sentence=f"Return a list of some of the words {', '.join(WORDS)}.")
            asked.append((got, judge, circuit, planted))
    return asked


def judge_word(student, word: str) -> None:
    asked = ask_words(student)
    right = [judge.words(circuit) for _, judge, circuit, _ in asked]
    wrong = [i for i, (got, *_) in enumerate(asked) if (word in got) != (word in right[i])]
    if not wrong:
        return
    fitting = [
        name
        for name in MISTAKES["judge_circuit"]
        if all(set(got) == set(blame_words(*rest, name)) for got, *rest in asked)
    ]
    if len(fitting) == 1:
        raise Wrong(fitting[0])
    got, _, circuit, _ = asked[wrong[0]]
    says = "is" if word in got else "is not"
    raise Wrong(
        sentence=f"You say that a circuit of {len(circuit)} edges {says} {word}; "
        f"{len(wrong)} of {len(asked)} are wrong."
    )


def blame_words(judge: Judge, circuit: frozenset[str], planted: Planted, mistake: str) -> list[str]:
    if mistake == "forgets_the_ablation":
        model, clean, corrupt, answer, _ = planted.data
        return Judge(Setting(model, clean, corrupt), answer).words(circuit)
    return judge.words(circuit, mistake)


@check("judge_circuit")
def test_faithful_circuits_are_told_from_others(student):
    """Of circuits of planted models, which are faithful."""
    judge_word(student, "faithful")


@check("judge_circuit", weight=2)
def test_complete_circuits_are_told_from_others(student):
    """Of circuits of planted models, which are complete."""
    judge_word(student, "complete")


@check("judge_circuit", weight=1.5)
def test_minimal_circuits_are_told_from_others(student):
    """Of circuits of planted models, which are minimal."""
    judge_word(student, "minimal")


# 9.5 ----------------------------------------------------------------------------------------------


def blame_circuit(planted: Planted) -> Blame:
    """List the edges that plausible wrong ways would name, by slow runs."""
    model, clean, corrupt, answer, _ = planted.data
    setting = planted.setting
    wrong = planted.batch.wrong
    edges = setting.edges
    judge = Judge(setting, answer)

    def gap(on: Edges, setting: Setting = setting) -> float:
        return float(measure_gap(setting.run(on), answer, wrong).mean())

    def without(edge: str) -> list[str]:
        return [other for other in edges if other != edge]

    def prune(fails: Callable[[list[str], list[str]], bool]) -> list[str]:
        kept = list(edges)
        for edge in reversed(edges):
            tried = [other for other in kept if other != edge]
            kept = kept if fails(tried, kept) else tried
        return kept

    def select(scores: Tensor) -> list[str]:
        return [
            edge for edge, score in zip(edges, scores.tolist(), strict=True) if score > 0.05 * limit
        ]

    limit = gap(edges) - gap(())
    other = Judge(Setting(model, clean, corrupt), answer)
    return {
        "stops_at_the_whole_model": lambda: edges,
        "tests_single_edges": lambda: [edge for edge in edges if judge.share(without(edge)) < 1],
        "trusts_the_gradient": lambda: select(find_slopes(setting, answer, wrong, 1.0)),
        "counts_any_effect": lambda: [
            edge for edge in edges if abs(gap(edges) - gap(without(edge))) > 0.05 * limit
        ],
        "prunes_by_the_average": lambda: prune(
            lambda tried, kept: gap(kept) - gap(tried) >= 0.05 * limit
        ),
        "forgets_the_ablation": lambda: prune(lambda tried, kept: other.share(tried) < 1),
    }


@functools.lru_cache(maxsize=3)
def ask_circuits(student, name: str, models: int) -> list[tuple[list, list, Planted]]:
    """Ask what the learner finds in models with shuffled heads, and says of it."""
    seed = student.seeds(1)[0]
    answers = []
    for turn in range(models):
        planted = plant(name, seed, turn)
        got = student.call("find_circuit", *planted.data_with_wrong)
        if (
            not isinstance(got, (list, tuple))
            or len(got) != 2
            or not all(isinstance(p, (list, tuple, frozenset)) for p in got)
        ):
            raise Wrong(
                sentence="Return two lists: the edges of the circuit, "
                "and the words of judge_circuit for it."
            )
        answers.append((*map(list, got), planted))
    return answers


def judge_circuits(student, name: str, models: int) -> None:
    answers = ask_circuits(student, name, models)
    named = [sorted(map(str, edges)) for edges, *_ in answers]
    same = models > 1 and named[0] == named[1] and len(named[0]) < len(answers[0][2].setting.edges)
    for edges, _, planted in answers:
        blame = (
            {"the_same_for_every_model": lambda edges=edges: edges}
            if same
            else blame_circuit(planted)
        )
        judge_found(edges, planted.circuits, planted.setting.edges, blame)


@check("find_circuit")
def test_a_circuit_with_an_opponent_is_found(student):
    """In two models: attention alone, one head works against the answer."""
    judge_circuits(student, "induction_by_hand", 2)


@check("find_circuit", weight=2)
def test_one_of_several_circuits_is_found(student):
    """In two models: MLPs, of which either is enough; nothing in the place of what is off."""
    judge_circuits(student, "boolean_redundant_or", 2)


@functools.cache
def draw_forged(seed: int) -> forge.ForgedCase:
    """Forge a model that no truth shipped with this package fits, of the size the task says."""
    knobs = {"tasks": 0, "decoys": 0, "redundancy": "none", "positions": "fixed"}
    for attempt in range(100):  # about every other one fits
        case = forge.make(seed % 2**20 + attempt, 2, **knobs)
        c = case.model.config
        if c.n_layers <= 4 and c.n_heads in (2, 3) and len(list_edges(case.model)) <= 180:
            return case
    raise AssertionError(f"no model of 100 has the size that the task says, from seed {seed} on")


@check("find_circuit", weight=2)
def test_the_circuit_of_a_forged_model_is_found(student):
    """In a model made for you alone: a small program, among heads that do something else."""
    seed = student.seeds(1)[0]
    case = draw_forged(seed)
    batch = case.task.draw(24, seed=seed % 2**20)
    inputs = batch.clean, batch.corrupt, batch.answer, batch.wrong, "resample"
    got = as_list(student.call("find_circuit", case.model, *inputs))
    if got is None or len(got) != 2:
        raise Wrong(sentence="Return two lists: the edges of the circuit, and the words for it.")
    expect_found(
        got[0], case.truth.circuits["resample"].edges, list_edges(case.model), what="edges"
    )


@check("find_circuit")
def test_what_was_found_is_called_what_it_is(student):
    """The words for what was found."""
    for name in ("induction_by_hand", "boolean_redundant_or"):
        for edges, words, planted in ask_circuits(student, name, 2):
            truth = Judge(planted.setting, planted.batch.answer)
            right = [circuit for circuit in planted.circuits if circuit == set(map(str, edges))]
            if not right:
                raise Wrong(sentence="The words count only for a right circuit.")
            if set(map(str, words)) != set(truth.words(right[0])):
                raise Wrong(
                    sentence="A circuit is the right one, but not the words for it: what does "
                    "judge_circuit say?"
                )
