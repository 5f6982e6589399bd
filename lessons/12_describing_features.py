# %% [markdown]
# # 12 · Describing features
#
# After this lesson you can describe what makes a unit active, attribute an output to parts of an
# input, test both, and say what neither can tell.
#
# ## Idea
#
# A **unit** is one number inside a model: a neuron, or how far the stream goes along a direction. A
# **description** says what makes it active. Most are made from **max-activating examples**, the
# inputs on which the unit is highest. An **attribution** says how much each part of one input
# counts for an output.
#
# Both can be tested: a right description predicts activations on new inputs, a right attribution
# what happens when parts are changed.
#
# The toy `planted_features` has 64 sparse features in 32 dimensions. A prompt lists 1 to 4
# features, and the stream at its end is the sum of their directions. Our unit reads the sum of
# direction 40 and of 0.4 times each of 41 to 48.

# %%
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.toys.trained import modular_addition

toy = toys.load("planted_features")
truth = toy.truth.features
unit = truth.directions[40] + 0.4 * truth.directions[41:49].sum(dim=0)


def read(seed):
    """Return the unit's activation in 2,000 prompts, and which features each holds."""
    tokens = truth.draw(2000, seed)
    with torch.no_grad():
        stream = toy.model.run_with_cache(tokens)[1][truth.site][:, truth.position]
    return stream @ unit, truth.activations(tokens) > 0


activation, holds = read(seed=0)

# %% [markdown]
# ## Predict
#
# All of the ten prompts with the highest activation hold feature 40. Now take all prompts in which
# the unit is active, say above 0.3. Which share of them holds feature 40?

# %%
my_share = 0.5  # your guess, 0 to 1

# %% [markdown]
# ## Build: the top, and the whole range
#
# Sort the prompts by activation and cut them into **bands**. The package's functions are
# `find_max_activating`, `sample_bands` and, for statistics, `measure_units`.

# %%
order = activation.argsort(descending=True)
top = order[:10]
is_strong = holds[:, 40]
is_weak = holds[:, 41:49].any(dim=1) & ~is_strong
active = activation > 0.3
share = is_strong[active].float().mean().item()
print(f"feature 40: {is_strong[top].sum()} of the top 10, {share:.0%} of the active (you:", end=" ")
print(f"{my_share:.0%})\nmean {activation.mean():.2f}, median {activation.median():.2f}, ", end="")
print(f"highest {activation.max():.2f}, active in {active.float().mean():.0%}")

# %% tags=["check"]
where = toy.model, truth.draw(2000, 0), truth.site, unit[None]
package = methods.find_max_activating(*where, k=10, position=truth.position)
torch.testing.assert_close(package.value[0], activation[top])
package = methods.measure_units(*where, position=truth.position, threshold=0.3)
torch.testing.assert_close(package.density[0], active.float().mean())
assert is_strong[top].all()
assert round(share, 2) == 0.13

# %% [markdown]
# ## Look
#
# What do prompts of each band hold? Expect feature 40 at the right end. What fills the others?

# %%
bands = {"lower half": order[1000:], "next 40%": order[200:1000], "next 9%": order[20:200]}
bands["top 1%"] = order[:20]
kinds = {"feature 40": is_strong, "one of 41 to 48": is_weak, "neither": ~is_strong & ~is_weak}
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
below = np.zeros(4)
for (name, kind), colour in zip(
    kinds.items(), (plots.BLUE, plots.ORANGE, "lightgrey"), strict=True
):
    height = np.array([kind[band].float().mean().item() for band in bands.values()])
    ax.bar(list(bands), height, bottom=below, color=colour, label=name)
    below += height
ax.set(ylabel="share of prompts", xlabel="band of activation")
fig.legend(loc="outside right upper", frameon=False)
plt.show()

# %% tags=["check"]
weak_shares = [round(is_weak[band].float().mean().item(), 2) for band in bands.values()]
assert weak_shares == [0.09, 0.43, 0.58, 0.2]
assert active[bands["next 9%"]].all()

# %% [markdown]
# The top says "feature 40", yet 13% of the active prompts hold it. This is the **interpretability
# illusion** ([Bolukbasi et al. 2021](https://arxiv.org/abs/2104.07143)): examples at the top look
# alike, while most of what a unit does is further down. In the band below the top 1%, 58% hold one
# of the eight and not feature 40.
#
# ### Exercise 12.1: find_illusions
# Whose top examples give a wrong picture? The stub is in `exercises/ex12_describing_features.py`;
# `minilab grade 12` checks it, `minilab hint 12` helps.
#
# ## Score a description
#
# Let a description predict: the unit's mean where it holds, and the mean where it does not. Both
# means come from old prompts, the score from new ones. It is the share of variance that the
# prediction explains: 1 is perfect, 0 no better than the mean. **Control:** "feature 40" for
# shuffled activations, 100 times.


# %%
def score(says, activation, says_new, activation_new):
    """Return the share of variance that a description explains on new inputs."""
    yes, no = activation[says].mean(), activation[~says].mean()
    error = (torch.where(says_new, yes, no) - activation_new).square().mean()
    return (1 - error / activation_new.var()).item()


new_activation, new_holds = read(seed=1)
scores = {}
for name, features in {"feature 40": [40], "one of 40 to 48": range(40, 49)}.items():
    says, says_new = (each[:, list(features)].any(dim=1) for each in (holds, new_holds))
    scores[name] = score(says, activation, says_new, new_activation)
shuffled = []
for seed in range(100):
    mixed = torch.randperm(2000, generator=torch.Generator().manual_seed(seed))
    shuffled.append(score(is_strong, activation[mixed], new_holds[:, 40], new_activation))
print(*(f"{name}: {value:.0%}" for name, value in scores.items()), sep="\n")
print(f"shuffled: {min(shuffled):.0%} to {max(shuffled):.0%}")

# %% tags=["check"]
assert [round(value, 2) for value in scores.values()] == [0.2, 0.32]
assert -0.05 < min(shuffled) < max(shuffled) < 0.06

# %% [markdown]
# Right on all top examples, "feature 40" explains 20% of the variance. "At least one of the nine"
# explains 32%: it does not say which, how many, or how strongly. `describe_unit` searches for
# such formulas, and repeats the search on shuffled activations.
#
# ### Exercise 12.2: choose_descriptions
# Which description predicts each unit best on new inputs? `minilab grade 12`
#
# ## A neuron that training made
#
# A model adds a and b modulo 113. What does neuron 511, its last, like? Read its top ten.
# Before you look at the map of all: does it like numbers between those?

# %%
P = 113
adder = toys.load("modular_addition").model
pairs = modular_addition.list_pairs(P)


def read_neurons(model):
    """Return what all neurons hand on at the = of all pairs."""
    with torch.no_grad():
        return model.run_with_cache(pairs, names_filter=("post", 0))[1]["post", 0][:, -1]


neuron = read_neurons(adder)[:, 511]
liked = pairs[neuron.argsort(descending=True)[:10], :2]
print("top ten:", liked.tolist())
plt.figure(figsize=(4.6, 3.6), layout="constrained")
plt.imshow(neuron.view(P, P), origin="lower", cmap="Blues")
plt.colorbar(label="activation of neuron 511")
plt.gca().set(xlabel="b", ylabel="a")
plt.show()

mixed = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
old, new = mixed[:6000], mixed[6000:]
in_list = torch.isin(pairs[:, :2], liked).all(dim=1)


def explain_by_wave(neurons, turns=8):
    """Return the share of variance that a wave in a and b explains on new pairs, per neuron."""
    angle = pairs[:, :2] * turns * 2 * torch.pi / P
    waves = torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()], dim=2)
    products = torch.einsum("ni,nj->nij", waves[:, 0], waves[:, 1]).flatten(1)
    fit = torch.linalg.lstsq(products[old], neurons[old]).solution
    error = (products[new] @ fit - neurons[new]).square().mean(dim=0)
    return 1 - error / neurons[new].var(dim=0)


by_list = score(in_list[old], neuron[old], in_list[new], neuron[new])
by_wave = explain_by_wave(neuron[:, None]).item()
others = read_neurons(Transformer(adder.config))[:, :64]
untrained = torch.stack([explain_by_wave(others, turns) for turns in range(1, 57)]).nan_to_num()
print(f"list {by_list:.0%}, wave of 8 turns {by_wave:.0%}; untrained: up to {untrained.max():.0%}")

# %% tags=["check"]
assert liked.unique().tolist() == [36, 50, 64, 78, 79]
assert round(by_list, 2) == 0.01
assert round(by_wave, 2) == 0.97
assert round(untrained.max().item(), 2) == 0.15

# %% [markdown]
# "Both are among 36, 50, 64, 78 and 79" explains 1% of the variance on new pairs, a wave that goes
# round eight times 97% (64 untrained neurons, each with its best: at most 15%). The list names
# crests: they are 113 / 8, or about 14, apart.
#
# ## Feature synthesis
#
# Why look for examples in data? Climb the slope of the activation from random inputs
# ([Olah et al. 2017](https://distill.pub/2017/feature-visualization/)). Here the embeddings of a
# and b may become anything, if they keep the usual length.


# %%
def excite(tokens):
    return methods.read_units(adder, tokens, ("pre", 0))[:, -1, 511]


W_E = adder.W_E.detach()[:P]
start = torch.tensor([0, 0, P])
free = torch.randn(8, 2, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
optimizer = torch.optim.Adam([free], lr=0.1)


def make_embeddings():
    return torch.nn.functional.normalize(free, dim=-1) * W_E.norm(dim=1).mean()


def put(embedding, hook):
    embedding[:, :2] = make_embeddings()


reached = []
for _ in range(100):
    with adder.hooks([("embed", put)]):
        values = excite(start.expand(8, 3))
    reached.append(values.max().item())
    optimizer.zero_grad()
    (-values.sum()).backward()
    optimizer.step()
made = make_embeddings()[values.argmax()]
likeness = torch.cosine_similarity(made[:, None], W_E, dim=-1).max().item()
prompt = methods.synthesize_input(adder, start, excite, free=[0, 1], allowed=range(P))
print(f"any embedding: from {reached[0]:.1f} to {reached[-1]:.1f}; cosine with the nearest token ")
print(f"{likeness:.2f}; any pair: at most {neuron.max():.1f}, found {prompt.tokens.tolist()}")

# %% tags=["check"]
assert reached[0] < 5
assert round(reached[-1], 1) == 18.3
assert round(neuron.max().item(), 1) == 10.8
assert round(likeness, 2) == 0.62
assert prompt.value > neuron.max() - 1e-3

# %% [markdown]
# No pair reaches more than 10.8, the made-up input 18.3. It is like no number (cosine at most
# 0.62), and shows what *can* excite the neuron, not what ever does. The package's search ends in
# real tokens, here at the best pair.
#
# ### Exercise 12.3: excite_neurons
# Write the prompts that excite neurons most, where two tokens must come together. `minilab grade
# 12`
#
# ## Attribution
#
# How much does each token count? "Compared with what?" is part of the question: a token is taken
# away by putting a **baseline**, here 0, in its place. Five answers:
#
# - **saliency**: the length of the gradient with respect to the embedding;
# - **gradient times input**: the gradient times the change of the embedding;
# - **integrated gradients**: the same, the gradient averaged on the way from the baseline;
# - **occlusion**: what is lost without the token;
# - **Shapley value**: what the token adds when tokens come in one by one, averaged over all orders.
#
# Two bits, both 1, pass through a gate. Should all agree?


# %%
def measure(logits):
    return (logits[:, -1, 1] - logits[:, -1, 0]) / 20  # 1 more if the gate says 1


def attribute(model, prompt, baseline):
    """Attribute the output to tokens 0 and 1, in five ways (way, token)."""
    full, empty = model.W_E.detach()[prompt], model.W_E.detach()[baseline]

    def run(embeddings):
        def put(value, hook):
            return embeddings

        hooks = [("embed", put)]
        return measure(model.run_with_hooks(prompt.expand(len(embeddings), -1), fwd_hooks=hooks))

    def find_slope(x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(run(x).sum(), x)[0]

    change = full - empty
    slope = find_slope(full[None])[0]
    way = (torch.arange(50) + 0.5) / 50
    mean_slope = find_slope(empty + way[:, None, None] * change).mean(dim=0)
    occlusion, shapley = torch.zeros(2, 6)
    for token in (0, 1):
        without = full.clone()
        without[token] = empty[token]
        occlusion[token] = (run(full[None]) - run(without[None])).item()
    for order in permutations((0, 1)):
        there = empty.clone()
        for token in order:
            before = run(there[None])
            there[token] = full[token]
            shapley[token] += (run(there[None]) - before).item() / 2
    products = (slope * change).sum(dim=1), (mean_slope * change).sum(dim=1)
    return torch.stack([slope.norm(dim=1), *products, occlusion, shapley])[:, :2]


gates = {name: toys.load(f"boolean_{name}").model for name in ("and", "or", "xor")}
ones, zeros = torch.tensor([[1, 1, 2, 2, 2, 3], [0, 0, 2, 2, 2, 3]])
table = torch.stack([attribute(model, ones, zeros)[:, 0] for model in gates.values()])
ways = ["saliency", "gradient x input", "integrated", "occlusion", "Shapley"]
ax = plt.subplots(figsize=(7.5, 3), layout="constrained")[1]
plots.draw_matrix(table, list(gates), ways, ax, "what the first of two 1s counts", 1.0, True)
plt.show()

# %% tags=["check"]
right = torch.tensor([[1, 1, 0.5, 1, 0.5], [0, 0, 0.5, 0, 0.5], [1, -1, 0, -1, 0]])
torch.testing.assert_close(table, right, atol=0.02, rtol=0)
for model in gates.values():
    ours = attribute(model, ones, zeros)
    given = model, ones[None], measure, zeros
    torch.testing.assert_close(methods.measure_saliency(*given[:3])[0, :2], ours[0])
    torch.testing.assert_close(methods.multiply_gradient(*given)[0, :2], ours[1])
    torch.testing.assert_close(methods.occlude_each(*given)[0, :2], ours[3])
    torch.testing.assert_close(methods.measure_shapley(*given, positions=[0, 1])[0], ours[4])

# %% [markdown]
# They answer different questions. For OR, slopes and occlusion say 0: the other 1 suffices. Shapley
# values, and here integrated gradients, share the whole change, half and half, for AND as for OR.
# So they do not tell "both are needed" from "each is enough". For XOR they say 0, though each bit
# turns the answer.
#
# ### Exercise 12.4: tell_gates
# Tell which tokens are needed, which are enough, and which do nothing. `minilab grade 12`
#
# ## Trap: equal attributions, different mechanisms
#
# Here are two models of OR. One computes it once, and writes it twice as strongly; the other
# computes it in two layers. Compare all five attributions on all prompts. Then switch off the first
# MLP in both.

# %%
once = gates["or"]
once.blocks[0].mlp.W_out.data *= 2
twice = toys.load("boolean_redundant_or").model
prompts = torch.tensor([[x, y, 2, 2, 2, 3] for x in (0, 1) for y in (0, 1)])
gaps = [
    (attribute(once, prompt, zeros) - attribute(twice, prompt, zeros)).abs().max()
    for prompt in prompts
]


def switch_off(value, hook):
    return torch.zeros_like(value)


lost = {}
for name, model in {"once": once, "twice": twice}.items():
    logits = model.run_with_hooks(prompts, fwd_hooks=[(("mlp_out", 0), switch_off)])
    said = logits[:, -1, :2].argmax(dim=1)
    lost[name] = (said != prompts[:, :2].amax(dim=1)).float().mean().item()
print(
    f"attributions differ by {max(gaps):.1g} at most; without the first MLP, answers lost: {lost}"
)

# %% tags=["check"]
assert max(gaps) < 1e-4
assert lost == {"once": 0.75, "twice": 0}

# %% [markdown]
# No attribution differs, but one model loses 75% of its answers and the other none. Attribution is
# a *contrast* of inputs: it sees the model from outside. For the mechanism, intervene inside
# (lessons 6 to 9).
#
# ## Interpretable by design, or explained afterwards
#
# An **additive** model is a sum of one score per token. It is its own explanation. Fit one to each
# gate. And let Shapley values, our explanation of the gate at 1 1, predict what it loses without
# the first bit.

# %%
bits = prompts[:, :2].float()
columns = torch.cat([bits, torch.ones(4, 1)], dim=1)
costs = {}
for i, name in enumerate(gates):
    answer = {"and": bits.amin(1), "or": bits.amax(1), "xor": bits.sum(1) % 2}[name]
    scores_by_bit = torch.linalg.lstsq(columns, answer[:, None]).solution
    left = (columns @ scores_by_bit)[:, 0] - answer
    explained = 1 - left.square().mean() / answer.var(correction=0)
    costs[name] = explained.item(), (table[i, 4] - table[i, 3]).abs().item()
    print(name, "additive: {:.0%} explained; Shapley: off by {:.1f}".format(*costs[name]))

# %% tags=["check"]
assert [round(cost[0], 2) for cost in costs.values()] == [0.67, 0.67, 0]
assert [round(cost[1], 2) for cost in costs.values()] == [0.5, 0.5, 1]

# %% [markdown]
# By design, the explanation is exact, and the price is accuracy where tokens interact: 67% for AND
# and OR, nothing for XOR. Afterwards, the model stays exact, and the price is that no one number
# per token answers every question: Shapley values miss what occlusion finds by 0.5 or 1.
#
# ### Exercise 12.5: find_additive
# Which models are sums of one score per token, beyond the prompts that you see? `minilab grade 12`
#
# ## A look at vision
#
# Images have places and neighbours, so heat maps are common. Here two **edge detectors** look at a
# drawing. The output is the mean of one minus the mean of the other, "more upright than lying".
# **Grad-CAM** ([Selvaraju et al. 2016](https://arxiv.org/abs/1610.02391)) weights each map by the
# output's mean gradient, here +1 and -1 but for a factor, and keeps the positive part of the sum.
# What will be dark?

# %%
image = np.zeros((20, 20))
image[3:17, 4:6] = 1  # a post
image[14:16, 4:17] = 1  # a beam
upright = np.abs(np.diff(image, axis=1))[:-1]
lying = np.abs(np.diff(image, axis=0))[:, :-1]
heat = np.maximum(upright - lying, 0)
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
pictures = {"image": image, "upright edges": upright, "lying edges": lying, "Grad-CAM": heat}
for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture, cmap="Greys")
    ax.set(title=name, xticks=[], yticks=[])
plt.show()

# %% tags=["check"]
assert upright.mean() > lying.mean()
assert (heat > 0).sum() == (upright > lying).sum()

# %% [markdown]
# The sides of the post are dark, and the beam's end: *where* the output comes from, not how.
#
# ## Claim card

# %%
card = ClaimCard(
    claim="Neuron 511 answers to a wave of 8 turns in a and in b, not to the numbers at its top.",
    model="modular_addition, seed 0",
    task="(a + b) mod 113",
    data="all pairs; 6,000 to fit, the rest to score",
    components="neuron 511",
    intervention="none: predict its activation on new pairs",
    effect=Measurement("explained by wave minus by the list", lambda: by_wave - by_list, low=0.9),
    control=Measurement("untrained neurons, best wave", untrained.max, high=0.15),
    refuted_by="less than 90% explained on new pairs, or untrained neurons that fit",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** It does not say what the neuron is used for.
#
# ## On real models
#
# BERT's neurons seemed to mean one thing in one data set and another in the next (Bolukbasi et
# al., above). GPT-4 described all neurons of GPT-2 XL by their top examples; simulated
# activations explained few of them well
# ([Bills et al. 2023](https://openaipublic.blob.core.windows.net/neuron-explainer/paper/index.html)),
# and even confident descriptions had many errors
# ([Huang et al. 2023](https://arxiv.org/abs/2309.10312)). Some saliency maps hardly change when an
# image model's weights are drawn anew ([Adebayo et al. 2018](https://arxiv.org/abs/1810.03292)).
# Synthesized images can be made to show anything, the model's behaviour unchanged
# ([Geirhos et al. 2023](https://arxiv.org/abs/2306.04719)). Methods disagree in practice, too
# ([Krishna et al. 2022](https://arxiv.org/abs/2202.01602)), and complete, linear ones such as
# integrated gradients and Shapley values can be no better than guessing at what a change will do
# ([Bilodeau et al. 2022](https://arxiv.org/abs/2212.11870)). Where much is at stake, models that
# are interpretable by design may do as well ([Rudin 2018](https://arxiv.org/abs/1811.10154)).
#
# Next: lesson 13, which reads properties out of activations by probes.
