# %% [markdown]
# # 9 · Circuits
#
# After this lesson you can let an algorithm find which part of a model does a task, verify what it
# found, and say what it has left out.
#
# ## Idea
#
# Lesson 08 patched one edge at a time. Now ask for *all* edges that a task needs. Write the model
# as a graph. Its **nodes** are `input` (both embeddings), every head (`a0.h1`), every MLP (`m0`)
# and `logits`. An **edge** goes from a writer to a later reader that reads the stream:
# `a1.h0->logits`, and for heads to one of their inputs, as in `a0.h1->a1.h0<k>`.
#
# A **circuit** is a set of edges that does the task while all other edges are **off**. An edge that
# is off carries something else in place of what its writer writes: here, what the writer writes on
# a corrupt prompt (`write_outputs`). A **mask** has one number per edge, 1 for on and 0 for off:
# `mask_of(model, edges)` switches some on, `run_edges` runs the model under masks.
#
# Whoever says "this is the circuit" answers three questions
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Is it **faithful**: does it, alone, behave
# like the model? Is it **complete**: does it hold *everything* that can do the task, so that a cut
# hurts the circuit and the model alike? Is it **minimal**: does it hold nothing else? We begin with
# the induction model of lesson 04: two layers of two heads.

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.edges import EdgeScores, list_edges, mask_of, run_edges, write_outputs
from mini_transformer.methods import eap, find_circuit_acdc, make_divergence, measure_faithfulness

toy = toys.load("induction")
model = toy.model.requires_grad_(False)
# The corrupt prompt is an unrelated one, with another answer.
batch = toy.task.draw(32, corrupt="fresh")
edges = list_edges(model)
print(len(edges), "edges:", ", ".join(edges[:3]), "...", edges[-1])

# %% tags=["check"]
assert len(edges) == 29

# %% [markdown]
# ## Predict
#
# How many of the 29 edges does the model need? And if you keep as many edges, but at random: how
# much is left, from 0 (as with no edge) to 1 (as with all)?

# %%
my_edges = 29  # your guess
my_random_f = 0.5  # your guess

# %% [markdown]
# ## Build: faithfulness
#
# Let m be a metric of the task, averaged over prompts: here the logit of the answer minus that of
# the corrupt prompt's answer. m of no edges is what the corrupt run gives, m of all edges is the
# model's. Their difference is the **whole effect**. On the scale on which they are 0 and 1, the
# value of a circuit is its **faithfulness**:
#
# f(C) = (m(C) - m(nothing)) / (m(model) - m(nothing))


# %%
def make_measure(model, batch, metric, ablation="resample"):
    """Make the mean metric a function of a mask."""
    off = write_outputs(model, batch.corrupt, ablation)  # what edges carry when they are off

    def measure(mask):
        masks = mask.unsqueeze(0)  # run_edges takes many, one per row
        logits = run_edges(model, batch.clean, masks, off)[0]
        return metric(logits).float().mean()

    return measure


def measure_effect(measure, n_edges):
    """Measure the whole effect: m(model) - m(nothing)."""
    return (measure(torch.ones(n_edges)) - measure(torch.zeros(n_edges))).item()


def compute_faithfulness(measure, mask):
    """Compute f of the edges that a mask keeps."""
    nothing = measure(torch.zeros_like(mask))
    return (measure(mask) - nothing).item() / measure_effect(measure, len(mask))


measure = make_measure(model, batch, batch.logit_difference)
inputs = model, batch.clean, batch.corrupt, batch.logit_difference
whole_effect = measure_effect(measure, 29)
# What the unembedding reads, and nothing else.
late = [edge for edge in edges if edge.endswith("logits")]
f_late = compute_faithfulness(measure, mask_of(model, late))
print(f"whole effect {whole_effect:.0f}; edges into the logits alone: f = {f_late:.2f}")

# %% tags=["check"]
assert abs(f_late - measure_faithfulness(*inputs, [late]).item()) < 1e-4
assert (round(f_late, 2), round(whole_effect)) == (0.01, 28)

# %% [markdown]
# The unembedding hears all writers, and yet f is .01: heads that hear only the corrupt prompt say
# what they say there. A circuit needs whole paths, from `input` on.
#
# ### Exercise 9.1: node_faithfulness
# Measure circuits that are given by their nodes, with any ablation. `minilab grade 09`
#
# ## Build: prune
#
# Nobody can try all sets of 29 edges: there are 2 to the power of 29. **ACDC**
# ([Conmy et al. 2023](https://arxiv.org/abs/2304.14997)) is greedy. Begin with all edges on; go
# from the logits back to the input; switch each edge off in what is left, and if the metric drops
# by less than a limit *below its last value*, leave it off.


# %%
def prune(measure, edges, limit):
    """Prune by ACDC: cut, from the last edge to the first, all that cost less than `limit`."""
    mask = torch.ones(len(edges))
    value = measure(mask)
    for i in reversed(range(len(edges))):
        trial = mask.clone()
        trial[i] = 0.0
        trial_value = measure(trial)
        if value - trial_value < limit:
            mask = trial
            value = trial_value
    return {edge for edge, on in zip(edges, mask, strict=True) if on}


circuit = prune(measure, edges, limit=0.1 * whole_effect)
kept = mask_of(model, circuit)
f = compute_faithfulness(measure, kept)
print(f"{len(circuit)} of 29 edges (you: {my_edges}), f = {f:.2f}:", *sorted(circuit), sep="\n")
roles = {"a0.h1": "previous token", "a1.h0": "match and copy", "a1.h1": "match and copy"}
title = "the circuit; a letter says which input is entered"
plots.plot_circuit(model, circuit, roles=roles, title=title)
plt.show()

# %% tags=["check"]
assert circuit == find_circuit_acdc(*inputs, tau=0.1)
assert (len(circuit), round(f, 2)) == (9, 0.98)
for share in (0.02, 0.05, 0.2):
    assert circuit == prune(measure, edges, limit=share * whole_effect)
steers = 1 - mask_of(model, ["input->a0.h1<q>", "input->a0.h1<k>"])
assert make_measure(model, batch, batch.correct, "zero")(steers) == 1

# %% [markdown]
# Nine edges, the story of lesson 03 twice: `a0.h1` reads tokens, both heads of layer 1 hear it in
# their keys, and both copy. `a0.h1` needs no edge into its queries and keys: they read positions,
# which this model adds at the head. What costs less than the limit is lost, and small losses add
# up. A good limit lies in a gap: .02, .05, .1 and .2 of the whole effect give the same nine edges.
# Say which you took.
#
# Faithful, then. For the other two questions cut each of the nine once more, in the circuit and in
# the whole model. If every cut costs the circuit something, it is minimal. If the model loses as
# much, nothing outside stands in: a sign that it is complete. Wang et al. ask more: circuit and
# model must agree after *every* set of cuts inside the circuit. The empty set is one of them, so a
# complete circuit is faithful. Nine edges have 512 sets: few enough to try them all.

# %%
lost, lost_by_model = {}, {}
for edge in sorted(circuit):
    cut = mask_of(model, [edge])
    lost[edge] = f - compute_faithfulness(measure, kept - cut)
    lost_by_model[edge] = 1 - compute_faithfulness(measure, 1 - cut)
    print(f"{edge:16} the circuit loses {lost[edge]:.2f}, the model {lost_by_model[edge]:.2f}")

every_set = [set(some) for size in range(10) for some in combinations(circuit, size)]
cut_circuits = [circuit - some for some in every_set]
cut_models = [set(edges) - some for some in every_set]
f_circuits = measure_faithfulness(*inputs, cut_circuits)
f_models = measure_faithfulness(*inputs, cut_models)
apart = (f_circuits - f_models).abs().max().item()
print(f"{len(every_set)} sets of cuts: circuit and model differ by {apart:.2f} at most")

# %% tags=["check"]
assert min(lost.values()) > 0.2  # minimal
assert max(abs(lost[edge] - lost_by_model[edge]) for edge in circuit) < 0.02
assert (len(every_set), round(apart, 2)) == (512, 0.04)  # complete

# %% [markdown]
# ## Trap: better than the model
#
# Models have heads that work *against* the answer (the negative name movers of Wang et al.). We
# plant one in the hand-set toy, whose edges have the same names: its idle `a1.h1` becomes a copy of
# `a1.h0` with output times -0.8. Every answer is still right. Which edges will `prune` find?

# %%
hand_task = toys.load("induction_by_hand").task
with_opponent = toys.load("induction_by_hand").model.requires_grad_(False)
attn = with_opponent.blocks[1].attn
for W in (attn.W_Q, attn.W_K, attn.W_V, attn.W_O):
    W[1] = W[0]  # head 1 becomes a copy of head 0
attn.W_O[1] *= -0.8
hand = hand_task.draw(32, corrupt="fresh")
hand_measure = make_measure(with_opponent, hand, hand.logit_difference)
five = prune(hand_measure, edges, limit=0.05 * measure_effect(hand_measure, 29))
too_good = compute_faithfulness(hand_measure, mask_of(with_opponent, five))
print(f"f = {too_good:.1f}, {len(five)} edges:", *sorted(five))

# %% tags=["check"]
assert hand.accuracy(with_opponent) == 1
assert (len(five), round(too_good, 2), any("a1.h1" in edge for edge in five)) == (5, 5, False)

# %% [markdown]
# Faithfulness 5: the circuit does five times what the model does. Cutting the opponent *raises* the
# metric, so its edges cost nothing. The circuit does the task, but it does not behave like the
# model: f far above 1 is as much of a warning as f far below.
#
# As published, ACDC asks how far the predictions move from the model's, up or down: by their **KL
# divergence**, which is 0 for equal predictions and positive for all others. `make_divergence`
# returns it with a minus, so that moving away is a loss. Now the opponent's four edges stay as
# well, and f is 1:

# %%
minus_kl = make_divergence(with_opponent, hand.clean, position=-1)
careful = prune(make_measure(with_opponent, hand, minus_kl), edges, limit=0.05)  # nats
f_careful = compute_faithfulness(hand_measure, mask_of(with_opponent, careful))
print(f"{len(careful)} edges, f = {f_careful:.2f}; new:", *sorted(careful - five))

# %% tags=["check"]
assert five < careful
assert len([edge for edge in careful - five if "a1.h1" in edge]) == 4
assert abs(f_careful - 1) < 0.01

# %% [markdown]
# ### Exercise 9.2: prune_by_divergence
# Write the published form. `minilab grade 09`
#
# ## Build: one gradient for all edges
#
# One run per edge is too much for a large model. In lesson 08 one gradient estimated all patches;
# with masks this takes three lines. The gradient of the metric with respect to an edge's number in
# the mask, with everything on, is its **edge attribution patching** score, EAP
# ([Syed et al. 2023](https://arxiv.org/abs/2310.10348)). It has the limit that you know: a
# saturated softmax has no gradient. So *integrate*, too: average the gradients on the way from all
# off to all on. **EAP-IG** ([Hanna et al. 2024](https://arxiv.org/abs/2403.17806)) takes another
# path: it moves the embeddings from corrupt to clean.
#
# `EdgeScores` holds one number per edge; `.top(n)` names the n edges with the largest. `eap` with
# `along="masks"` integrates as just said.


# %%
def attribute(measure, n_edges):
    """Estimate by one gradient what cutting each edge would cost."""
    mask = torch.ones(n_edges, requires_grad=True)
    return torch.autograd.grad(measure(mask), mask)[0]


slopes = attribute(measure, len(edges))
scores = {"one gradient": EdgeScores(model, slopes)}
scores["integrated"] = eap(*inputs, steps=20, along="masks")

# %% tags=["check"]
torch.testing.assert_close(slopes, eap(*inputs).values, rtol=1e-3, atol=1e-3)
# They add up to the whole effect.
assert abs(scores["integrated"].values.sum().item() / whole_effect - 1) < 0.02

# %% [markdown]
# ### Exercise 9.3: integrate_masks
# Write the integrated form. `minilab grade 09`
#
# ## Look
#
# Keep the edges with the largest scores, one more at a time, and measure f. As in the published
# code, "largest" is by absolute value: what works against the answer belongs to the circuit, too.
# Expect the integrated scores to come close to 1 at nine edges. The single gradient gets there
# later: it misses an edge into a saturated softmax. The **control** is 50 random orders: expect
# nearly nothing at nine.


# %%
def rank_by_size(score, model):
    """Name all edges, the largest absolute score first."""
    return EdgeScores(model, score.values.abs()).top(len(edges))


def measure_growth(order):
    """Measure f of the first 0, 1, 2, ... edges of an order."""
    return measure_faithfulness(*inputs, [order[:size] for size in range(30)])


orders = {name: rank_by_size(score, model) for name, score in scores.items()}
curves = {name: measure_growth(order).tolist() for name, order in orders.items()}
generator = torch.Generator().manual_seed(0)
shuffled = [[edges[i] for i in torch.randperm(29, generator=generator)] for _ in range(50)]
by_chance = torch.stack([measure_growth(order) for order in shuffled])
curves["random, mean of 50"] = by_chance.mean(dim=0).tolist()
curves["random, best of 50"] = by_chance.amax(dim=0).tolist()
ax = plots.plot_curves(range(30), curves, moment=(9, "nine edges"))
ax.set(xlabel="edges kept, largest score first", ylabel="faithfulness (1: as the model)")
plt.show()

# %%
title = "integrated scores; behind them, what pruning kept"
plots.plot_circuit(model, scores["integrated"], truth=circuit, title=title)
plt.show()
at_nine = {name: round(curve[9], 2) for name, curve in curves.items()}
print("f with nine edges:", at_nine, f"your guess for random: {my_random_f}")

# %% tags=["check"]
nine = {name: set(order[:9]) for name, order in orders.items()}
by_inputs = eap(*inputs, steps=20, along="inputs")  # EAP-IG
assert nine["integrated"] == set(rank_by_size(by_inputs, model)[:9]) == circuit
assert nine["one gradient"] == circuit - {"a0.h1->a1.h1<k>"} | {"input->logits"}
assert list(at_nine.values()) == [0.72, 0.98, 0.08, 0.32]

# %% [markdown]
# The nine largest integrated scores, and those of EAP-IG, belong to the nine edges of pruning. One
# gradient puts `input->logits` before a key, and f is .72. Nine edges at random keep .08 on
# average, and .32 at best.
#
# ## Control: a model that knows nothing
#
# What does pruning find in an untrained model? It *will* return something.

# %%
untrained = Transformer(model.config, seed=0).requires_grad_(False)
blank = make_measure(untrained, batch, batch.logit_difference)
small = measure_effect(blank, 29)
neat = prune(blank, edges, limit=0.1 * small)
f_neat = compute_faithfulness(blank, mask_of(untrained, neat))
unseen = toy.task.draw(256, seed=2, corrupt="fresh")
small_unseen = measure_effect(make_measure(untrained, unseen, unseen.logit_difference), 29)
effects = []
for seed in range(10):
    other = Transformer(model.config, seed=seed)
    effects.append(measure_effect(make_measure(other, batch, batch.logit_difference), 29))
print(f"untrained: {len(neat)} edges, f = {f_neat:.2f}, of a whole effect of {small:.2f}; ", end="")
print(f"on 256 new prompts it is {small_unseen:.3f}")
print(f"whole effect of ten untrained models: {min(effects):.2f} to {max(effects):.2f}")

# %% tags=["check"]
assert (len(neat), round(f_neat, 1), small < 0.1, small_unseen < 0) == (5, 1.2, True, True)
assert max(map(abs, effects)) < 0.1

# %% [markdown]
# The untrained model has a neat circuit of five edges with f = 1.2, found in noise. Two things give
# it away: the whole effect is below .1, as in all ten untrained models (the trained model's is 28),
# and on new prompts it is negative. So say how large the whole effect is, and measure f on prompts
# that the search has not seen.
#
# ## Trap: a circuit is the answer to a question
#
# The same weights, the hand-set toy as it was; only what an edge carries when it is off changes.
# "source" exchanges the earlier token that must be matched, "answer" the one after it. Will the
# circuits be the same?

# %%
by_hand = toys.load("induction_by_hand").model.requires_grad_(False)
sizes = []
for corrupt, ablation in (
    ("fresh", "zero"),
    ("fresh", "resample"),
    ("source", "resample"),
    ("answer", "resample"),
):
    pairs = hand_task.draw(32, corrupt=corrupt)
    pairs_measure = make_measure(by_hand, pairs, pairs.logit_difference, ablation)
    left = prune(pairs_measure, edges, limit=0.05 * measure_effect(pairs_measure, 29))
    sizes.append(len(left))
    print(f"{ablation}, {corrupt}:", *sorted(left))

# %% tags=["check"]
assert sizes == [7, 5, 3, 2]

# %% [markdown]
# Seven, five, three and two edges. Zeros take away the positions, which every prompt shares and no
# corrupt prompt changes. "source" shows only how the match is made, "answer" only how the token is
# copied. A circuit belongs to a metric, prompts and an ablation
# ([Miller et al. 2024](https://arxiv.org/abs/2407.08734) measure how much).
#
# ## Trap: several right circuits
#
# In `backup_head` (lesson 06) `a3.h0` says the answer if `a2.h0` is silent. Off means zero here,
# and the metric is the share of right answers. Prune once as before, and once with `a2.h0` silent
# from the start. Then cut one edge, `input->a2.h0<v>`, in the whole model and in the circuit that
# holds it. Commit: which of these two still answers?

# %%
my_guess = "neither"  # "the circuit", "the model", "both" or "neither"

# %%
backup = toys.load("backup_head")
prompts = backup.task.everything().distinct()
backup_edges = list_edges(backup.model.requires_grad_(False))
share_right = make_measure(backup.model, prompts, prompts.correct, "zero")
silent = 1 - mask_of(backup.model, [edge for edge in backup_edges if edge.startswith("a2.h0->")])
first = prune(share_right, backup_edges, limit=0.01)
second = prune(lambda mask: share_right(mask * silent), backup_edges, limit=0.01)
print("only in the first:", *sorted(first - second))
print("only in the second:", *sorted(second - first))

cut = mask_of(backup.model, ["input->a2.h0<v>"])
of_circuit = share_right(mask_of(backup.model, first) - cut).item()
of_model = share_right(1 - cut).item()
print(f"right after the cut: circuit {of_circuit:.0%}, model {of_model:.0%} (you: {my_guess})")

# %% tags=["check"]
# Both are right, and minimal.
assert {frozenset(first), frozenset(second)} <= set(backup.truth.circuits["zero"].edges)
assert (len(first), len(second), len(first & second), of_circuit, of_model) == (8, 8, 4, 0, 1)

# %% [markdown]
# Both circuits are right, and share four of their eight edges: judged by the one, the other looks
# half wrong. Each is faithful and minimal, and not complete: the damaged model goes on, the damaged
# circuit does not. Which one ACDC finds depends on the order in which it tries the edges, which
# nothing prescribes.
#
# ### Exercise 9.4: judge_circuit
# Put the three questions to any circuit. `minilab grade 09`
#
# ## What automation leaves out
#
# Three models compute x AND y, x OR y, x XOR y. Prune all three.

# %%
gates = []
for name in ("boolean_and", "boolean_or", "boolean_xor"):
    gate = toys.load(name)
    prompts = gate.task.everything()
    gate_edges = list_edges(gate.model.requires_grad_(False))
    gates.append(prune(make_measure(gate.model, prompts, prompts.correct), gate_edges, limit=0.01))
print(*map(sorted, gates), sep="\n")

# %% tags=["check"]
assert gates[0] == gates[1] == gates[2]

# %% [markdown]
# One circuit, three functions. Edges say who talks to whom. They do not say *what* flows along
# them, at which positions, or what the reader makes of it; and the search was told where to look,
# by prompts and a metric that somebody chose. A circuit is where the work of lessons 04 to 08
# begins. Whoever then says what flows can test it by **causal scrubbing**
# ([Chan et al. 2022](https://www.alignmentforum.org/posts/JvZhhzycHu2Yd57RN)): replace each
# activation by that of another prompt in which, according to the claim, it means the same.
#
# ## Claim card
#
# The claim is checked on prompts that the search has not seen.


# %%
def measure_unseen(circuits):
    """Return the largest f of some circuits on the new prompts."""
    new = unseen.clean, unseen.corrupt, unseen.logit_difference
    return measure_faithfulness(model, *new, circuits).max().item()


card = ClaimCard(
    claim="Nine edges carry induction: a0.h1 into the keys of both heads of layer 1, "
    "which copy what they attend to.",
    model="induction, seed 0, 2 layers of 2 heads",
    task=toy.task.description,
    data="circuit found on 32 prompts, seed 0; checked on 256 others, seed 2",
    components=", ".join(sorted(circuit)),
    intervention="all other edges carry what is written on unrelated prompts; "
    "metric: logit difference",
    effect=Measurement(
        "f of the nine edges", lambda: measure_unseen([circuit]), low=0.95, high=1.05
    ),
    control=Measurement(
        "best f of 50 random sets of nine edges",
        lambda: measure_unseen([order[:9] for order in shuffled]),
        high=0.5,
    ),
    refuted_by="f far from 1 on other prompts, or random sets that do as well",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 9.5: find_circuit
# In unknown models, find a circuit and say what it is worth. Gradients can mislead, and so can
# cutting one edge of the whole model. And a mean over prompts can hide a failure: a surplus on one
# prompt makes up for a lack on another. `minilab grade 09`
#
# ## On real models
#
# On GPT-2 small ACDC kept 68 of 32,000 edges for "greater than", all of them found by hand before
# (Conmy et al.). EAP-IG finds more faithful circuits than EAP, though both share most nodes with
# published ones: overlap is no substitute for faithfulness (Hanna et al.). The number hangs on how
# one ablates: by other choices, two well-known circuits are much less faithful than reported
# (Miller et al.). And of six circuits, those set by hand pass tests like ours, those found in
# trained models only in part ([Shi et al. 2024](https://arxiv.org/abs/2410.13032)).
#
# Next: lesson 10, where one direction of the stream has to serve more features than one.
