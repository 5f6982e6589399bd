"""List wrong answers to lesson 09 that the grader rejects by name, and unusual right ones."""

import math

import torch

from mini_transformer.course.grading.mutants import alternative, mutant, vary
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import find_circuit_acdc, patch_edges

# How sentences of the tasks begin that ask for nothing.
GIVEN = {
    "prune_by_divergence": ["(So the losses", "It needs no answers"],
    "judge_circuit": ["No result lies"],
    "find_circuit": [
        "Some models have",
        "The models have",
        "Use `wrong`",
        "Heads stand",
        "Some heads do nothing",
        "What you find",
    ],
}

WORDS = ("faithful", "complete", "minimal")


def measure_gaps(logits, answer, wrong):
    row = torch.arange(len(answer))
    return logits[row, -1, answer] - logits[row, -1, wrong]


def share_right(logits, answer):
    last = logits[..., -1, :].detach()
    others = last.scatter(-1, answer.view(-1, 1).expand(*last.shape[:-1], 1), float("-inf"))
    return (
        (last[..., torch.arange(len(answer)), answer] > others.amax(dim=-1) + 0.01)
        .float()
        .mean(dim=-1)
    )


def ends_of(edge):
    return {end.split("<")[0] for end in edge.split("->")}


def names_of(model, mask):
    return [edge for edge, on in zip(list_edges(model), mask.tolist(), strict=True) if on]


# 9.1


def measure_runs(model, clean, corrupt, answer, wrong, masks, ablation, measure=measure_gaps):
    """Measure every prompt under each mask, (mask, prompt)."""
    off = write_outputs(model, corrupt, ablation)
    runs = run_edges(model, clean, torch.stack(masks), off)
    return torch.stack([measure(logits, answer, wrong).detach() for logits in runs])


def is_inside(edge, nodes):
    return ends_of(edge) <= nodes


def faithfulness(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    nodes,
    ablation,
    keep=is_inside,
    also=("logits",),
    share=lambda c, n, w: (c.mean() - n.mean()) / (w.mean() - n.mean()),
    ablate=lambda ablation: ablation,
    off=lambda clean, corrupt: corrupt,
    measure=measure_gaps,
):
    """Measure faithfulness with one thing exchanged."""
    kept = [edge for edge in list_edges(model) if keep(edge, {*nodes, *also})]
    circuit = mask_of(model, kept)
    masks = [circuit, torch.zeros_like(circuit), torch.ones_like(circuit)]
    away = off(clean, corrupt)
    runs = measure_runs(model, clean, away, answer, wrong, masks, ablate(ablation), measure)
    return share(*runs).item()


wrong = vary("node_faithfulness", faithfulness)
wrong(
    "keeps_what_it_should_cut",
    "You have the faithfulness of everything but the circuit: a mask has 1 where an edge is on.",
    clause="all other edges are off",
    keep=lambda edge, nodes: not is_inside(edge, nodes),
)
wrong(
    "keeps_every_edge_that_touches_a_node",
    "You keep edges of which only one end belongs to the circuit: what a node outside it writes "
    "must be off for all readers.",
    clause="whose two ends are both among its nodes",
    keep=lambda edge, nodes: bool(ends_of(edge) & nodes),
)
wrong(
    "asks_the_readers_alone",
    "You keep every edge into a node of the circuit, also if its writer does not belong there.",
    keep=lambda edge, nodes: edge.split("->")[1].split("<")[0] in nodes,
)
wrong(
    "cuts_only_what_reaches_the_logits",
    "You cut what nodes outside the circuit write into the logits, but not what they tell others.",
    keep=lambda edge, nodes: edge.split("->")[0] in nodes or not edge.endswith("->logits"),
)
wrong(
    "takes_a_part_for_another_node",
    "You keep edges into MLPs and the logits, but none into heads: a1.h0<q>, a1.h0<k> and "
    "a1.h0<v> all belong to the node a1.h0.",
    clause="the reader's node is the head",
    keep=lambda edge, nodes: {*edge.split("->")} <= nodes,
)
wrong(
    "keeps_values_only",
    "Of the edges into heads you keep those into values: <q> and <k> belong to the head as well.",
    keep=lambda edge, nodes: is_inside(edge, nodes) and edge[-2:] not in ("q>", "k>"),
)
wrong(
    "forgets_the_logits",
    "You get 0 unless the logits are named: who reads the answer off, although nobody names it?",
    clause='"logits" always belongs to the circuit, named or not',
    also=(),
)
wrong(
    "keeps_the_input_always",
    "You count the input among the nodes, named or not: only the logits always belong there.",
    clause="a circuit that is given by its nodes",
    also=("logits", "input"),
)
wrong(
    "divides_by_the_model",
    "Your value is the circuit's metric as a share of the model's: on this scale a model without "
    "edges does not stand at 0.",
    clause="(m(circuit) - m(nothing)) / (m(model) - m(nothing))",
    share=lambda c, n, w: c.mean() / w.mean(),
)
wrong(
    "forgets_to_subtract_above",
    "Below the line you subtract the metric without edges, but not above it.",
    share=lambda c, n, w: c.mean() / (w.mean() - n.mean()),
)
wrong(
    "forgets_to_subtract_below",
    "Above the line you subtract the metric without edges, but not below it.",
    share=lambda c, n, w: (c.mean() - n.mean()) / w.mean(),
)
wrong(
    "averages_the_ratios",
    "You divide on every prompt and then average: first average the metrics of the three runs.",
    share=lambda c, n, w: ((c - n) / (w - n)).mean(),
)
wrong(
    "takes_the_size_of_f",
    says="negative",
    share=lambda c, n, w: ((c.mean() - n.mean()) / (w.mean() - n.mean())).abs(),
)
wrong(
    "bounds_the_share",
    "You cut the value off at 0 and 1: a circuit may do worse than nothing, or better than the "
    "model.",
    share=lambda c, n, w: ((c.mean() - n.mean()) / (w.mean() - n.mean())).clamp(0, 1),
)
wrong(
    "ignores_the_ablation",
    "Your answers are those for resampled values, whatever ablation was asked for.",
    clause='`ablation` ("zero", "mean" or "resample")',
    ablate=lambda ablation: "resample",
)
wrong(
    "off_from_the_clean_prompts",
    "Your edges that are off carry what is written on the clean prompts: whose values should they"
    " carry?",
    off=lambda clean, corrupt: clean,
)
wrong(
    "counts_right_answers",
    "Your metric is the share of right answers: m is a difference of logits.",
    clause="where m is `measure_difference`",
    measure=lambda logits, answer, wrong: share_right(logits, answer).unsqueeze(0),
)


@mutant(
    "node_faithfulness",
    "You have 1 minus the faithfulness of all other edges: what these cannot do alone, the circuit "
    "need not do.",
)
def one_minus_the_rest(*inputs):
    return 1 - faithfulness(*inputs, keep=lambda edge, nodes: not is_inside(edge, nodes))


@mutant(
    "node_faithfulness",
    "Your m(nothing) is that of the model on the corrupt prompts: nothing means that every edge "
    "is off.",
    clause="with the circuit's edges on, with none, and with all",
)
def nothing_is_the_corrupt_run(model, clean, corrupt, answer, wrong, nodes, ablation):
    low = measure_gaps(model(corrupt), answer, wrong).mean()
    return faithfulness(
        model, clean, corrupt, answer, wrong, nodes, ablation,
        share=lambda c, n, w: (c.mean() - low) / (w.mean() - low),
    )  # fmt: skip


@alternative("node_faithfulness")
def by_what_the_nodes_write(model, clean, corrupt, answer, wrong, nodes, ablation):
    """Keep all edges out of the nodes: those into unheard nodes change nothing."""
    off = write_outputs(model, corrupt, ablation)
    masks = [
        [float(edge.split("->")[0] in kept) for edge in list_edges(model)]
        for kept in (nodes, (), {edge.split("->")[0] for edge in list_edges(model)})
    ]
    runs = [run_edges(model, clean, torch.tensor([mask]), off)[0] for mask in masks]
    c, n, w = (float(measure_gaps(logits, answer, wrong).sum()) for logits in runs)
    return (c - n) / (w - n)


# 9.2


def diverge(p, q):
    return (p.exp() * (p - q)).sum(dim=-1).mean()


def prune(
    model,
    clean,
    corrupt,
    tau,
    measure=diverge,
    ablation="resample",
    at=-1,
    order=lambda edges: edges[::-1],
    held=lambda found, kept, last: kept,
    limit=lambda tau, kept: tau,
    cost=lambda raised: raised,
    alone=False,
    passes=1,
    cut=False,
):
    """Prune with one thing exchanged; `held` is what a trial's divergence is compared with."""
    edges = list_edges(model)
    off = write_outputs(model, corrupt, ablation).detach()
    p = model(clean)[:, at].log_softmax(dim=-1).detach()
    left, value, last = list(edges), 0.0, 0.0
    for edge in passes * order(edges):
        tried = [other for other in (edges if alone else left) if other != edge]
        logits = run_edges(model, clean, mask_of(model, tried).unsqueeze(0), off)[0].detach()
        found = float(measure(p, logits[:, at].log_softmax(dim=-1)))
        raised = cost(found - held(found, value, last))
        last = found
        if edge in left and raised < limit(tau, value):
            left.remove(edge)
            value = found
    return [edge for edge in edges if (edge in left) != cut]


def last_readers_first(edges):
    readers = dict.fromkeys(edge.split("->")[1] for edge in edges[::-1])
    return [edge for reader in readers for edge in edges if edge.split("->")[1] == reader]


@mutant(
    "prune_by_divergence",
    "You begin with no edge and add those that lower the divergence by tau: ACDC takes away.",
    clause="Begin with all edges on",
)
def grows_from_nothing(model, clean, corrupt, tau):
    off = write_outputs(model, corrupt, "resample").detach()
    p = model(clean)[:, -1].log_softmax(dim=-1).detach()

    def measure(edges):
        logits = run_edges(model, clean, mask_of(model, edges).unsqueeze(0), off)[0].detach()
        return float(diverge(p, logits[:, -1].log_softmax(dim=-1)))

    kept = []
    for edge in list_edges(model)[::-1]:
        if measure(kept) - measure([*kept, edge]) >= tau:
            kept.append(edge)
    return [edge for edge in list_edges(model) if edge in kept]


wrong = vary("prune_by_divergence", prune)
wrong(
    "judges_each_edge_alone",
    "You switch each edge off in the whole model; what is judged later must miss what has been "
    "cut before.",
    clause="in what is left so far",
    alone=True,
    held=lambda found, kept, last: 0.0,
)
wrong(
    "compares_with_the_whole_model",
    "You hold the whole divergence against tau: the edge pays only for what it adds to the "
    "divergence of what is left.",
    clause="if that raises the divergence by less than `tau`",
    held=lambda found, kept, last: 0.0,
)
wrong(
    "compares_with_the_last_trial",
    "You compare with the trial before, also if its edge went on again.",
    clause="otherwise it goes on again",
    held=lambda found, kept, last: last,
)
wrong(
    "starts_from_the_input",
    "You go from the input to the logits: the order decides who is judged in whose company.",
    clause="from its end to its beginning",
    order=lambda edges: edges,
)
wrong(
    "turns_the_readers_round_only",
    "You take the last reader first, but its edges in the order of the list.",
    order=last_readers_first,
)
wrong(
    "goes_round_again",
    "You go through the edges more than once: what was needed once stays on.",
    clause="Go through `list_edges(model)`",
    passes=4,
)
wrong(
    "returns_what_was_cut",
    "You return the edges that were cut: the circuit is what is left.",
    clause="Return the edges that are on at the end",
    cut=True,
)
wrong(
    "swaps_the_divergence",
    "Your divergence goes the other way round: the expectation is over what the whole model says.",
    clause="p are the probabilities of the next token",
    measure=lambda p, q: diverge(q, p),
)
wrong(
    "averages_over_the_vocabulary",
    "You average over the vocabulary: the more tokens there are, the smaller your divergence "
    "would be.",
    clause="sum over tokens of p (log p - log q)",
    measure=lambda p, q: (p.exp() * (p - q)).mean(),
)
wrong(
    "adds_up_the_prompts",
    "You add up the prompts' divergences: they are averaged.",
    clause="is the mean over prompts",
    measure=lambda p, q: (p.exp() * (p - q)).sum(),
)
wrong(
    "averages_the_probabilities",
    "You average probabilities over the prompts before you compare them.",
    measure=lambda p, q: diverge(p.exp().mean(0).log(), q.exp().mean(0).log()),
)
wrong(
    "measures_in_bits",
    "Your divergence is in bits, so that tau cuts off earlier.",
    clause="in nats",
    measure=lambda p, q: diverge(p, q) / math.log(2),
)
wrong(
    "halves_the_threshold",
    "You cut less than tau allows: half of it.",
    limit=lambda tau, v: tau / 2,
)
wrong(
    "asks_for_a_share_of_the_divergence",
    "Your threshold is a share of the divergence so far: tau is what it may rise by.",
    limit=lambda tau, kept: tau * kept if kept else tau,
)
wrong(
    "follows_the_top_token",
    "You look at the model's likeliest token alone: the divergence is a sum over all.",
    measure=lambda p, q: (p - q).gather(1, p.argmax(1, keepdim=True)).mean(),
)
wrong(
    "looks_at_every_position",
    "You compare predictions at all positions, but only the last one is asked for.",
    clause="at the last position",
    at=slice(None),
)
wrong(
    "cuts_with_zeros",
    "Your edges carry nothing when they are off: they should carry what is written on the corrupt"
    " prompts.",
    clause="it then carries the corrupt value",
    ablation="zero",
)
wrong(
    "cuts_with_means",
    "Your edges carry means when they are off: each prompt has a corrupt value of its own.",
    clause='ablation "resample"',
    ablation="mean",
)
wrong(
    "counts_any_change",
    "An edge whose cut *lowers* the divergence stays off, however much: only what raises it "
    "counts.",
    cost=abs,
)


@mutant(
    "prune_by_divergence",
    "You keep every edge, though some raise the divergence by less than tau.",
    clause="it stays off",
)
def cuts_nothing(model, clean, corrupt, tau):
    return list_edges(model)


@alternative("prune_by_divergence")
def with_names_and_a_library(model, clean, corrupt, tau):
    kept = set(list_edges(model))
    off = write_outputs(model, corrupt)
    whole = torch.distributions.Categorical(logits=model(clean)[:, -1])

    def diverge_from(edges):
        logits = run_edges(model, clean, mask_of(model, edges)[None], off)[0, :, -1]
        return torch.distributions.kl_divergence(
            whole, torch.distributions.Categorical(logits=logits)
        ).mean()

    for edge in list_edges(model)[::-1]:
        if diverge_from(kept - {edge}) < diverge_from(kept) + tau:
            kept.remove(edge)
    return sorted(kept)


# 9.3


def find_slope(model, clean, corrupt, answer, wrong, point, total=torch.mean, ablation="resample"):
    mask = torch.full((1, len(list_edges(model))), float(point), requires_grad=True)
    logits = run_edges(model, clean, mask, write_outputs(model, corrupt, ablation))[0]
    return torch.autograd.grad(total(measure_gaps(logits, answer, wrong)), mask)[0][0]


def integrate(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    steps,
    points=lambda n: [(step + 0.5) / n for step in range(n)],
    change=lambda slopes, points, n: sum(slopes) / len(points),
    exchange=False,
    **options,
):
    """Average slopes with one thing exchanged, from where they are taken to what they are of."""
    data = (corrupt, clean) if exchange else (clean, corrupt)
    at = points(steps)
    slopes = [find_slope(model, *data, answer, wrong, point, **options) for point in at]
    return change(slopes, at, steps)


wrong = vary("integrate_masks", integrate)
wrong(
    "differentiates_the_whole_model",
    "Your gradient is that of the run with all edges on, whatever the steps: where on the way is "
    "it taken?",
    clause="from off to on",
    points=lambda n: [1.0],
)
wrong(
    "differentiates_the_corrupt_run",
    "Your gradient is that of the run with all edges off: there is a way to go from there.",
    clause="The way goes from all edges off to all on",
    points=lambda n: [0.0],
)
wrong(
    "steps_at_the_ends",
    "Your points are the ends of the pieces: with two steps 1/2 and 1.",
    clause="the middle of one of `steps` equal pieces",
    points=lambda n: [(step + 1) / n for step in range(n)],
)
wrong(
    "steps_at_the_beginnings",
    "Your points are the beginnings of the pieces: with two steps 0 and 1/2.",
    points=lambda n: [step / n for step in range(n)],
)
wrong(
    "takes_both_ends",
    "Your points go from 0 to 1, both included: each piece has a middle.",
    points=lambda n: torch.linspace(0, 1, n).tolist(),
)
wrong(
    "divides_the_line_by_points",
    "Your points part the line into one piece more than `steps`: each piece has a middle.",
    points=lambda n: [(step + 1) / (n + 1) for step in range(n)],
)
wrong(
    "trapezoids",
    "You average the gradients at both ends of every piece: they are to be taken in the middles.",
    points=lambda n: [step / n for step in range(n)] + [(step + 1) / n for step in range(n)],
)
wrong(
    "adds_up_the_steps",
    says="(the number of steps)",
    clause="the metric's mean gradient",
    change=lambda slopes, points, n: sum(slopes),
)
wrong("adds_up_the_prompts", says="(the number of prompts)", total=torch.sum)
wrong(
    "flips_the_sign",
    says="is the negative of what it should be",
    clause="positive for an edge that helps",
    change=lambda slopes, points, n: -sum(slopes) / n,
)
wrong(
    "takes_the_size",
    says="is the absolute value of what it should be",
    change=lambda slopes, points, n: (sum(slopes) / n).abs(),
)
wrong(
    "weighs_by_the_mask",
    "You multiply each gradient by the mask it was taken at: the whole way that a switch goes has"
    " length 1.",
    change=lambda slopes, points, n: sum(map(torch.mul, slopes, map(torch.tensor, points))) / n,
)
wrong(
    "cuts_with_zeros",
    "Your edges carry nothing when they are off: off means the corrupt prompts' values.",
    clause='off means ablation "resample"',
    ablation="zero",
)
wrong(
    "cuts_with_means",
    "Your edges carry means when they are off: each prompt has a corrupt value of its own.",
    ablation="mean",
)
wrong(
    "exchanges_the_prompts",
    "You run the corrupt prompts, and edges that are off carry clean values: it is the other way.",
    exchange=True,
)


@mutant("integrate_masks", says="other order", clause="in the order of `list_edges(model)`")
def lists_the_edges_sorted(model, *inputs):
    edges = list_edges(model)
    return integrate(model, *inputs)[[edges.index(edge) for edge in sorted(edges)]]


@mutant("integrate_masks", says="differs in", clause="The metric is `measure_difference`")
def reads_the_answer_alone(model, clean, corrupt, answer, wrong, steps):
    masks = ((torch.arange(steps) + 0.5) / steps).unsqueeze(1).repeat(1, len(list_edges(model)))
    masks.requires_grad_()
    runs = run_edges(model, clean, masks, write_outputs(model, corrupt))
    total = runs[:, torch.arange(len(answer)), -1, answer].mean(1).sum()
    return torch.autograd.grad(total, masks)[0].mean(0)


@mutant(
    "integrate_masks",
    "You move one switch while all others are on: all switches move together.",
    clause="All switches move together",
)
def one_switch_at_a_time(model, clean, corrupt, answer, wrong, steps):
    n_edges = len(list_edges(model))
    off = write_outputs(model, corrupt)
    slopes = 0.0
    for step in range(steps):
        masks = torch.ones(n_edges, n_edges)
        masks[range(n_edges), range(n_edges)] = (step + 0.5) / steps
        masks.requires_grad_()
        runs = run_edges(model, clean, masks, off)
        total = sum(measure_gaps(logits, answer, wrong).mean() for logits in runs)
        slopes += torch.autograd.grad(total, masks)[0].diagonal() / steps
    return slopes


@mutant(
    "integrate_masks",
    "Your scores add up exactly, whatever the steps: these gradients alone would not.",
    clause="With enough steps they add up",
)
def scales_to_the_difference(model, *inputs):
    scores = integrate(model, *inputs)
    n_edges = len(list_edges(model))
    masks = [torch.ones(n_edges), torch.zeros(n_edges)]
    whole, nothing = measure_runs(model, *inputs[:-1], masks, "resample").mean(1)
    return scores / scores.sum() * (whole - nothing)


@alternative("integrate_masks")
def all_steps_in_one_run(model, clean, corrupt, answer, wrong, steps):
    points = (torch.arange(steps) + 0.5) / steps
    masks = points.unsqueeze(1).repeat(1, len(list_edges(model))).requires_grad_()
    runs = run_edges(model, clean, masks, write_outputs(model, corrupt))
    sum(measure_gaps(logits, answer, wrong).mean() for logits in runs).backward()
    model.zero_grad()
    return masks.grad.mean(dim=0)


# 9.4


class Shares:
    """Compute F of any set of edges, one at a time or many."""

    def __init__(self, model, clean, corrupt, answer, ablation):
        self.model = model
        self.clean = clean
        self.answer = answer
        self.off = write_outputs(model, corrupt, ablation)
        self.edges = frozenset(list_edges(model))

    def all(self, sets, share=share_right):
        masks = torch.stack([mask_of(self.model, edges) for edges in sets])
        return share(run_edges(self.model, self.clean, masks, self.off), self.answer)

    def __call__(self, edges):
        return self.all([edges])[0].item()


def is_faithful(C, M, cuts, model_cuts):
    return abs(C - M) < 0.2


def is_complete(C, M, cuts, model_cuts):
    return abs(C - M) < 0.2 and ((cuts - model_cuts).abs() < 0.2).all()


def is_minimal(C, M, cuts, model_cuts):
    return (C - cuts > 0.19).all()


def judge(
    model,
    clean,
    corrupt,
    answer,
    ablation,
    circuit,
    faithful=is_faithful,
    complete=is_complete,
    minimal=is_minimal,
    share=share_right,
    ablate=lambda ablation: ablation,
):
    """Judge with one rule exchanged.

    A rule is of F(C), F(M), and F(C without e) and F(M without e) for every e.
    """
    F = Shares(model, clean, corrupt, answer, ablate(ablation))
    C, M = frozenset(circuit), F.edges
    sets = [C, M, *(C - {e} for e in circuit), *(M - {e} for e in circuit)]
    C, M, *rest = F.all(sets, share)
    parts = C, M, *torch.stack(rest).chunk(2)
    rules = zip(WORDS, (faithful, complete, minimal), strict=True)
    return [word for word, rule in rules if rule(*parts)]


wrong = vary("judge_circuit", judge)
wrong(
    "knocks_out_of_the_circuit_alone",
    "You compare the circuit without an edge with the model that still has it: a complete circuit"
    " loses what the model loses.",
    complete=lambda C, M, cuts, model_cuts: ((cuts - M).abs() < 0.2).all(),
)
wrong(
    "compares_the_losses",
    "You compare what a cut costs in the circuit and in the model: compare what is left after it.",
    clause="for every e, F(C without e) and F(M without e) differ by less than .2",
    complete=lambda C, M, cuts, model_cuts: ((C - cuts - M + model_cuts).abs() < 0.2).all(),
)
wrong(
    "one_way_is_complete",
    "You call a circuit complete that goes on after a cut which stops the model.",
    complete=lambda C, M, cuts, model_cuts: (model_cuts - cuts < 0.2).all(),
)
wrong(
    "worse_is_complete",
    'For "complete" you forgive a circuit that does worse without e than the model without e.',
    complete=lambda C, M, cuts, model_cuts: (cuts - model_cuts < 0.2).all(),
)
wrong(
    "complete_if_the_model_fails",
    "You call a circuit complete if the model needs each of its edges.",
    complete=lambda C, M, cuts, model_cuts: (M - model_cuts >= 0.2).all(),
)
wrong(
    "complete_and_not_faithful",
    "You call a circuit complete that is not faithful: the first cut to compare is none at all.",
    clause="the circuit is faithful, and",
    complete=lambda C, M, cuts, model_cuts: ((cuts - model_cuts).abs() < 0.2).all(),
)
wrong(
    "minimal_only_if_faithful",
    "You call a circuit minimal only if it is also faithful: each word has a test of its own.",
    minimal=lambda *parts: is_minimal(*parts) and is_faithful(*parts),
)
wrong(
    "better_is_faithful",
    "You call a circuit faithful that is right where the model is not.",
    faithful=lambda C, M, cuts, model_cuts: M - C < 0.2,
)
wrong(
    "always_faithful",
    "You call every circuit faithful.",
    clause="F(C) and F(M) differ by less than .2",
    faithful=lambda C, M, cuts, model_cuts: True,
)
wrong(
    "one_needed_edge_is_enough",
    "You call a circuit minimal if one of its edges is needed, but it may carry idle ones.",
    clause="for every e, F(C without e) is at least .2 below F(C)",
    minimal=lambda C, M, cuts, model_cuts: (C - cuts > 0.19).any(),
)
wrong(
    "cuts_the_whole_model",
    "You test what is minimal in the whole model, where something else may stand in for the edge.",
    minimal=lambda C, M, cuts, model_cuts: (M - model_cuts > 0.19).all(),
)
wrong(
    "minimal_beside_the_model",
    says="minimal",
    minimal=lambda C, M, cuts, model_cuts: (M - cuts > 0.19).all(),
)
wrong(
    "a_margin_of_a_hundredth",
    "You take a small loss for enough: it is to be .2.",
    clause="is at least .2 below F(C)",
    minimal=lambda C, M, cuts, model_cuts: (C - cuts > 0.01).all(),
)
wrong(
    "averages_over_the_edges",
    "You average over the edges, so that one gap is lost among many edges without.",
    clause="Test it by cutting one edge at a time",
    complete=lambda C, M, cuts, model_cuts: (cuts.mean() - model_cuts.mean()).abs() < 0.2,
    minimal=lambda C, M, cuts, model_cuts: C - cuts.mean() > 0.19,
)
wrong(
    "takes_the_model_for_perfect",
    "You call a circuit faithful if it is often right: how often is the whole model right here?",
    clause="M all edges of the model",
    faithful=lambda C, M, cuts, model_cuts: abs(C - 1) < 0.2,
)
wrong(
    "forgets_the_ablation",
    "Your words are those for resampled values, whatever ablation was asked for.",
    clause="all others off by `ablation`",
    ablate=lambda ablation: "resample",
)
wrong(
    "counts_ties_as_right",
    "You count an answer as right that no more than ties with another token: see share_right.",
    clause="is `share_right` with only these edges on",
    share=lambda logits, answer: (
        (
            (logits[..., -1, :].gather(-1, answer.expand(len(logits), -1)[..., None])[..., 0])
            >= logits[..., -1, :].amax(-1) - 1e-4
        )
        .float()
        .mean(-1)
    ),
)


@mutant("judge_circuit", says="You answer the same", clause="Return the words that hold")
def constant_output(model, clean, corrupt, answer, ablation, circuit):
    return ["faithful", "complete", "minimal"]


@mutant(
    "judge_circuit",
    "You ask whether what is left without the circuit fails; but a stand-in may share edges with "
    "the circuit and work only together with them.",
)
def asks_what_the_rest_can_do(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    rest = F(F.edges - set(circuit)) < 0.2
    return judge(model, clean, corrupt, answer, ablation, circuit, complete=lambda *parts: rest)


@alternative("judge_circuit")
def one_run_at_a_time(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    C, M = frozenset(circuit), F.edges
    holds = {
        "minimal": all(F(C - {e}) <= F(C) - 0.19 for e in C),
        "faithful": abs(F(C) - F(M)) < 0.2,
    }
    cuts = [set(), *({e} for e in C)]
    holds["complete"] = all(abs(F(C - cut) - F(M - cut)) < 0.2 for cut in cuts)
    return [word for word, true in holds.items() if true]


# 9.5


def call_it(model, clean, corrupt, answer, ablation, edges):
    """Return the edges with the words for them."""
    words = judge(model, clean, corrupt, answer, ablation, edges) if edges else []
    return edges, words


def find_by_pruning(
    model,
    clean,
    corrupt,
    answer,
    wrong,
    ablation,
    least=1.0,
    prompts=lambda clean: slice(None),
    right=share_right,
    start=None,
    order=lambda edges: edges[::-1],
    words=call_it,
):
    """Prune while enough prompts are right, with one thing exchanged."""
    rows = prompts(clean)
    F = Shares(model, clean[rows], corrupt[rows], answer[rows], ablation)
    kept = list_edges(model)
    for edge in order(kept):
        tried = [other for other in kept if other != edge]
        if F.all([tried], right)[0] >= least:
            kept = tried
    return words(model, clean, corrupt, answer, ablation, kept)


def find_range(model, clean, corrupt, answer, wrong, ablation):
    """Measure how much the metric falls from the whole model to no edges."""
    n_edges = len(list_edges(model))
    masks = [torch.zeros(n_edges), torch.ones(n_edges)]
    n, w = measure_runs(model, clean, corrupt, answer, wrong, masks, ablation).mean(1)
    return (w - n).item()


def rightness(answer):
    """Say whether each prompt is answered rightly, as a metric of the package."""

    def metric(logits):
        last = logits[:, -1]
        others = last.scatter(-1, answer.unsqueeze(-1), float("-inf"))
        return (last.gather(-1, answer.unsqueeze(-1))[:, 0] > others.amax(dim=-1) + 0.01).float()

    return metric


def some_words(words):
    return lambda model, clean, corrupt, answer, ablation, edges: (edges, words)


wrong = vary("find_circuit", find_by_pruning)
wrong(
    "most_prompts_are_enough",
    says="You name",
    clause="every prompt is answered rightly",
    least=0.9,
)
wrong(
    "looks_at_eight_prompts",
    says="You name",
    clause="(`share_right` is 1)",
    prompts=lambda clean: slice(8),
)
wrong(
    "gives_all_the_words",
    says="not the words for it",
    clause="The words are those of `judge_circuit` for it",
    words=some_words(["faithful", "complete", "minimal"]),
)
wrong("never_says_complete", says="not the words for it", words=some_words(["faithful", "minimal"]))
wrong(
    "gives_no_words", says="not the words for it", clause="Return two lists", words=some_words([])
)
wrong(
    "words_for_resampled_values",
    says="not the words for it",
    words=lambda model, clean, corrupt, answer, ablation, edges: call_it(
        model, clean, corrupt, answer, "resample", edges
    ),
)


@mutant("find_circuit", says="You name", clause="of which no proper part does the same")
def joins_two_circuits(*inputs):
    both = [find_by_pruning(*inputs, order=o)[0] for o in (list, lambda edges: edges[::-1])]
    return call_it(*inputs[:4], inputs[5], sorted({*both[0], *both[1]}))


@mutant(
    "find_circuit",
    "You name the edges that are needed one by one: where two can stand in for each other, this "
    "misses both.",
)
def tests_single_edges(model, clean, corrupt, answer, wrong, ablation):
    losses = patch_edges(model, clean, corrupt, rightness(answer), ablation, direction="noise")
    found = [edge for edge, loss in losses.items() if loss > 1e-6]
    return call_it(model, clean, corrupt, answer, ablation, found)


@mutant(
    "find_circuit",
    "You trust a gradient of the whole run: where attention is saturated there is none.",
)
def trusts_the_gradient(model, clean, corrupt, answer, wrong, ablation):
    mask = torch.ones(1, len(list_edges(model)), requires_grad=True)
    value = measure_gaps(
        run_edges(model, clean, mask, write_outputs(model, corrupt, ablation))[0], answer, wrong
    ).mean()
    limit = 0.05 * find_range(model, clean, corrupt, answer, wrong, ablation)
    found = names_of(model, torch.autograd.grad(value, mask)[0][0] > limit)
    return call_it(model, clean, corrupt, answer, ablation, found)


@mutant(
    "find_circuit",
    "You name edges whose loss changes the logits, for better or for worse: what works against "
    "the answer does not help to give it.",
)
def counts_any_effect(model, clean, corrupt, answer, wrong, ablation):
    losses = patch_edges(
        model,
        clean,
        corrupt,
        lambda logits: measure_gaps(logits, answer, wrong),
        ablation,
        direction="noise",
    )
    limit = 0.05 * find_range(model, clean, corrupt, answer, wrong, ablation)
    found = [edge for edge, loss in losses.items() if loss.abs() > limit]
    return call_it(model, clean, corrupt, answer, ablation, found)


@mutant(
    "find_circuit",
    "You prune by a mean difference of logits, in which a gain on some prompts pays for a loss on"
    " others.",
)
def prunes_by_the_average(model, clean, corrupt, answer, wrong, ablation):
    found = find_circuit_acdc(
        model, clean, corrupt, lambda logits: measure_gaps(logits, answer, wrong), ablation, 0.05
    )
    return call_it(model, clean, corrupt, answer, ablation, sorted(found))


@mutant(
    "find_circuit",
    "You prune with resampled values, whatever ablation was asked for: without anything in its "
    "place more is needed.",
    clause="while all other edges are off by `ablation`",
    name="forgets_the_ablation",
)
def find_forgets_the_ablation(model, clean, corrupt, answer, wrong, ablation):
    found = find_circuit_acdc(model, clean, corrupt, rightness(answer), "resample", 1e-6)
    return call_it(model, clean, corrupt, answer, "resample", sorted(found))


@mutant("find_circuit", "You name every edge: all of them together do the task, but most can go.")
def stops_at_the_whole_model(model, clean, corrupt, answer, wrong, ablation):
    return list_edges(model), ["faithful", "complete"]


@mutant("find_circuit", says="You answer the same")
def the_same_for_every_model(model, clean, corrupt, answer, wrong, ablation):
    found = [
        "input->a0.h0<v>",
        "a0.h0->a1.h0<k>",
        "input->a1.h0<q>",
        "input->a1.h0<v>",
        "a1.h0->logits",
    ]
    return found, ["faithful", "complete", "minimal"]


@alternative("find_circuit")
def by_the_package(model, clean, corrupt, answer, wrong, ablation):
    found = find_circuit_acdc(model, clean, corrupt, rightness(answer), ablation, 1e-6)
    return call_it(model, clean, corrupt, answer, ablation, sorted(found))


@alternative("find_circuit")
def by_whole_readers_first(model, clean, corrupt, answer, wrong, ablation):
    """Drop readers with all their edges first, then single edges."""
    F = Shares(model, clean, corrupt, answer, ablation)
    kept = list_edges(model)
    groups = {edge.split("->")[1]: [] for edge in reversed(kept)}
    for edge in kept:
        groups[edge.split("->")[1]].append(edge)
    for group in [*groups.values(), *([edge] for edge in reversed(kept))]:
        tried = [edge for edge in kept if edge not in group]
        if len(tried) < len(kept) and F(tried) == 1:
            kept = tried
    return call_it(model, clean, corrupt, answer, ablation, kept)
