# %% [markdown]
# # 8 · Path patching
#
# After this lesson you can say through which input of which later part a head takes effect, tell
# its direct from its indirect effect, and estimate all patches at once by a gradient, and you know
# when that estimate is wrong.
#
# ## Idea
#
# A patch of a head (lesson 07) changes what *everybody* after it reads. It measures the head's
# **total effect**, and does not say who listened.
#
# Each part of a model reads a stream that is a sum over writers (lesson 01). So there is an
# **edge** from each writer to each later **reader**: the term that this writer adds to what this
# reader reads. A head is three readers, its queries, keys and values; the unembedding is one more,
# called `logits`. Writers are the heads (and MLPs), and `input`, the sum of the embeddings. An edge
# is spelled `a0.h1->a1.h0<k>`.
#
# To patch an edge is to change that one term: this reader **hears** what the writer writes on the
# corrupt prompt, and all other readers hear what they always hear. What the reader then writes is
# different, too, and goes on from there. A chain of edges is a **path**, hence **path patching**
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593);
# [Goldowsky-Dill et al. 2023](https://arxiv.org/abs/2304.05969)).
#
# An edge here is direct: an MLP in between is another writer, and hears what it always hears. Wang
# et al. freeze only the heads in between and compute MLPs anew, so what goes through an MLP counts
# as part of the edge. Say which you mean. (Our model has no MLP, so that both give the same.)
#
# Our model continues repeated blocks like the one of lesson 03, but was trained; it has two layers
# of two heads. `a0.h1` is its previous-token head, and both heads of layer 1 match what it wrote.
# `a0.h0` has next to no part in this: a good control.
#
# We run clean prompts and patch corrupt values in (noising, lesson 07); a corrupt prompt is an
# unrelated one (`corrupt="fresh"`). The metric is the logit difference: the right answer's logit
# minus that of the corrupt prompt's answer.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.diagrams import draw_circuit

toy = toys.load("induction")
model = toy.model
batch = toy.task.draw(128, seed=0, corrupt="fresh")
whole = batch.logit_difference(model(batch.clean)).mean().item()
print(f"logit difference {whole:.1f}, right answers {batch.accuracy(model):.0%}")

path = ["a0.h1->a1.h0<k>", "a1.h0->logits"]
roles = {"a0.h1": "writer", "a1.h0": "hears it in its keys"}
draw_circuit(model, path, roles, title="an edge into the keys (k) of a head, and on to the logits")
plt.show()

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
# leaves the last layer. The package's `patch_path` gives the same here, since from layer 1 the only
# way on is to `logits`.


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
        # What the unembedding reads has no axis of heads.
        name = ("resid_post", -1)
        head = slice(None)
        if reader != "logits":
            layer, head, part = reader
            name = (f"{part}_input", layer)

        def add(stream, hook, head=head):  # stream: (batch, pos, head, d_model)
            stream[:, :, head] += change

        hooks.append((name, add))
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


# %%
def measure_effect(change, readers, model=model, batch=batch):
    """Measure how much the metric changes when these readers hear this change."""
    runs = patch_edges(model, batch, change, readers), model(batch.clean)
    patched, clean = (batch.logit_difference(logits).mean().item() for logits in runs)
    return patched - clean


readers = [(1, head, part) for head in range(2) for part in "qkv"] + ["logits"]
total = measure_effect(change, readers)
effects = {reader: measure_effect(change, [reader]) for reader in readers}
for reader, effect in effects.items():
    print(f"a0.h1 -> {reader!s:12} {effect:6.2f}")
found = [reader for reader, effect in effects.items() if effect < total / 10]
print(
    f"all seven {total:.2f}; {len(found)} edges cost more than a tenth of it, you said {my_count}"
)

# %% tags=["check"]
assert found == [(1, 0, "k"), (1, 1, "k")]
assert abs(total + 13.65) < 0.01
assert max(abs(effect) for reader, effect in effects.items() if reader not in found) < 0.06

# %% [markdown]
# Two: the keys of both matching heads. The other five cost less than 0.06 each. The edge into keys
# that you *set* in lesson 03, training has found as well.
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
by_keys, by_neighbour = (measure_effect(x, keys) for x in (change, neighbour))
copied = toy.task.draw(128, seed=0, corrupt="answer")
by_copied = measure_effect(read_change(model, copied, 0, 1), keys, batch=copied)
by_noise, by_untrained = [], []
for seed in range(20):
    noise = torch.randn(change.shape, generator=torch.Generator().manual_seed(seed))
    noise *= change.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    by_noise.append(measure_effect(noise, keys))
    blank = Transformer(model.config, seed=seed)
    by_untrained.append(measure_effect(read_change(blank, batch, 0, 1), keys, blank))
print(f"both keys {by_keys:.2f}, random {min(by_noise):.2f} to {max(by_noise):.2f}, ", end="")
print(f"neighbour {by_neighbour:.2f}, untrained {min(by_untrained):.2f} to ", end="")
print(f"{max(by_untrained):.2f}, another token to copy {by_copied:.2f}")

# %% tags=["check"]
assert round(by_keys, 1) == -13.5
assert [round(each, 1) for each in (min(by_noise), max(by_noise))] == [-1.5, -0.6]
assert max(abs(by_neighbour), abs(by_copied), *map(abs, by_untrained)) < 0.04

# %% [markdown]
# 13.5 against 0.6 to 1.5 for random vectors: some of the effect is mere disturbance, most is not.
# The others stay below 0.04. On the last prompts the right edges look idle, as the token *before*
# the one to be copied is the same in both: **an edge shows only what your two prompts differ in.**
#
# ## Direct and indirect
#
# The edge to `logits` carries a head's **direct effect**; all its other edges together carry its
# **indirect effect**.
#
# Back to the toy of lesson 06, in which a backup (`a3.h0`) acts only when the mover (`a2.h0`) is
# silent. Silence the mover, and the logit difference stays where it is: a total effect of 0. What
# are the direct and the indirect effect?

# %%
my_direct, my_indirect = 0.0, 0.0  # your guess

# %%
spare = toys.load("backup_head")
prompts = spare.task.everything().distinct()  # all 60 prompts, each once
_, cache = spare.model.run_with_cache(prompts.clean, names_filter=("result", 2))
silence = -cache["result", 2][:, :, 0]  # the change to "writes nothing"
others = [(3, head, part) for head in range(2) for part in "qkv"]
split = {}
for effect, heard_by in (
    ("total", [*others, "logits"]),
    ("direct", ["logits"]),
    ("indirect", others),
):
    split[effect] = round(measure_effect(silence, heard_by, spare.model, prompts), 2)
print(split, f"you: direct {my_direct}, indirect {my_indirect}")

# %% tags=["check"]
theirs = methods.split_effects(
    spare.model, prompts.clean, prompts.corrupt, prompts.logit_difference, ablation="zero"
)
lost = {effect: values["a2.h0"].item() for effect, values in theirs.items()}
assert split == {effect: round(-loss, 2) for effect, loss in lost.items()}  # theirs: what is lost
assert split == {"total": 0, "direct": -40, "indirect": 40}

# %% [markdown]
# **Two paths that cancel.** Logit attribution says that the mover writes the whole answer, ablation
# says that nobody misses it. Both are right about their own question, and only the two effects side
# by side show the backup.
#
# Here the two add up to the total: both routes end in the stream that the unembedding reads, and it
# only adds. A final norm or a metric such as a probability does not only add; then they need not
# add up.
#
# ### Exercise 8.2: split_head_effect
# All three effects of any head, through a final norm as well. `minilab grade 08`
#
# ## Build: one gradient for many patches
#
# Every patch costs a run, and the number of edges grows with the square of the number of heads.
# **Attribution patching**
# ([Nanda 2023](https://www.neelnanda.io/mechanistic-interpretability/attribution-patching); for
# edges [Syed et al. 2023](https://arxiv.org/abs/2310.10348)) pretends that the metric goes on as
# steeply as it starts: the estimate is the change times the gradient at the reader's input, in the
# clean run. In other words: put a **dial** on each change, which says what part of it is
# patched, and take the slope at 0. One backward pass gives the slopes of all dials.


# %%
def find_slopes(part, changes, readers):
    """Find the slope of the metric in each dial, where all dials stand at `part`.

    These readers hear all changes.
    """
    dials = torch.full((len(changes),), part, requires_grad=True)
    moved = sum(dial * change for dial, change in zip(dials, changes, strict=True))
    value = batch.logit_difference(patch_edges(model, batch, moved, readers)).mean()
    return torch.autograd.grad(value, dials)[0]


estimates = find_slopes(0.0, [neighbour, change], keys)

# %% tags=["check"]
run = model, batch.clean, batch.corrupt, batch.logit_difference
theirs = methods.eap(*run)
for writer in range(2):
    lost = sum(theirs[f"a0.h{writer}->a1.h{reader}<k>"] for reader in range(2))
    torch.testing.assert_close(estimates[writer], -lost, rtol=1e-3, atol=1e-3)

# %% [markdown]
# Patching the edges from `a0.h1` into both keys cost 13.5. What will the gradient estimate?

# %%
my_estimate = -13.0  # your guess

# %%
print(f"exact {by_keys:.2f}, estimate {estimates[1]:.2f}, you said {my_estimate}")

# %% tags=["check"]
assert 0.038 < estimates[1] / by_keys < 0.042  # one twenty-fifth

# %% [markdown]
# ## Look
#
# One twenty-fifth of it. To see why, turn the dial from nothing (0) to the whole change (1). The
# estimate is the *tangent* at 0, dotted. Expect on the left, for the keys, a curve that hardly
# falls at first; on the right a straight line for the edge from `a1.h0` to `logits`, which the
# unembedding only multiplies, and a flat one for the neighbour's change of the keys (the control).


# %%
later = read_change(model, batch, 1, 0)
lines = {"a0.h1 to both keys": (change, keys), "a1.h0 to logits": (later, ["logits"])}
lines["a0.h0 to both keys (control)"] = neighbour, keys
parts = torch.arange(21) / 20
curves = {
    name: [measure_effect(x * moved, heard_by) for x in parts]
    for name, (moved, heard_by) in lines.items()
}
fig, axes = plt.subplots(1, 2, figsize=(11, 3.5), sharey=True, layout="constrained")
first, *rest = lines
for ax, names in zip(axes, ([first], rest), strict=True):
    plots.plot_curves(parts, {name: curves[name] for name in names}, ax)
    for name in names:
        moved, heard_by = lines[name]
        ax.plot([0, 1], [0, find_slopes(0.0, [moved], heard_by).item()], "k:", linewidth=2)
    ax.set(xlabel="part of the change that is patched")
axes[0].set_ylabel("change of the logit difference")
fig.suptitle("dotted: what the gradient at 0 expects")
plt.show()

# %% tags=["check"]
straight = find_slopes(0.0, [later], ["logits"]).item()
assert abs(straight - measure_effect(later, ["logits"])) < 1e-3  # exact
_, cache = model.run_with_cache(batch.clean, names_filter=("pattern", 1))
# An earlier copy of the last token stands before these positions.
after = (batch.clean[:, :-1] == batch.clean[:, -1:]).unsqueeze(1)
assert (cache["pattern", 1][:, :, -1, 1:] * after).sum(dim=-1).mean() > 0.97

# %% [markdown]
# The matching heads are sure of themselves: more than 97% of their attention is on the right
# positions. Their softmax is **saturated**: a small change of the keys moves hardly any attention,
# a large one does. (You met such a slope in lesson 02.)
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
remedied = ((pattern - clean_pattern) * slope).sum().item()
print(f"exact {by_keys:.2f}, estimate with exact attention {remedied:.2f}")

# %% tags=["check"]
assert abs(remedied - by_keys) < 0.01

# %% [markdown]
# ### Exercise 8.3: attribute_heads
# One gradient for all heads of a model. `minilab grade 08`
#
# ## Build: walk instead of jump
#
# Do not judge the way by its start: walk it, take the slope at many points, and average. This is
# **integrated gradients** ([Sundararajan et al. 2017](https://arxiv.org/abs/1703.01365)). The
# average slope times the length of the way is the height, so for *one* change it gives the patch
# itself, at a higher price. It pays if many parts move together: then a few gradients split the
# whole effect among them. Here both heads of layer 0 move, heard by everybody, and each gets its
# **share**.


# %%
def walk(steps, changes, readers):
    """Return the share of each change in the effect of patching all of them."""
    # Slopes are taken in the middles of the steps.
    return sum(find_slopes((step + 0.5) / steps, changes, readers) for step in range(steps)) / steps


patched = measure_effect(neighbour + change, readers)
splits = {steps: walk(steps, [neighbour, change], readers) for steps in (1, 2, 5, 20)}
for steps, (first, second) in splits.items():
    print(
        f"{steps:2} steps: {first:.2f} + {second:.2f} = {first + second:.2f}; patched {patched:.2f}"
    )

# %% tags=["check"]
assert abs(walk(20, [change], keys).item() - by_keys) < 0.01
theirs = methods.attribution_patch(*run, "z", "head", steps=20, direction="noise")[0]
torch.testing.assert_close(splits[20], theirs.detach() - whole, rtol=1e-3, atol=1e-3)
assert abs(splits[20].sum() - patched) < 0.02
assert (round(splits[1].sum().item(), 1), round(patched)) == (-26.6, -14)

# %% [markdown]
# One step, in the steep middle, gives 26.6 in place of 14. So always compare the sum with the patch
# of everything.
#
# ### Exercise 8.4: integrate_heads
# Split a layer's effect among its heads. `minilab grade 08`
#
# ## Limits
#
# **Gradients also see too much.** Silence the mover of `backup_head` again: the gradient expects
# -40, for it does not know that the backup will wake up. The total is 0.

# %%
logits, cache = spare.model.run_with_cache(prompts.clean, names_filter=("z", 2))
slope = torch.autograd.grad(prompts.logit_difference(logits).mean(), cache["z", 2])[0]
expected = (-cache["z", 2] * slope)[:, :, 0].sum().item()
print(f"the mover silent: gradient {expected:.1f}, total {split['total']}")

# %% tags=["check"]
assert round(expected) == -40

# %% [markdown]
# The mirror image goes unseen: where the slopes of the direct and of the indirect way cancel, the
# gradient shows nothing of a head that matters. AtP\*'s second remedy is for that: it stops the
# gradient at one layer at a time, and averages the sizes of what is left.
#
# ## Claim card

# %%
rest = [reader for reader in readers if reader not in keys]
card = ClaimCard(
    claim="a0.h1 takes effect through the keys of a1.h0 and a1.h1, and hardly in any other way.",
    model="induction, seed 0: 2 layers of 2 heads, trained",
    task=toy.task.description,
    data="128 prompts, seed 0, each beside an unrelated one",
    components="the edges a0.h1->a1.h0<k> and a0.h1->a1.h1<k>",
    intervention="these edges carry what a0.h1 writes on the unrelated prompt",
    effect=Measurement(
        "part of the total effect",
        lambda: measure_effect(change, keys) / total,
        low=0.95,
        high=1.05,
    ),
    control=Measurement(
        "by its other edges", lambda: measure_effect(change, rest) / total, low=-0.02, high=0.02
    ),
    refuted_by="an effect of the two edges far from the total, or one of the other five",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 8.5: find_feeding_edges
# Models that you have never seen, and one head in each: who feeds its queries, its keys, its
# values? `minilab grade 08`
#
# ## On real models
#
# Path patching, backwards from the logits, found the 26 heads by which GPT-2 small says the name
# that occurs once ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Attribution patching is
# decent for single heads and bad for whole streams (Nanda). On Pythia models of up to 12 billion
# parameters it misses nodes that matter, for the two reasons above, and AtP\* fewer (Kramár et
# al.). Both are filters: patch what they name.
#
# One edge at a time misses what another edge does as well. Next: lesson 09, which puts edges
# together to circuits.
