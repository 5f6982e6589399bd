"""Grade lesson 09.

Every run under a mask is made node by node, in double precision; circuits to be found are planted.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from mini_transformer import forge, toys
from mini_transformer.course.grading.checks import Wrong, as_list, check, expect, expect_found
from mini_transformer.course.grading.mutants import load_mutants
from mini_transformer.course.grading.student import NamedModel
from mini_transformer.edges import list_edges
from mini_transformer.forge.widening import widen
from mini_transformer.model import Transformer

MUTANTS = load_mutants(__file__)

Edges = Collection[str]
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
    """Hold a disguised model whose minimal circuits are known, and an edge that does nothing."""

    model: Transformer
    batch: toys.Batch
    ablation: str
    circuits: tuple[frozenset[str], ...]
    idle: str

    @functools.cached_property
    def setting(self) -> Setting:
        return Setting(self.model, self.batch.clean, self.batch.corrupt, self.ablation)

    @property
    def data(self) -> tuple:
        return self.model, self.batch.clean, self.batch.corrupt, self.batch.answer, self.ablation

    @property
    def data_with_wrong(self) -> tuple:
        return *self.data[:4], self.batch.wrong, self.ablation


@functools.cache
@torch.no_grad()
def plant(name: str, seed: int, hurts: float = 0.4) -> Planted:
    """Plant a toy in disguise, with heads that nobody reads beside its own.

    The circuits are the toy's, which enumeration has shown to be all. Of the boolean toy one prompt
    is rare: without it, less would be needed.
    """
    case = toys.load(name)
    generator = torch.Generator().manual_seed(seed)
    ablation = "resample" if name == "induction_by_hand" else "zero"
    if name == "induction_by_hand":
        batch = case.task.draw(16, seed=seed % 2**20, corrupt="fresh")
        if hurts:
            set_suppressor(case, hurts)
    else:
        batch = case.task.everything().distinct()
    if name == "boolean_redundant_or":
        rare = (batch.clean[:, 0] == 0) & (batch.clean[:, 1] == 1)
        batch = batch.take(torch.cat([(~rare).nonzero()[:, 0].repeat(10), rare.nonzero()[:, 0]]))
    c = case.model.config
    # The backup toy has decoys of its own.
    more = {"n_heads": c.n_heads + 1, "d_model": c.d_model + 4} if name != "backup_head" else {}
    hidden = forge.disguise(widen(case.model, generator, **more)[0], generator)
    circuits = case.truth.circuits[ablation].edges
    renamed = tuple(frozenset(map(hidden.rename, circuit)) for circuit in circuits)
    idle = hidden.rename("a0.h1->logits")
    return Planted(hidden.model, batch, ablation, renamed, idle)


@torch.no_grad()
def set_suppressor(case: toys.Case, hurts: float) -> None:
    """Let the unread head do the opposite of what the matching head does, `hurts` times.

    The model gets less sure, so that what it says changes without that head.
    """
    case.model.W_U *= 0.15
    layer, match, other = 1, *(int(case.truth.roles[role][-1]) for role in ("match", "unread"))
    attn = case.model.blocks[layer].attn
    for W in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O):
        W[other] = W[match]
    attn.W_O[other] *= -hurts


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


def keep_inside(edges: list[str], nodes: set[str]) -> list[str]:
    return [edge for edge in edges if all(end.split("<")[0] in nodes for end in edge.split("->"))]


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
            nodes = nodes_of(writers, torch.Generator().manual_seed(seed + attempt))
            inside = keep_inside(setting.edges, {*nodes, "logits"})
            want = measure_share(setting, inside, answer, wrong)
            if size[0] > 1 or want < below:
                break
        got = student.call(
            "node_faithfulness", named, clean, corrupt, answer, wrong, nodes, ablation
        )
        expect(got, want, rtol=2e-3, atol=2e-3, what="the faithfulness")


def measure_share(setting: Setting, edges: Edges, answer: Tensor, wrong: Tensor) -> float:
    parts = (edges, (), setting.edges)
    c, n, w = (float(measure_gap(setting.run(part), answer, wrong).mean()) for part in parts)
    return (c - n) / (w - n)


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


class Pruning:
    """Prune by the divergence, and hold the circuit; `closest` is how close to tau it came."""

    def __init__(self, setting: Setting, tau: float) -> None:
        self.setting = setting
        self.whole = setting.run(setting.edges)[:, -1].log_softmax(dim=-1)
        self.closest = float("inf")
        self.lowest = 0.0  # log-probability so far
        self.kept = list(setting.edges)
        value = 0.0
        for edge in setting.edges[::-1]:
            raised = self.measure([other for other in self.kept if other != edge])
            self.closest = min(self.closest, abs(raised - value - tau))
            if raised - value < tau:
                self.kept.remove(edge)
                value = raised

    def measure(self, edges: Edges) -> float:
        log_q = self.setting.run(edges)[:, -1].log_softmax(dim=-1)
        self.lowest = min(self.lowest, float(log_q.min()))
        return float((self.whole.exp() * (self.whole - log_q)).sum(dim=-1).mean())


TAU = 0.2


@functools.cache
@torch.no_grad()
def draw_prunings(seed: int) -> list[tuple[tuple, list[str]]]:
    """Draw sharp random models and prompts on which each mutant is caught once, and circuits.

    No edge comes close to the threshold.
    """
    found = []
    unknown = [each for each in MUTANTS if each.exercise == "prune_by_divergence"]
    sizes = itertools.cycle(((2, 1, 3), (2, 2, 0), (1, 3, 4)))
    for attempt, size in zip(range(60), sizes, strict=False):
        named, clean, corrupt, *_ = draw_random(seed + attempt, *size)
        model = named.build()
        model.W_U.mul_(3)
        for block in model.blocks:
            block.attn.W_O.mul_(3)
        exact = Pruning(Setting(model, clean, corrupt), TAU)
        # No probability is 0 in single precision.
        if exact.closest < 0.02 * TAU or exact.lowest < -80:
            continue
        inputs = model, clean, corrupt, TAU
        tricked = [each for each in unknown if set(each.answer(*inputs)) == set(exact.kept)]
        if len(tricked) < len(unknown) or len(found) < 2:
            found.append((inputs, exact.kept))
        unknown = tricked
        if not unknown and len(found) > 1:
            return found
    raise AssertionError(f"no models from seed {seed} on catch {[each.name for each in unknown]}")


@check("prune_by_divergence", weight=2)
def test_random_models_are_pruned_as_told(student):
    """In random models, the edges that are left."""
    for inputs, kept in draw_prunings(student.seeds(1)[0]):
        got = student.call("prune_by_divergence", *inputs)
        try:
            expect_found(got, [kept], list_edges(inputs[0]), what="edges")
        except Wrong as wrong:
            wrong.earned = 0.0
            raise


@check("prune_by_divergence")
def test_a_planted_circuit_is_found(student):
    """In a planted model, its circuit."""
    planted = plant("induction_by_hand", student.seeds(1)[0], hurts=0.0)
    model, clean, corrupt, *_ = planted.data
    got = student.call("prune_by_divergence", model, clean, corrupt, 0.1)
    expect_found(got, planted.circuits, planted.setting.edges, what="edges")


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
    slopes = [find_slopes(setting, answer, wrong, (step + 0.5) / steps) for step in range(steps)]
    want = sum(slopes) / steps
    expect(got, want, rtol=2e-3, atol=2e-3, what="the tensor of scores")


# 9.4 ----------------------------------------------------------------------------------------------


class Judge:
    """Compute F of any set of edges, and the words that a circuit deserves."""

    def __init__(self, setting: Setting, answer: Tensor) -> None:
        self.setting = setting
        self.answer = answer
        self.known = dict[frozenset[str], float]()

    def find_right(self, edges: Edges) -> Tensor:
        last = self.setting.run(edges)[:, -1]
        row = torch.arange(len(last))
        others = last.clone()
        others[row, self.answer] = float("-inf")
        return last[row, self.answer] > others.amax(dim=-1) + 0.01

    def share(self, edges: Edges) -> float:
        key = frozenset(edges)
        if key not in self.known:
            self.known[key] = float(self.find_right(key).double().mean())
        return self.known[key]

    def measure(self, circuit: Edges) -> dict[str, list[float]]:
        """Measure what each word is about: all gaps or losses that are held against .2."""
        C = frozenset(circuit)
        M = frozenset(self.setting.edges)
        F = self.share
        return {
            "faithful": [abs(F(C) - F(M))],
            "complete": [abs(F(C - cut) - F(M - cut)) for cut in [set(), *({e} for e in C)]],
            "minimal": [F(C) - F(C - {e}) for e in C],
        }

    def words(self, circuit: Edges) -> list[str]:
        found = self.measure(circuit)
        is_low = {word for word in ("faithful", "complete") if max(found[word]) < 0.2}
        return [*is_low, *["minimal"] * (min(found["minimal"]) > 0.2)]


def list_verdicts(seed: int) -> Iterator[tuple[tuple, list[str]]]:
    """List circuits of planted models, with the words they deserve.

    There are right ones, such with an idle edge, such with a needed edge missing, an idle edge
    alone, and all right ones of a model in one. A quarter of some answers are not the model's.
    Where the opponent is stronger than the head that it works against, the circuit is right and the
    model is not.
    """
    for name in ("backup_head", "boolean_redundant_or", "induction_by_hand"):
        planted = plant(name, seed)
        right = planted.circuits[0]
        circuits = [right, frozenset().union(*planted.circuits), right - {max(right)}]
        if name == "induction_by_hand":
            circuits[1:2] = [right | {planted.idle}, frozenset({planted.idle})]
            astray = torch.arange(len(planted.batch.answer)) % 4 == 1
            answer = torch.where(astray, planted.batch.wrong, planted.batch.answer)
            batch = dataclasses.replace(planted.batch, answer=answer)
            planted = dataclasses.replace(planted, batch=batch)
        judge = Judge(planted.setting, planted.batch.answer)
        for circuit in circuits:
            yield (*planted.data, sorted(circuit)), judge.words(circuit)
    planted = plant("induction_by_hand", seed, hurts=1.3)
    right = planted.circuits[0]
    judge = Judge(planted.setting, planted.batch.answer)
    lucky = torch.stack([judge.find_right(right - {edge}) for edge in right]).any(dim=0)
    planted = dataclasses.replace(planted, batch=planted.batch.take((~lucky).nonzero()[:, 0]))
    judge = Judge(planted.setting, planted.batch.answer)
    yield (*planted.data, sorted(right)), judge.words(right)


@functools.lru_cache(maxsize=1)
def ask_words(student) -> list[tuple[list[str], list[str], int]]:
    """Ask what the learner says of every circuit; return that, what is right, and the size."""
    asked = []
    for inputs, right in list_verdicts(student.seeds(1)[0]):
        got = as_list(student.call("judge_circuit", *inputs))
        if got is None or not all(word in WORDS for word in got):
            raise Wrong(sentence=f"Return a list of some of the words {', '.join(WORDS)}.")
        asked.append((got, right, len(inputs[-1])))
    return asked


def judge_word(student, word: str) -> None:
    asked = ask_words(student)
    wrong = [i for i, (got, right, _) in enumerate(asked) if (word in got) != (word in right)]
    if wrong:
        got, _, n_edges = asked[wrong[0]]
        says = "is" if word in got else "is not"
        words = f"You say that a circuit of {n_edges} edges {says} {word}"
        raise Wrong(sentence=f"{words}; {len(wrong)} of {len(asked)} are wrong.")


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


@functools.lru_cache(maxsize=3)
def ask_circuits(student, name: str) -> list[tuple[list, list, Planted]]:
    """Ask what the learner finds in two models, and says of it."""
    answers = []
    for seed in student.seeds(2):
        planted = plant(name, seed)
        answers.append((*ask_circuit(student, *planted.data_with_wrong), planted))
    return answers


def ask_circuit(student, *inputs) -> tuple[list, list]:
    got = [as_list(part) for part in as_list(student.call("find_circuit", *inputs)) or []]
    if len(got) != 2 or None in got:
        raise Wrong(
            sentence="Return two lists: the edges of the circuit, "
            "and the words of judge_circuit for it."
        )
    return got[0], got[1]


def judge_circuits(student, name: str) -> None:
    for edges, _, planted in ask_circuits(student, name):
        expect_found(edges, planted.circuits, planted.setting.edges, what="edges")


@check("find_circuit")
def test_a_circuit_with_an_opponent_is_found(student):
    """In two models: attention alone, one head works against the answer."""
    judge_circuits(student, "induction_by_hand")


@check("find_circuit", weight=2)
def test_one_of_several_circuits_is_found(student):
    """In two models: MLPs, of which either is enough; nothing in the place of what is off."""
    judge_circuits(student, "boolean_redundant_or")


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
    got, _ = ask_circuit(student, case.model, *inputs)
    expect_found(got, case.truth.circuits["resample"].edges, list_edges(case.model), what="edges")


@check("find_circuit")
def test_what_was_found_is_called_what_it_is(student):
    """The words for what was found."""
    for name in ("induction_by_hand", "boolean_redundant_or"):
        for edges, words, planted in ask_circuits(student, name):
            truth = Judge(planted.setting, planted.batch.answer)
            right = [circuit for circuit in planted.circuits if circuit == set(map(str, edges))]
            if not right:
                raise Wrong(sentence="The words count only for a right circuit.")
            if set(map(str, words)) != set(truth.words(right[0])):
                raise Wrong(
                    sentence="A circuit is the right one, but not the words for it: what does "
                    "judge_circuit say?"
                )
