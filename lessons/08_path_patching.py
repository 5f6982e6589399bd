# %% [markdown]
# # 8 · Path patching
#
# After this lesson you can
#
# - say through which input of which later part a head takes effect;
# - tell its direct from its indirect effect;
# - estimate all patches by one gradient, and say when the estimate is wrong.
#
# ## Idea
#
# A patch of a head (lesson 07) changes what *everybody* after it reads. It measures the head's
# **total effect**, and does not say who needed the change.
#
# There is an **edge** from each writer to each later **reader** (lesson 03): the term that this
# writer adds to what this reader reads. A head is three readers, its queries, keys and values; the
# unembedding is one more, called `logits`. An edge is spelled `a0.h1->a1.h0<k>`.
#
# To patch an edge is to change that one term: this reader **hears** (reads in the stream) what the
# writer writes on the corrupt prompt, and all other readers hear what they always hear. What the
# reader then writes is different, too, and goes on from there. A chain of edges is a **path**,
# hence **path patching** ([Wang et al. 2022](https://arxiv.org/abs/2211.00593);
# [Goldowsky-Dill et al. 2023](https://arxiv.org/abs/2304.05969)).
#
# An edge here is direct: an MLP in between is another writer, and hears what it always hears. Wang
# et al. freeze only the heads in between and compute MLPs anew, so what goes through an MLP counts
# as part of the edge. (Our model has no MLP: both give the same.)
#
# Our model continues repeated blocks like the one of lesson 03, but was trained; it has two layers
# of two heads. `a0.h1` is its previous-token head. `a0.h0` has next to no part in this: a good
# control.
#
# We run clean prompts and patch corrupt values in (noising, lesson 07). A corrupt prompt is an
# unrelated one (`corrupt="fresh"`), so that everything a head writes is exchanged: a pair that
# differs in one thing shows less, as the last control will tell. The metric is the logit
# difference.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.play import embed

toy = toys.load("induction")
model = toy.model
batch = toy.task.draw(128, seed=0, corrupt="fresh")
whole = batch.logit_difference(model(batch.clean)).mean().item()
print(f"logit difference {whole:.1f}, right answers {batch.accuracy(model):.0%}")

# %% tags=["check"]
assert 14 < whole < 14.3
assert toy.truth.roles == {
    "previous": "a0.h1",
    "neighbour": "a0.h0",
    "match": "a1.h1",
    "second": "a1.h0",
}

# %% [markdown]
# ## Build: one edge
#
# To patch an edge, *add* to the reader's input: what the writer writes on the corrupt prompts minus
# what it writes on the clean ones. The activation `("result", layer)` is what each head of a layer
# writes; `names_filter` says which activations a cache keeps, here this one. The hooks
# `("q_input", layer)`, `("k_input", layer)` and `("v_input", layer)` hold a copy of the stream for
# each head of the layer, so that one can be changed alone. The unembedding reads the stream that
# leaves the last layer. The package has it as `patch_path`.


# %%
def read_change(model, batch, layer, head):
    """Return what a head writes on corrupt prompts minus on clean ones, (batch, pos, d_model)."""
    name = ("result", layer)  # (batch, pos, head, d_model)
    new, old = (
        model.run_with_cache(x, names_filter=name)[1][name] for x in (batch.corrupt, batch.clean)
    )
    return (new - old)[:, :, head]


def patch_edges(model, batch, change, readers):
    """Return the logits of the clean run in which these readers hear a writer changed.

    Each reader is (layer, head, part) or "logits".
    """
    hooks = []
    for reader in readers:
        if reader == "logits":
            last = model.config.n_layers - 1
            hooks.append((("resid_post", last), lambda stream, hook: stream + change))
            continue
        layer, head, part = reader

        def add(streams, hook, head=head):  # streams: (batch, pos, head, d_model)
            streams[:, :, head] += change

        hooks.append(((f"{part}_input", layer), add))
    return model.run_with_hooks(batch.clean, fwd_hooks=hooks)


change = read_change(model, batch, 0, 1)

# %% tags=["check"]
mine = patch_edges(model, batch, change, [(1, 0, "k")])
theirs = methods.patch_path(model, batch.clean, batch.corrupt, "a0.h1->a1.h0<k>->logits")
torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## Predict
#
# Seven edges leave `a0.h1`: to the queries, keys and values of two heads, and to `logits`. How many
# of them, patched one at a time, cost more than a tenth of what patching all seven costs?

# %%
my_count = 3  # your guess

seven = [f"a0.h1->a1.h{head}<{part}>" for head in range(2) for part in "qkv"] + ["a0.h1->logits"]
plots.plot_circuit(model, seven, roles={"a0.h1": "writer"}, title="seven edges leave a0.h1")
plt.show()


# %%
def measure_cost(change, readers, model=model, batch=batch):
    """Measure how much of the metric is lost when these readers hear this change."""
    clean = batch.logit_difference(model(batch.clean)).mean()
    patched = batch.logit_difference(patch_edges(model, batch, change, readers)).mean()
    return (clean - patched).item()


readers = [(1, head, part) for head in range(2) for part in "qkv"] + ["logits"]
total = measure_cost(change, readers)
costs = {reader: measure_cost(change, [reader]) for reader in readers}
for reader, cost in costs.items():
    print(f"a0.h1 -> {reader!s:12} {cost:6.2f}")
plots.plot_circuit(
    model, dict(zip(seven, costs.values(), strict=True)), title="as broad as they cost"
)
plt.show()
found = [reader for reader, cost in costs.items() if cost > total / 10]
print(f"all seven {total:.2f}; more than a tenth: {len(found)} edges, you said {my_count}")

# %% tags=["check"]
assert found == [(1, 0, "k"), (1, 1, "k")]
assert abs(total - 13.65) < 0.01
assert max(abs(cost) for reader, cost in costs.items() if reader not in found) < 0.06

# %% [markdown]
# Two: the keys of both heads, which match what `a0.h1` wrote. The other five cost less than 0.06
# each. The edge into keys that you *set* in lesson 03, training has found as well.
#
# ### Exercise 8.1: patch_edge
# One edge between two heads, in any model. Stubs are in `exercises/ex08_path_patching.py`;
# `minilab grade 08` checks them.
#
# ## Control
#
# Would *anything* added to those keys do this? Try four changes that should not matter: random
# vectors of the same lengths; the change that `a0.h0`, the neighbour, makes; the same edges in
# untrained models; and other corrupt prompts, in which only the token to be copied is another one.
# What is random is drawn twenty times.

# %%
keys = [(1, 0, "k"), (1, 1, "k")]
neighbour = read_change(model, batch, 0, 0)
by_keys = measure_cost(change, keys)
by_neighbour = measure_cost(neighbour, keys)
copied = toy.task.draw(128, seed=0, corrupt="answer")
by_copied = measure_cost(read_change(model, copied, 0, 1), keys, batch=copied)
by_noise, by_untrained = [], []
for seed in range(20):
    noise = torch.randn(change.shape, generator=torch.Generator().manual_seed(seed))
    noise *= change.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    by_noise.append(measure_cost(noise, keys))
    blank = Transformer(model.config, seed=seed)
    by_untrained.append(measure_cost(read_change(blank, batch, 0, 1), keys, blank))
print(f"both keys {by_keys:.2f}, random {min(by_noise):.2f} to {max(by_noise):.2f}, ", end="")
print(f"neighbour {by_neighbour:.2f}, untrained {min(by_untrained):.2f} to ", end="")
print(f"{max(by_untrained):.2f}, another token to copy {by_copied:.2f}")

# %% tags=["check"]
assert round(by_keys, 1) == 13.5
assert [round(each, 1) for each in (min(by_noise), max(by_noise))] == [0.6, 1.5]
assert max(abs(by_neighbour), abs(by_copied), *map(abs, by_untrained)) < 0.04

# %% [markdown]
# 13.5 against 0.6 to 1.5 for random vectors: some of the effect is mere disturbance, most is not.
# The others stay below 0.04. With the fourth control the right edges look idle, as the token
# *before* the one to be copied is the same in both: **an edge shows only what your two prompts
# differ in.**
#
# ## Direct and indirect
#
# The edge to `logits` carries a head's **direct effect**; all its other edges together carry its
# **indirect effect**.
#
# Back to the toy of lesson 06, in which a backup (`a3.h0`) acts only when the mover (`a2.h0`) is
# silent. Silence the mover, and the logit difference stays where it is: a total effect of 0. How
# much is lost by the direct and by the indirect effect?

# %%
my_direct, my_indirect = 0.0, 0.0  # your guess

# %%
backup = toys.load("backup_head")
prompts = backup.task.everything().distinct()  # all 60 prompts, each once
_, cache = backup.model.run_with_cache(prompts.clean, names_filter=("result", 2))
silence = -cache["result", 2][:, :, 0]  # the change to "writes nothing"
heads = [(3, head, part) for head in range(2) for part in "qkv"]
heard_by = {"total": [*heads, "logits"], "direct": ["logits"], "indirect": heads}
lost = {
    effect: round(measure_cost(silence, heard, backup.model, prompts), 2)
    for effect, heard in heard_by.items()
}
print(f"lost: {lost}, you: direct {my_direct}, indirect {my_indirect}")

# %% tags=["check"]
theirs = methods.split_effects(
    backup.model, prompts.clean, prompts.corrupt, prompts.logit_difference, ablation="zero"
)
assert lost == {effect: round(values["a2.h0"].item(), 2) for effect, values in theirs.items()}
assert lost == {"total": 0, "direct": 40, "indirect": -40}

# %% [markdown]
# **Two paths that cancel.** Logit attribution says that the mover writes the whole answer, ablation
# says that nobody misses it. Both are right, and only the two effects side by side show the backup,
# which gives back the 40.
#
# Here the two add up to the total, as the unembedding only adds. Through a final norm, or by a
# metric such as a probability, they need not.
#
# ### Exercise 8.2: split_head_effect
# All three effects of any head, through a final norm as well. (There an effect is patched minus
# clean, so a loss is negative.) `minilab grade 08`
#
# ## Build: one gradient for many patches
#
# Every patch costs a run, and the number of edges grows with the square of the number of heads.
# **Attribution patching**
# ([Nanda 2023](https://www.neelnanda.io/mechanistic-interpretability/attribution-patching); for
# edges [Syed et al. 2023](https://arxiv.org/abs/2310.10348)) pretends that the metric goes on as
# steeply as it starts: the estimate is the change times the gradient at the reader's input, in the
# clean run. In other words: put a **dial** on each change, from 0 (clean) to 1 (patched), and take
# the slope at 0. One backward pass gives the slopes of all dials.


# %%
def find_slopes(setting, changes, readers):
    """Find the slope of the cost in each dial, where these readers hear all changes.

    All dials stand at `setting`.
    """
    dials = torch.full((len(changes),), setting, requires_grad=True)
    dialled = sum(dial * change for dial, change in zip(dials, changes, strict=True))
    value = batch.logit_difference(patch_edges(model, batch, dialled, readers)).mean()
    return torch.autograd.grad(-value, dials)[0]


estimates = find_slopes(0.0, [neighbour, change], keys)

# %% tags=["check"]
run = model, batch.clean, batch.corrupt, batch.logit_difference
theirs = methods.eap(*run)
for writer in range(2):
    total_score = sum(theirs[f"a0.h{writer}->a1.h{reader}<k>"] for reader in range(2))
    torch.testing.assert_close(estimates[writer], total_score, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## Look
#
# Patching the edges from `a0.h1` into both keys cost 13.5. What will the gradient estimate?
#
# Turn the dial from 0 to 1. The estimate is the *tangent* at 0, dotted. Expect a straight line for
# the edge from `a1.h0` to `logits`, which the unembedding only multiplies, and a flat one for the
# neighbour's change of the keys (the control). And the keys?

# %%
my_estimate = 13.0  # your guess

# %%
later = read_change(model, batch, 1, 0)
lines = {
    "a0.h1 to both keys": (change, keys),
    "a1.h0 to logits": (later, ["logits"]),
    "a0.h0 to both keys (control)": (neighbour, keys),
}
settings = torch.arange(21) / 20
curves = {
    name: [measure_cost(setting * moved, heard) for setting in settings]
    for name, (moved, heard) in lines.items()
}
ax = plots.plot_curves(settings, curves, title="dotted: what the gradient at 0 expects")
for moved, heard in lines.values():
    ax.plot([0, 1], [0, find_slopes(0.0, [moved], heard).item()], "k:", linewidth=2)
ax.set(xlabel="dial: part of the change that is patched", ylabel="logit difference lost")
plt.show()
print(f"exact {by_keys:.2f}, estimate {estimates[1]:.2f}, you said {my_estimate}")

# %% tags=["check"]
assert 0.038 < estimates[1] / by_keys < 0.042  # one twenty-fifth
straight = find_slopes(0.0, [later], ["logits"]).item()
assert abs(straight - measure_cost(later, ["logits"])) < 1e-3  # exact
_, cache = model.run_with_cache(batch.clean, names_filter=("pattern", 1))
# An earlier copy of the last token stands before these positions.
after = (batch.clean[:, :-1] == batch.clean[:, -1:]).unsqueeze(1)
assert (cache["pattern", 1][:, :, -1, 1:] * after).sum(dim=-1).mean() > 0.97

# %% [markdown]
# One twenty-fifth of it. The matching heads are sure of themselves: more than 97% of their
# attention is on the right positions. Their softmax is **saturated**: a small change of the keys
# moves hardly any attention, a large one does. (You met such a slope in lesson 02.)
#
# There is a remedy: compute the attention with the patched keys exactly, as no other layer is
# needed for that, and use the gradient only from there on. This is one of the two remedies of
# **AtP\*** ([Kramár et al. 2024](https://arxiv.org/abs/2403.00745)). Here it is exact, for after
# the attention everything is linear.

# %%
logits, cache = model.run_with_cache(batch.clean, names_filter=("pattern", 1))
clean_pattern = cache["pattern", 1]
slope = torch.autograd.grad(batch.logit_difference(logits).mean(), clean_pattern)[0]
with model.hooks([(("k_input", 1), lambda keys_in, hook: keys_in + change.unsqueeze(2))]):
    pattern = model.run_with_cache(batch.clean, names_filter=("pattern", 1))[1]["pattern", 1]
remedied = ((clean_pattern - pattern) * slope).sum().item()
print(f"exact {by_keys:.2f}, estimate with exact attention {remedied:.2f}")

# %% tags=["check"]
assert abs(remedied - by_keys) < 0.01

# %% [markdown]
# **Touch it.** Cut edges by hand, until only those are left that the answer needs.

# %%
embed(toy, scene="edges", height=1000)

# %% [markdown]
# ### Exercise 8.3: attribute_heads
# One gradient for all heads of a model. `minilab grade 08`
#
# ## Build: walk instead of jump
#
# The whole cost is the integral of the slope, along the way from clean (0) to patched (1). So take
# the slope at many points and average it: **integrated gradients**
# ([Sundararajan et al. 2017](https://arxiv.org/abs/1703.01365)). For *one* change that gives the
# patch itself, at a higher price. It pays if many parts move together: a few gradients then split
# the whole cost, so that the **shares** add up to it. (If the parts interact, there is no single
# right split; this is that of the straight way, on which all move alike.) Here both heads of layer
# 0 move, heard by everybody.


# %%
def walk(steps, changes, readers):
    """Return the share of each change in the cost of patching all of them."""
    middles = [(step + 0.5) / steps for step in range(steps)]
    return sum(find_slopes(middle, changes, readers) for middle in middles) / steps


patched = measure_cost(neighbour + change, readers)
splits = {steps: walk(steps, [neighbour, change], readers) for steps in (1, 2, 5, 20)}
for steps, (of_h0, of_h1) in splits.items():
    print(f"{steps:2} steps: {of_h0:.2f} + {of_h1:.2f} = {of_h0 + of_h1:.2f}; ", end="")
    print(f"patched {patched:.2f}")

# %% tags=["check"]
assert abs(walk(20, [change], keys).item() - by_keys) < 0.01
theirs = methods.attribution_patch(*run, "z", "head", steps=20, direction="noise")[0]
torch.testing.assert_close(splits[20], whole - theirs.detach(), rtol=1e-3, atol=1e-3)
assert abs(splits[20].sum() - patched) < 0.02
assert (round(splits[1].sum().item(), 1), round(patched)) == (26.6, 14)

# %% [markdown]
# One step, in the steep middle, gives 26.6 in place of 14. So always compare the sum with the patch
# of everything.
#
# ### Exercise 8.4: integrate_heads
# Split a layer's effect among its heads. `minilab grade 08`
#
# ## Limits
#
# **Gradients also see too much.** Silence the mover of `backup_head` again: the gradient expects a
# loss of 40, for it does not know that the backup will wake up. The total is 0.

# %%
logits, cache = backup.model.run_with_cache(prompts.clean, names_filter=("z", 2))
slope = torch.autograd.grad(prompts.logit_difference(logits).mean(), cache["z", 2])[0]
expected = (cache["z", 2] * slope)[:, :, 0].sum().item()
print(f"the mover silent: gradient {expected:.1f}, total {lost['total']}")

# %% tags=["check"]
assert round(expected) == 40

# %% [markdown]
# The opposite happens, too: if the slopes of the direct and the indirect effect cancel, the
# gradient of a head that matters is 0. AtP\*'s second remedy repeats the estimate with the gradient
# blocked at each layer in turn, and averages the absolute values.
#
# ## Claim card

# %%
unseen = toy.task.draw(256, seed=1, corrupt="fresh")


def measure_part(some_readers):
    """Measure which part of the total effect goes through these readers, on new prompts."""
    change = read_change(model, unseen, 0, 1)
    part, total = (measure_cost(change, each, batch=unseen) for each in (some_readers, readers))
    return part / total


rest = [reader for reader in readers if reader not in keys]
card = ClaimCard(
    claim="a0.h1 takes effect through the keys of a1.h0 and a1.h1, and hardly in any other way.",
    model="induction, seed 0: 2 layers of 2 heads, trained",
    task=toy.task.description,
    data="256 new prompts, seed 1, each beside an unrelated one",
    components="the edges a0.h1->a1.h0<k> and a0.h1->a1.h1<k>",
    intervention="these edges carry what a0.h1 writes on the unrelated prompt",
    effect=Measurement("part of the total effect", lambda: measure_part(keys), low=0.95, high=1.05),
    control=Measurement("by its other edges", lambda: measure_part(rest), low=-0.02, high=0.02),
    refuted_by="an effect of the two edges far from the total, or one of the other five",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 8.5: find_feeding_edges
# Unknown models, and one head in each: who feeds its queries, its keys, its values?
# `minilab grade 08`
#
# ## On real models
#
# Path patching, backwards from the logits, found 26 heads of GPT-2 small that say who received
# something in sentences with two names (Wang et al.). Attribution patching is decent for single
# heads and bad for whole streams, whose change is too large for a tangent (Nanda). On Pythia models
# of up to 12 billion parameters it misses nodes that matter, for the two reasons above, and AtP\*
# fewer (Kramár et al.). Both are filters: patch what they name.
#
# One edge at a time misses what another edge does as well. Next: lesson 09, which puts edges
# together to circuits.
