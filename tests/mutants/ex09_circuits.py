"""List wrong answers to lesson 09 that the grader rejects by name, and unusual right ones."""

import torch

from mini_transformer.course.grading.checks import alternative, mutant
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import find_circuit_acdc, patch_edges

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


def measure_three(model, clean, corrupt, answer, wrong, edges, ablation):
    """Measure the metric per prompt with the circuit on, with nothing, with everything."""
    n_edges = len(list_edges(model))
    masks = torch.stack([mask_of(model, edges), torch.zeros(n_edges), torch.ones(n_edges)])
    runs = run_edges(model, clean, masks, write_outputs(model, corrupt, ablation))
    return [measure_gaps(logits, answer, wrong).detach() for logits in runs]


def list_inside(model, nodes):
    return [edge for edge in list_edges(model) if ends_of(edge) <= {*nodes, "logits"}]


def measure_share(model, clean, corrupt, answer, wrong, edges, ablation):
    c, n, w = (
        gaps.mean() for gaps in measure_three(model, clean, corrupt, answer, wrong, edges, ablation)
    )
    return ((c - n) / (w - n)).item()


@mutant("node_faithfulness")
def keeps_what_it_should_cut(model, clean, corrupt, answer, wrong, nodes, ablation):
    inside = list_inside(model, nodes)
    outside = [edge for edge in list_edges(model) if edge not in inside]
    return measure_share(model, clean, corrupt, answer, wrong, outside, ablation)


@mutant("node_faithfulness")
def keeps_every_edge_that_touches_a_node(model, clean, corrupt, answer, wrong, nodes, ablation):
    touching = [edge for edge in list_edges(model) if ends_of(edge) & {*nodes, "logits"}]
    return measure_share(model, clean, corrupt, answer, wrong, touching, ablation)


@mutant("node_faithfulness")
def takes_a_part_for_another_node(model, clean, corrupt, answer, wrong, nodes, ablation):
    inside = [edge for edge in list_edges(model) if {*edge.split("->")} <= {*nodes, "logits"}]
    return measure_share(model, clean, corrupt, answer, wrong, inside, ablation)


@mutant("node_faithfulness")
def forgets_the_logits(model, clean, corrupt, answer, wrong, nodes, ablation):
    inside = [edge for edge in list_edges(model) if ends_of(edge) <= {*nodes}]
    return measure_share(model, clean, corrupt, answer, wrong, inside, ablation)


@mutant("node_faithfulness")
def divides_by_the_model(model, clean, corrupt, answer, wrong, nodes, ablation):
    c, _, w = measure_three(
        model, clean, corrupt, answer, wrong, list_inside(model, nodes), ablation
    )
    return (c.mean() / w.mean()).item()


@mutant("node_faithfulness")
def forgets_to_subtract_above(model, clean, corrupt, answer, wrong, nodes, ablation):
    c, n, w = measure_three(
        model, clean, corrupt, answer, wrong, list_inside(model, nodes), ablation
    )
    return (c.mean() / (w.mean() - n.mean())).item()


@mutant("node_faithfulness")
def forgets_to_subtract_below(model, clean, corrupt, answer, wrong, nodes, ablation):
    c, n, w = measure_three(
        model, clean, corrupt, answer, wrong, list_inside(model, nodes), ablation
    )
    return ((c.mean() - n.mean()) / w.mean()).item()


@mutant("node_faithfulness")
def ignores_the_ablation(model, clean, corrupt, answer, wrong, nodes, ablation):
    return measure_share(
        model, clean, corrupt, answer, wrong, list_inside(model, nodes), "resample"
    )


@mutant("node_faithfulness")
def off_from_the_clean_prompts(model, clean, corrupt, answer, wrong, nodes, ablation):
    return measure_share(model, clean, clean, answer, wrong, list_inside(model, nodes), ablation)


@mutant("node_faithfulness")
def averages_the_ratios(model, clean, corrupt, answer, wrong, nodes, ablation):
    c, n, w = measure_three(
        model, clean, corrupt, answer, wrong, list_inside(model, nodes), ablation
    )
    return ((c - n) / (w - n)).mean().item()


@mutant("node_faithfulness", says="expected")
def keeps_the_input_always(model, clean, corrupt, answer, wrong, nodes, ablation):
    inside = list_inside(model, [*nodes, "input"])
    return measure_share(model, clean, corrupt, answer, wrong, inside, ablation)


@mutant("node_faithfulness", says="negative")
def takes_the_size_of_f(model, clean, corrupt, answer, wrong, nodes, ablation):
    inside = list_inside(model, nodes)
    return abs(measure_share(model, clean, corrupt, answer, wrong, inside, ablation))


@mutant("node_faithfulness")
def bounds_the_share(model, clean, corrupt, answer, wrong, nodes, ablation):
    share = measure_share(model, clean, corrupt, answer, wrong, list_inside(model, nodes), ablation)
    return min(1.0, max(0.0, share))


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
    return (p.exp() * (p - q)).sum(dim=-1).mean().item()


def prune(model, cost, order=reversed, **options):
    """Prune greedily: compare cost(trial) of a run with that of the last one kept."""
    edges = list_edges(model)
    mask = torch.ones(len(edges))
    value = options.get("start", 0.0)
    for i in order(range(len(edges))):
        base = torch.ones(len(edges)) if options.get("alone") else mask
        trial = base.clone()
        trial[i] = 0.0
        found = cost(trial)
        if (
            found - (0.0 if options.get("alone") or options.get("total") else value)
            < options["tau"]
        ):
            mask[i] = 0.0
            value = found
    return mask


def divergence_cost(
    model, clean, corrupt, ablation="resample", at=slice(-1, None), measure=diverge
):
    off = write_outputs(model, corrupt, ablation).detach()
    p = model(clean)[:, at].log_softmax(dim=-1).detach()

    def cost(mask):
        return measure(
            p,
            run_edges(model, clean, mask.unsqueeze(0), off)[0][:, at].log_softmax(dim=-1).detach(),
        )

    return cost


@mutant("prune_by_divergence")
def judges_each_edge_alone(model, clean, corrupt, tau):
    return names_of(
        model, prune(model, divergence_cost(model, clean, corrupt), tau=tau, alone=True)
    )


@mutant("prune_by_divergence")
def compares_with_the_whole_model(model, clean, corrupt, tau):
    return names_of(
        model, prune(model, divergence_cost(model, clean, corrupt), tau=tau, total=True)
    )


@mutant("prune_by_divergence")
def starts_from_the_input(model, clean, corrupt, tau):
    return names_of(
        model, prune(model, divergence_cost(model, clean, corrupt), order=iter, tau=tau)
    )


@mutant("prune_by_divergence")
def returns_what_was_cut(model, clean, corrupt, tau):
    return names_of(model, 1 - prune(model, divergence_cost(model, clean, corrupt), tau=tau))


@mutant("prune_by_divergence")
def swaps_the_divergence(model, clean, corrupt, tau):
    cost = divergence_cost(model, clean, corrupt, measure=lambda p, q: diverge(q, p))
    return names_of(model, prune(model, cost, tau=tau))


@mutant("prune_by_divergence")
def averages_over_the_vocabulary(model, clean, corrupt, tau):
    cost = divergence_cost(
        model, clean, corrupt, measure=lambda p, q: (p.exp() * (p - q)).mean().item()
    )
    return names_of(model, prune(model, cost, tau=tau))


@mutant("prune_by_divergence")
def looks_at_every_position(model, clean, corrupt, tau):
    return names_of(
        model, prune(model, divergence_cost(model, clean, corrupt, at=slice(None)), tau=tau)
    )


@mutant("prune_by_divergence")
def cuts_with_zeros(model, clean, corrupt, tau):
    return names_of(model, prune(model, divergence_cost(model, clean, corrupt, "zero"), tau=tau))


@mutant("prune_by_divergence")
def counts_any_change(model, clean, corrupt, tau):
    edges = list_edges(model)
    off = write_outputs(model, corrupt)
    p = model(clean)[:, -1].log_softmax(dim=-1)
    mask = torch.ones(len(edges))
    value = 0.0
    for i in reversed(range(len(edges))):
        mask[i] = 0
        raised = diverge(p, run_edges(model, clean, mask[None], off)[0, :, -1].log_softmax(dim=-1))
        mask[i] = float(abs(raised - value) >= tau)
        value = value if mask[i] else raised
    return names_of(model, mask)


@mutant("prune_by_divergence")
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


def find_slope(model, clean, corrupt, answer, wrong, point, total=torch.mean):
    mask = torch.full((1, len(list_edges(model))), float(point), requires_grad=True)
    logits = run_edges(model, clean, mask, write_outputs(model, corrupt))[0]
    return torch.autograd.grad(total(measure_gaps(logits, answer, wrong)), mask)[0][0]


def average_slopes(*inputs, steps, part=0.5, **options):
    return (
        sum(find_slope(*inputs, (step + part) / steps, **options) for step in range(steps)) / steps
    )


@mutant("integrate_masks")
def differentiates_the_whole_model(model, clean, corrupt, answer, wrong, steps):
    return find_slope(model, clean, corrupt, answer, wrong, 1)


@mutant("integrate_masks")
def differentiates_the_corrupt_run(model, clean, corrupt, answer, wrong, steps):
    return find_slope(model, clean, corrupt, answer, wrong, 0)


@mutant("integrate_masks")
def steps_at_the_ends(model, clean, corrupt, answer, wrong, steps):
    return average_slopes(model, clean, corrupt, answer, wrong, steps=steps, part=1.0)


@mutant("integrate_masks", says="(the number of steps)")
def adds_up_the_steps(model, clean, corrupt, answer, wrong, steps):
    return steps * average_slopes(model, clean, corrupt, answer, wrong, steps=steps)


@mutant("integrate_masks", says="(the number of prompts)")
def adds_up_the_prompts(model, clean, corrupt, answer, wrong, steps):
    return average_slopes(model, clean, corrupt, answer, wrong, steps=steps, total=torch.sum)


@mutant("integrate_masks", says="is the negative of what it should be")
def flips_the_sign(model, clean, corrupt, answer, wrong, steps):
    return -average_slopes(model, clean, corrupt, answer, wrong, steps=steps)


@mutant("integrate_masks", says="is the absolute value of what it should be")
def takes_the_size(model, clean, corrupt, answer, wrong, steps):
    return average_slopes(model, clean, corrupt, answer, wrong, steps=steps).abs()


@mutant("integrate_masks")
def weighs_by_the_mask(model, clean, corrupt, answer, wrong, steps):
    points = [(step + 0.5) / steps for step in range(steps)]
    return (
        sum(point * find_slope(model, clean, corrupt, answer, wrong, point) for point in points)
        / steps
    )


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
    """Compute F of any set of edges."""

    def __init__(self, model, clean, corrupt, answer, ablation):
        self.model = model
        self.clean = clean
        self.answer = answer
        self.off = write_outputs(model, corrupt, ablation)
        self.edges = frozenset(list_edges(model))

    def __call__(self, edges):
        return share_right(
            run_edges(self.model, self.clean, mask_of(self.model, edges)[None], self.off),
            self.answer,
        )[0].item()


def judge(F, circuit, gaps=None, complete=None, minimal=None):
    C = frozenset(circuit)
    M = F.edges
    if gaps is None:
        gaps = [abs(F(C - {e}) - F(M - {e})) for e in C]
    if complete is None:
        complete = max(gaps) < 0.2
    if minimal is None:
        minimal = all(F(C - {e}) <= F(C) - 0.2 for e in C)
    holds = (abs(F(C) - F(M)) < 0.2, complete, minimal)
    return [word for word, true in zip(WORDS, holds, strict=True) if true]


@mutant("judge_circuit", says="You answer the same")
def constant_output(model, clean, corrupt, answer, ablation, circuit):
    return ["faithful", "complete", "minimal"]


@mutant("judge_circuit")
def knocks_out_of_the_circuit_alone(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    C = frozenset(circuit)
    return judge(F, C, gaps=[abs(F(C - {e}) - F(F.edges)) for e in C])


@mutant("judge_circuit")
def asks_what_the_rest_can_do(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    return judge(F, circuit, complete=F(F.edges - set(circuit)) < 0.2)


@mutant("judge_circuit")
def one_needed_edge_is_enough(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    C = frozenset(circuit)
    return judge(F, C, minimal=any(F(C - {e}) <= F(C) - 0.2 for e in C))


@mutant("judge_circuit")
def cuts_the_whole_model(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    C = frozenset(circuit)
    return judge(F, C, minimal=all(F(F.edges - {e}) <= F(F.edges) - 0.2 for e in C))


@mutant("judge_circuit")
def averages_over_the_edges(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    C = frozenset(circuit)
    cut, cut_model = (sum(F(S - {e}) for e in C) / len(C) for S in (C, F.edges))
    return judge(F, C, complete=abs(cut - cut_model) < 0.2, minimal=cut <= F(C) - 0.2)


@mutant("judge_circuit")
def takes_the_model_for_perfect(model, clean, corrupt, answer, ablation, circuit):
    F = Shares(model, clean, corrupt, answer, ablation)
    words = [word for word in judge(F, circuit) if word != "faithful"]
    return ["faithful", *words] if F(frozenset(circuit)) > 0.8 else words


@mutant("judge_circuit", "forgets_the_ablation")
def judge_forgets_the_ablation(model, clean, corrupt, answer, ablation, circuit):
    return judge(Shares(model, clean, corrupt, answer, "resample"), circuit)


@alternative("judge_circuit")
def one_run_at_a_time(model, clean, corrupt, answer, ablation, circuit):
    return judge(Shares(model, clean, corrupt, answer, ablation), circuit)[::-1]


# 9.5


def call_it(model, clean, corrupt, answer, ablation, edges):
    """Return the edges with the words for them."""
    return edges, judge(Shares(model, clean, corrupt, answer, ablation), edges)


def find_range(model, clean, corrupt, answer, wrong, ablation):
    """Measure how much the metric falls from the whole model to no edges."""
    _, n, w = measure_three(model, clean, corrupt, answer, wrong, [], ablation)
    return (w.mean() - n.mean()).item()


def rightness(answer):
    """Say whether each prompt is answered rightly, as a metric of the package."""

    def metric(logits):
        last = logits[:, -1]
        others = last.scatter(-1, answer.unsqueeze(-1), float("-inf"))
        return (last.gather(-1, answer.unsqueeze(-1))[:, 0] > others.amax(dim=-1) + 0.01).float()

    return metric


@mutant("find_circuit")
def tests_single_edges(model, clean, corrupt, answer, wrong, ablation):
    losses = patch_edges(model, clean, corrupt, rightness(answer), ablation, direction="noise")
    found = [edge for edge, loss in losses.items() if loss > 1e-6]
    return call_it(model, clean, corrupt, answer, ablation, found)


@mutant("find_circuit")
def trusts_the_gradient(model, clean, corrupt, answer, wrong, ablation):
    mask = torch.ones(1, len(list_edges(model)), requires_grad=True)
    value = measure_gaps(
        run_edges(model, clean, mask, write_outputs(model, corrupt, ablation))[0], answer, wrong
    ).mean()
    limit = 0.05 * find_range(model, clean, corrupt, answer, wrong, ablation)
    found = names_of(model, torch.autograd.grad(value, mask)[0][0] > limit)
    return call_it(model, clean, corrupt, answer, ablation, found)


@mutant("find_circuit")
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


@mutant("find_circuit")
def prunes_by_the_average(model, clean, corrupt, answer, wrong, ablation):
    found = find_circuit_acdc(
        model, clean, corrupt, lambda logits: measure_gaps(logits, answer, wrong), ablation, 0.05
    )
    return call_it(model, clean, corrupt, answer, ablation, sorted(found))


@mutant("find_circuit", "forgets_the_ablation")
def find_forgets_the_ablation(model, clean, corrupt, answer, wrong, ablation):
    found = find_circuit_acdc(model, clean, corrupt, rightness(answer), "resample", 1e-6)
    return call_it(model, clean, corrupt, answer, "resample", sorted(found))


@mutant("find_circuit")
def stops_at_the_whole_model(model, clean, corrupt, answer, wrong, ablation):
    return list_edges(model), ["faithful", "complete"]


@mutant("find_circuit")
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
