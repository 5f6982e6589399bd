# %% [markdown]
# # 17 · Modular arithmetic
#
# After this lesson you can take a trained network apart down to its formula, put that in place of a
# part of the network, and tell apart algorithms that give the same answers.
#
# ## Idea
#
# Addition **modulo** p goes round like a clock: after p - 1 comes 0. A small transformer was shown
# 30% of all sums modulo 113, as prompts `a b =`, and it answers the other 70% as well. How?
#
# Turn a clock's hand by an angle for a, then by an angle for b. A
# **wave** of **frequency** k is `cos(w a)` or `sin(w a)` with `w = 2πk / p`. As a counts from 0 to
# p - 1, its hand goes round k times. And angles add up by products:
#
# `cos(w(a + b)) = cos(w a) cos(w b) - sin(w a) sin(w b)`, and
# `sin(w(a + b)) = sin(w a) cos(w b) + cos(w a) sin(w b)`.
#
# [Nanda et al. 2023](https://arxiv.org/abs/2301.05217) found that a network learns this by itself.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from mini_transformer import Config, Transformer, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.methods.weights import fourier
from mini_transformer.methods.weights.gradient_symmetry import (
    measure_distance_irrelevance,
    measure_gradient_symmetry,
)
from mini_transformer.play import embed
from mini_transformer.toys.trained import clock_pizza, modular_addition

p = 113
model = toys.load("modular_addition").model
tokens = modular_addition.list_pairs(p)  # all prompts; row p a + b holds a and b
a, b = tokens[:, 0], tokens[:, 1]
answer = (a + b) % p
with torch.no_grad():
    logits, cache = model.run_with_cache(tokens)
logits = logits[:, -1].double()
loss = F.cross_entropy(logits, answer).item()
print(f"right: {(logits.argmax(dim=1) == answer).float().mean():.0%}, loss {loss:.0e} nats")

# %% tags=["check"]
assert (logits.argmax(dim=1) == answer).all()
assert loss < 1e-6

# %% [markdown]
# ## Predict
#
# A constant and waves of frequencies 1 to 56 are enough to write any function of a number modulo
# 113. How many of these frequencies will have more than 2% of the embedding each?

# %%
my_frequencies = 0  # your guess, 1 to 56

# %% [markdown]
# ## Build
#
# Write all waves as rows of length 1. They are at right angles, so the product of a wave with a
# column of the embedding says how much of it is in there. Its squares, summed over columns and
# divided by the whole, are the frequency's **share**.
#
# **Control**: five untrained models.


# %%
def write_waves(p):
    """Write cos and sin at frequencies 1, 2, ... as unit rows (frequency, 2, p)."""
    angle = math.tau * torch.outer(torch.arange(1, p // 2 + 1), torch.arange(p)).double() / p
    return torch.stack([angle.cos(), angle.sin()], dim=1) * math.sqrt(2 / p)


def measure_shares(x):
    """Measure the share of each frequency in the squares of x (p, column)."""
    return (write_waves(len(x)) @ x.double()).square().sum(dim=(1, 2)) / x.double().square().sum()


numbers = model.W_E[:p].detach()
shares = measure_shares(numbers)
key = [int(k) + 1 for k in shares.argsort(descending=True) if shares[k] > 0.02]
untrained = [Transformer(model.config, seed=seed).W_E[:p].detach() for seed in range(5)]
tops = torch.stack([measure_shares(x).topk(3).values.sum() for x in untrained])
print(f"key frequencies: {key}, together {shares.topk(3).values.sum():.0%} (you: {my_frequencies})")
print(f"the best three without training: {tops.min():.1%} to {tops.max():.1%}")

# %% tags=["check"]
torch.testing.assert_close(shares.float(), fourier.measure_frequency_shares(numbers))
assert key == modular_addition.find_frequencies(model) == [8, 21, 1]
assert shares.topk(3).values.sum() > 0.93
assert tops.max() < 0.07

# %% [markdown]
# ## Look
#
# Expect three peaks on the left. On the right, each number stands where its hand points, along the
# two directions of the strongest frequency. Expect roughly a circle.

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.bar(range(1, 57), shares, color=plots.BLUE)
left.set(xlabel="frequency", ylabel="share of the embedding")
directions = write_waves(p)[key[0] - 1] @ numbers.double()  # (2, d_model)
hand = numbers.double() @ torch.linalg.pinv(directions)
right.scatter(*hand.T, c=torch.arange(p) * key[0] % p, cmap="twilight", s=18)
right.set(xlabel="along cos", ylabel="along sin", aspect="equal", title=f"frequency {key[0]}")
plt.show()

radius = (hand - hand.mean(dim=0)).norm(dim=1)
print(f"radius of the circle: {radius.min():.2f} to {radius.max():.2f}")

# %% tags=["check"]
assert radius.min() > 0.7 * radius.max()

# %% [markdown]
# In this toy, three of 56 frequencies hold more than nine tenths of the embedding. That does not
# yet show that the model uses them.
#
# **Touch it.** Choose other numbers, and ask which part says the answer.

# %%
embed(toys.load("modular_addition"), scene="stream", height=800)

# %% [markdown]
# ### Exercise 17.1: find_frequencies
# Which frequencies do unseen models use? Stubs are in
# `exercises/ex17_modular_arithmetic.py`; `minilab grade 17` checks them, `minilab hint 17` helps.
#
# ## Products in the neurons
#
# To add angles the model must multiply, and neurons can: `relu(cos(w a) + cos(w b))` is not a sum
# of a function of a and one of b. Take all waves of one frequency: those of a and of b **alone**,
# of the **sum** a + b, and of the **difference** a - b. How much of a neuron's variance do they
# explain, before its ReLU and after?


# %%
def split_variance(x, k):
    """Split the variance of x (pair, neuron) by waves of frequency k: alone, sum, difference."""
    x = x.double() - x.double().mean(dim=0)

    def explain(number):
        angle = math.tau * k * number.double() / p
        waves = torch.stack([angle.cos(), angle.sin()]) * math.sqrt(2) / p  # of length 1
        return (waves @ x).square().sum(dim=0) / x.square().sum(dim=0)

    return torch.stack([explain(a) + explain(b), explain(a + b), explain(a - b)])


post = cache["post", 0][:, -1]
pre = cache["pre", 0][:, -1]
active = post.std(dim=0) > 0.01 * post.std(dim=0).max()
after = torch.stack([split_variance(post[:, active], k) for k in key])  # frequency, part, neuron
before = torch.stack([split_variance(pre[:, active], k) for k in key])
share, own = after.sum(dim=1).max(dim=0)
print(f"{(share > 0.85).double().mean():.0%} of {len(share)} active neurons have one frequency")
print(f"{'':9} {'alone':>8} {'sum':>8} {'difference':>8}")
means = {}
for name, parts in (("before", before), ("after", after)):
    means[name] = parts[own, :, torch.arange(len(own))].mean(dim=0)
    print(f"{name:9}", *(f"{x:8.2f}" for x in means[name]))

# %% tags=["check"]
single = fourier.measure_share_of_best_frequency(post[:, active], p)
torch.testing.assert_close(share.float(), single, atol=0.02, rtol=0)
assert (share > 0.85).double().mean() > 0.9
assert means["after"][1] > 2.5 * means["before"][1] > 0
assert means["after"][1] > 0.15
assert means["after"][1] > 3 * means["after"][2]

# %% [markdown]
# More than nine in ten active neurons have one frequency each: its waves explain 85% of their
# variance. Before the ReLU, where attention has brought waves of a and b, nearly all is "alone";
# after it, a sixth is waves of the sum. The ReLU made these products.
#
# ### Exercise 17.2: sort_neurons
# Which neuron has which frequency, if numbers are written in a secret order? `minilab grade 17`
#
# ## In place of the MLP, a formula
#
# If the MLP computes those identities, its neurons can go. Compute waves of the sum by products,
# and give each the direction that fits best what the MLP wrote: six directions for 512 neurons.
# **Controls**: three random frequencies, and two key ones without the third.


# %%
written = cache["mlp_out", 0][:, -1].double()
stream = cache["resid_mid", 0][:, -1].double()  # what goes past the MLP
W_U = model.W_U.detach().double()


def add_angles(k):
    """Compute cos and sin of w (a + b) from waves of a and b (pair, 2)."""
    x, y = (math.tau * k * number.double() / p for number in (a, b))
    cos = x.cos() * y.cos() - x.sin() * y.sin()
    sin = x.sin() * y.cos() + x.cos() * y.sin()
    return torch.stack([cos, sin], dim=1)


def measure_replaced(frequencies):
    """Measure the loss with the formula in the MLP's place."""
    waves = torch.cat([add_angles(k) for k in frequencies], dim=1)
    directions = torch.linalg.lstsq(waves, written - written.mean(dim=0)).solution
    formula = written.mean(dim=0) + waves @ directions
    return F.cross_entropy((stream + formula) @ W_U, answer).item()


generator = torch.Generator().manual_seed(0)
others = [k for k in range(1, 57) if k not in key]
draws = [[others[i] for i in torch.randperm(53, generator=generator)[:3]] for _ in range(5)]
replaced = measure_replaced(key)
wrong = [measure_replaced(frequencies) for frequencies in draws]
without = [measure_replaced([k for k in key if k != lost]) for lost in key]
nothing = F.cross_entropy((stream + written.mean(dim=0)) @ W_U, answer).item()
print(f"the model {loss:.1e}, the formula {replaced:.1e}, the mean only {nothing:.2f} nats")
print(f"random frequencies {min(wrong):.2f} to {max(wrong):.2f}, ", end="")
print("one key frequency less:", " ".join(f"{x:.2f}" for x in without))

# %% tags=["check"]
assert replaced < loss
assert abs(math.log(p) - 4.7) < 0.05
assert min(wrong) > 6
assert nothing - min(wrong) < 0.2 * nothing
assert nothing > math.log(p)
assert min(without) > 0.4

# %% [markdown]
# The formula costs nothing: the loss is even lower, so what the neurons write besides does more
# harm than good. All three frequencies are needed; others do hardly better than the mean alone. (It
# is above guessing's 4.7: what goes past the MLP misleads.)
#
# ### Exercise 17.3: replace_mlp
# Put the formula into unseen models, and measure what it costs. `minilab grade 17`
#
# ## How it was learned
#
# Long after all training pairs are right, the others become right, too. This is **grokking**
# ([Power et al. 2022](https://arxiv.org/abs/2201.02177)). Watch two parts of the logits: the waves
# of a + b at the key frequencies, and everything else.
#
# - The **restricted loss** keeps only the waves (and the mean over all pairs). It is low once the
#   formula is there.
# - The **excluded loss** takes just the waves out, on pairs seen in training. It is low while they
#   are known by heart.
#
# We train a small model, modulo 37, for some five seconds. Training pairs are right early. Which of
# the two losses falls first?


# %%
SMALL = 37
seen, unseen = modular_addition.split_pairs(SMALL, 0.4, seed=1)
prompts = modular_addition.list_pairs(SMALL)
sums = prompts[:, :2].sum(dim=1) % SMALL
config = Config(SMALL + 1, 3, 48, 1, n_heads=2, d_mlp=128, d_vocab_out=SMALL)
small = Transformer(config, seed=1)
optimizer = torch.optim.AdamW(small.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=3.0)
steps, checkpoints = [], []
for step in range(1501):
    if step % 50 == 0:
        with torch.no_grad():
            steps.append(step)
            checkpoints.append(modular_addition.predict_last(small, prompts).double())
    optimizer.zero_grad()
    said = modular_addition.predict_last(small, prompts[seen]).double()
    F.cross_entropy(said, sums[seen]).backward()
    optimizer.step()


def take_waves(x, frequencies):
    """Take from logits x (pair, p) the part that is waves of a + b."""
    p = x.shape[1]
    waves = write_waves(p)[[k - 1 for k in frequencies]].flatten(0, 1)[:, sums] / math.sqrt(p)
    return waves.T @ (waves @ x)


def measure_progress(x, frequencies):
    part = take_waves(x, frequencies)
    restricted = F.cross_entropy(part + x.mean(dim=0), sums).item()
    excluded = F.cross_entropy((x - part)[seen], sums[seen]).item()
    return restricted, excluded


small_shares = measure_shares(small.W_E[:SMALL].detach())
small_key = [int(k) + 1 for k in small_shares.argsort(descending=True) if small_shares[k] > 0.05]
progress = torch.tensor([measure_progress(x, small_key) for x in checkpoints])
restricted, excluded = progress.T
right = torch.stack([(x.argmax(dim=1) == sums).double() for x in checkpoints])
known, new = right[:, seen].mean(dim=1), right[:, unseen].mean(dim=1)

fig, (left, middle) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
plots.plot_curves(steps, {"training pairs": known, "other pairs": new}, left, "share right")
plots.plot_curves(steps, {"restricted": restricted, "excluded": excluded}, middle, "loss (nats)")
plt.show()
for step in (0, 250, 800, 1500):
    i = steps.index(step)
    print(f"step {step:4}: right {known[i]:.2f} and {new[i]:.2f}, ", end="")
    print(f"restricted {restricted[i]:.2f}, excluded {excluded[i]:.2f}")

# %% tags=["check"]
package = fourier.measure_progress(checkpoints[8], small_key, seen)
assert math.isclose(package["restricted"], restricted[8], rel_tol=1e-4)
assert math.isclose(package["excluded"], excluded[8], rel_tol=1e-4)
at = [steps.index(step) for step in (250, 800, 1500)]
assert (known[at] > 0.99).all()
assert new[at[0]] < 0.05
assert new[at[1]] < 0.3
assert new[at[2]] > 0.95
assert excluded[at[0]] < 1.3
assert restricted[at[0]] > 1.6
assert restricted[at[1]] < 0.8
assert excluded[at[1]] > 2.5
assert restricted[at[2]] < 0.01

# %% [markdown]
# Three phases. **Memorization**, to about step 250: training pairs are right by heart, and the
# excluded loss is low. **Circuit formation**, to about 800: the restricted loss falls below 0.8
# (chance: 3.6 nats), and the excluded one climbs. Yet hardly any other pair is right: the waves
# alone would do well, but the rest of the logits is in
# the way. **Cleanup**: the rest shrinks (Nanda et al. say by weight decay), and the other pairs
# become right. Progress was steady, only accuracy sudden. To see it we had to know the formula.
#
# ### Exercise 17.4: name_phases
# What do the answers of shuffled checkpoints rest on? `minilab grade 17`
#
# ## Trap: the same waves, another algorithm
#
# Waves, products, right answers: is it always this clock? [Zhong et
# al. 2023](https://arxiv.org/abs/2306.17844) found a second algorithm, the **pizza**. It averages
# the two embeddings. The middle of two points of a circle lies on the line through half the sum,
# and the MLP reads the angle of this line, doubled. But its length is `|cos(w (a - b) / 2)|`.
#
# Two measures follow. **Gradient symmetry**: how alike are the gradients of a logit, of any output,
# with respect to the two embeddings (mean cosine)? 1, if only their sum is used. **Distance
# irrelevance**: the standard deviation of the correct logit over pairs with the same b - a (mean
# over distances), divided by that over all pairs. 0, if only the distance matters. So a pizza
# should score near 1 and low, a clock less and near 1. A third way, the **line**, adds without a
# circle: symmetric, and as strong at any distance. In the toys `clock` and `pizza`, p is 59. A
# pizza's attention was held uniform in training; a clock's was free. And the model above?


# %%
def measure_symmetry(model, prompts, outputs):
    """Measure the mean cosine of a logit's gradients at the first and the second embedding."""
    nudges = torch.zeros(*prompts.shape, model.config.d_model, requires_grad=True)
    logits = model.run_with_hooks(prompts, fwd_hooks=[("embed", lambda x, hook: x + nudges)])
    chosen = logits[:, -1].gather(1, outputs[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, nudges)
    return torch.cosine_similarity(gradient[:, 0], gradient[:, 1], dim=1).mean().item()


def measure_irrelevance(logits):
    """Measure the spread of the correct logit at one distance, over its spread at all."""
    p = logits.shape[1]
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    correct = logits[torch.arange(p * p), (a + b) % p]
    spreads = torch.stack([correct[(b - a) % p == d].std() for d in range(p)])
    return (spreads.mean() / correct.std()).item()


prompts, outputs = clock_pizza.draw_triples()
scores = {}
print(f"{'':8}{'symmetry':>10}{'irrelevance':>13}{'right with uniform attention':>30}")
for name in ("clock", "pizza"):
    for seed in range(3):
        each = toys.load(name, seed).model
        symmetry = measure_symmetry(each, prompts, outputs)
        irrelevance = measure_irrelevance(clock_pizza.run_all(each))
        uniform = clock_pizza.measure_accuracy(each, uniform=True)
        scores[name, seed] = symmetry, irrelevance, uniform
        print(f"{name} {seed}{symmetry:12.2f}{irrelevance:13.2f}{uniform:30.0%}")
chance = Transformer(each.config, seed=0)
some = torch.randperm(p * p, generator=generator)[:500]
any_output = torch.randint(p, (500,), generator=generator)
scores["untrained"] = (
    measure_symmetry(chance, prompts, outputs),
    measure_irrelevance(clock_pizza.run_all(chance)),
)
scores["modulo 113"] = (
    measure_symmetry(model, tokens[some], any_output),
    measure_irrelevance(logits),
)
for name in ("untrained", "modulo 113"):
    print(name, *(f"{x:.2f}" for x in scores[name]))

# %% tags=["check"]
for name, (low, high) in {"clock": (0.2, 0.6), "pizza": (0.98, 1.0)}.items():
    assert all(low < scores[name, seed][0] < high for seed in range(3))
assert all(scores["clock", seed][1] > 0.7 for seed in range(3))
assert all(scores["pizza", seed][1] < 0.55 for seed in range(3))
assert min(scores["clock", seed][2] for seed in range(3)) > 0.6
assert all(scores["pizza", seed][2] == 1 for seed in range(3))
each = toys.load("clock").model
package = measure_gradient_symmetry(each, prompts, outputs)
assert math.isclose(package, scores["clock", 0][0], abs_tol=1e-4)
package = measure_distance_irrelevance(clock_pizza.run_all(each))
assert math.isclose(package, scores["clock", 0][1], abs_tol=1e-4)
assert scores["untrained"][0] < 0.6
assert scores["untrained"][1] > 0.9
assert scores["modulo 113"][0] < 0.3
assert scores["modulo 113"][1] > 0.9

# %% [markdown]
# The two measures agree, and tell these toys apart. The model modulo 113 scores like a clock. But
# no clock of these toys is pure: with uniform attention the neurons see only the sum of the
# embeddings, and a clock, whose heads multiply, should fail; each still gets more than six in ten
# pairs right. And the untrained model scores like a clock, although it adds nothing. So the
# measures tell algorithms apart, if it is one of these; they do not show that it is.
#
# ### Exercise 17.5: tell_algorithms
# Which algorithm do unseen models use, if all of them attend alike? `minilab grade 17`
#
# ## Claim card

# %%
card = ClaimCard(
    claim=f"This model's MLP hands on waves of a + b at frequencies {key}, and no more is needed.",
    model="modular_addition, seed 0",
    task="(a + b) mod 113",
    data="all 12,769 pairs",
    components="the MLP",
    intervention="replace what it writes by its mean and six fitted waves of a + b",
    effect=Measurement("loss over the model's", lambda: measure_replaced(key) / loss, high=1.0),
    control=Measurement(
        "least loss with three other frequencies (nats)",
        lambda: min(map(measure_replaced, draws)),
        low=6.0,
    ),
    refuted_by="a loss above the model's own, or other frequencies that do as well",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** The card speaks of what the MLP hands on, not of how its neurons make it, and of one
# model. And the directions were fitted.
#
# ## On real models
#
# Other seeds and architectures learn mixtures of clock and pizza (Zhong et al. 2023). For the
# composition of permutations the same kind of analysis gave two rival explanations ([Chughtai et
# al. 2023](https://arxiv.org/abs/2302.03025); [Stander et al.
# 2023](https://arxiv.org/abs/2312.06581)): what fits the logits well need not be the algorithm.
# GPT-2 adds with Fourier features from pre-training ([Zhou et al.
# 2024](https://arxiv.org/abs/2406.03445)), and mid-sized models represent numbers on helices
# ([Kantamneni and Tegmark 2025](https://arxiv.org/abs/2502.00873)). But there the explanation
# covers only a part.
#
# Next: lesson 18, where something is hidden in the model.
