# %% [markdown]
# # 10 · Superposition
#
# After this lesson you can say how a model holds more features than dimensions, name the shapes
# that they form, and tell when it makes sense to ask what one neuron means.
#
# ## Idea
#
# A **feature** is something about an input that a model represents: "this is French", "a bracket is
# open". It is represented **linearly** if it has a **direction**: when it is there by an amount
# `x_f`, the hidden state holds `x_f` times that direction. With the directions as columns of a
# matrix `W`, the hidden state is `W x`.
#
# In `d` dimensions only `d` directions are at right angles. A model that stores more features must
# let directions overlap. This is **superposition**. The price is **interference**: whoever reads
# one feature also reads a little of others. It can be worth the price if features are **sparse**,
# that is, absent most of the time.
#
# The toy is that of [Elhage et al. 2022](https://arxiv.org/abs/2209.10652). It squeezes a few
# features into fewer numbers, and reads them back by the same directions:
# `x' = ReLU(WᵀW x + b)`. A feature is on with a probability, its **density**. Its amount is then
# uniform between 0 and 1, otherwise 0. The loss is the squared error, each feature weighted by its
# **importance**.

# %%
import math

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import LinearSegmentedColormap

from mini_transformer import plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.play import embed
from mini_transformer.toys.trained import autoencoders, phase_diagram

# %% [markdown]
# ## Predict
#
# Five features, each a little less important than the one before, and two numbers to hold them.
# How many are stored, with a direction longer than 0.5, if all are on all the time? And if each is
# on 5% of the time?

# %%
my_stored_dense = 0  # your guess, 0 to 5
my_stored_sparse = 0  # your guess, 0 to 5

# %% [markdown]
# ## Build
#
# Many toys train side by side, along the first axis `i`. Each setting starts from several random
# `W`, and the best is kept.


# %%
def draw(density, n, n_features, seed):
    """Draw n inputs (i, n, feature) for toys with these densities (i,)."""
    generator = torch.Generator().manual_seed(seed)
    on, amount = torch.rand(2, n, n_features, generator=generator)
    return torch.where(on < density[:, None, None], amount, 0.0)


def run(W, b, x, relu=False):
    """Squeeze x by W (i, d, feature) and read it back."""
    h = x @ W.mT
    h = torch.relu(h) if relu else h
    return torch.relu(h @ W + b)


def measure_error(W, b, x, importance, relu=False):
    """Measure each toy's squared error, weighted by importance (i, feature)."""
    squared = (run(W, b, x, relu) - x).square()
    return (squared * importance[:, None]).mean(dim=1).sum(dim=-1)


def train(density, importance, d, starts=6, steps=1000, relu=False):
    """Train toys with d hidden numbers; return W and b of each setting's best start."""
    density = density.repeat_interleave(starts)
    importance = importance.repeat_interleave(starts, dim=0)
    n, n_features = importance.shape
    generator = torch.Generator().manual_seed(0)
    W = (0.5 * torch.randn(n, d, n_features, generator=generator)).requires_grad_()
    b = torch.zeros(n, 1, n_features, requires_grad=True)
    optimizer = torch.optim.Adam([W, b], lr=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for step in range(steps):
        x = draw(density, 256, n_features, seed=step)
        optimizer.zero_grad()
        measure_error(W, b, x, importance, relu).sum().backward()
        optimizer.step()
        schedule.step()
    W, b = W.detach(), b.detach()
    error = measure_error(W, b, draw(density, 5000, n_features, seed=steps), importance, relu)
    best = error.view(-1, starts).argmin(dim=1) + torch.arange(0, n, starts)
    return W[best], b[best]


densities = torch.tensor([1.0, 0.2, 0.05])
importance = 0.9 ** torch.arange(5)
W, b = train(densities, importance.expand(3, 5), d=2)

# %% tags=["check"]
package = autoencoders.Autoencoders(n_instances=3, n_features=5, n_hidden=2)
package.W.data, package.b.data = W, b[:, 0]
some = draw(densities, 10, 5, seed=0)
torch.testing.assert_close(run(W, b, some), package(some))

# %% [markdown]
# ## Look
#
# Each column of `W` is an arrow. For dense features expect two long ones at right angles, those of
# the two most important; for sparse ones more arrows, far from each other.

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
for i, ax in enumerate(axes):
    for feature, (x, y) in enumerate(W[i].T.tolist()):
        ax.plot([0, x], [0, y], color=plots.BLUE, linewidth=2)
        if math.hypot(x, y) > 0.5:
            ax.text(1.15 * x, 1.15 * y, feature, ha="center", va="center")
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xlabel="hidden number 0")
    ax.set(ylabel="hidden number 1", title=f"each feature on {densities[i]:.0%} of the time")
plt.show()

stored = (W.norm(dim=1) > 0.5).sum(dim=1).tolist()
print(f"stored: {stored[0]} (you: {my_stored_dense}) if dense, ", end="")
print(f"{stored[2]} (you: {my_stored_sparse}) if sparse")

# %% tags=["check"]
assert stored == [2, 4, 5]

# %% [markdown]
# Dense features get a dimension each, and the rest nothing. At 20% four features form two
# **antipodal pairs**, opposite arrows on one line. At 5% all five form a **pentagon**.
#
# How much of a dimension does feature `i` have for itself? Compare its own length with all that is
# read along its direction:
#
# `D_i = |W_i|² / Σ_j (W_i · W_j / |W_i|)²`
#
# **Control**: could five random arrows get 2/5 each by luck?


# %%
def measure_dimensions(W):
    """Measure D_i, the dimensions per feature, for the columns of W (d, feature)."""
    unit = W / W.norm(dim=0)
    return W.norm(dim=0) ** 2 / (unit.T @ W).square().sum(dim=1)


for i in range(3):
    D = " ".join(f"{share:.2f}" for share in measure_dimensions(W[i]))
    print(f"each feature on {densities[i]:4.0%} of the time: D = {D}")

generator = torch.Generator().manual_seed(0)
draws = [measure_dimensions(torch.randn(2, 5, generator=generator)) for _ in range(1000)]
off = torch.stack([(D - 0.4).abs().max() for D in draws])
print(f"1,000 x 5 random arrows: the worst D is off 2/5 by {off.min():.2f} to {off.max():.2f}")

# %% tags=["check"]
torch.testing.assert_close(measure_dimensions(W[2]), autoencoders.measure_dimensionality(W[2]))
for i, shares in enumerate(([1, 1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0], [0.4] * 5)):
    assert (measure_dimensions(W[i]) - torch.tensor(shares)).abs().max() < 0.02
tetrahedron = toys.load("superposition_tetrahedron").model.W_U.detach()
assert (measure_dimensions(tetrahedron) - 3 / 4).abs().max() < 0.03
assert off.min() > 0.1

# %% [markdown]
# Random arrows never come near 2/5 each. A feature alone on its line has D = 1, one of a pair 1/2,
# one of a pentagon 2/5: five share two dimensions. Three in a plane form a **triangle** (2/3), four
# in three dimensions a **tetrahedron** (3/4).
#
# **Touch it.** Ask for the logits of the other features: the one that is on shows there, too.

# %%
embed(toys.load("superposition_pentagon"), scene="stream", height=700)

# %% [markdown]
# ### Exercise 10.1: name_shapes
# Name the shapes in the weights of toys that you have never seen. Stubs are in
# `exercises/ex10_superposition.py`; `minilab grade 10` checks them, `minilab hint 10` helps.
#
# ## Interference
#
# Switch on one feature of the pentagon at a time, at amount 1. What do all five outputs say? Expect
# a little on its two neighbours, and something negative on the other two.

# %%
one_at_a_time = torch.eye(5)[None]
before = (W[2].T @ W[2] + b[2])[None]
after = run(W[2:], b[2:], one_at_a_time)
numbers = [str(feature) for feature in range(6)]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, read, title in zip(axes, (before, after), ("before the ReLU", "after it"), strict=True):
    plots.draw_matrix(read[0], numbers[:5], numbers[:5], ax, title, 1.3, numbers=True)
    ax.set(xlabel="output", ylabel="the feature that is on")
plt.show()

pairs = torch.combinations(torch.arange(5), 2)
two = one_at_a_time[0][pairs].sum(dim=1)
is_near = before[0][pairs[:, 0], pairs[:, 1]] > 0
errors = []
for x in (one_at_a_time[0], two[is_near], two[~is_near]):
    errors.append(measure_error(W[2:], b[2:], x[None], torch.ones(1, 5)).item())
print("squared error, one on: {:.2f}, two neighbours: {:.2f}, two others: {:.2f}".format(*errors))
share = 1 - 0.95**5 - 5 * 0.05 * 0.95**4

# %% tags=["check"]
others = before[0][~torch.eye(5).bool()].sort().values
assert others[:10].max() < -1
assert 0.1 < others[10:].min() < others[10:].max() < 0.2
assert errors[0] < 0.06
assert errors[1] < 0.5 < 1.5 < errors[2]
assert round(100 * share) == 2

# %% [markdown]
# The ReLU cuts off the negative half of the interference, and a negative bias most of the rest. So
# a *non-linear* reader makes superposition pay. Two features that are not
# neighbours wipe each other out, but only 2% of the inputs hold two or more.
#
# ## When does a model do this?
#
# The smallest case: two features, one dimension. The first has importance 1, the second less or
# more (left to right), and both are rarer or denser (down or up). The toy can store the first, the
# second, or both as a pair; then the second's D is 0, 1 or 1/2. Does D change gradually between
# these, or in a jump? (Lines: borders by formula.)

# %%
size = 12
rarity = torch.logspace(-1.5, 0, size)  # densities, about .03 to 1
worth = torch.logspace(-1, 1, size)  # importances of the second feature, .1 to 10
setting = torch.cartesian_prod(rarity, worth)
both_worths = torch.stack([torch.ones(size**2), setting[:, 1]], dim=1)
V, _ = train(setting[:, 0], both_worths, d=1, starts=10, steps=400)

square = V[:, 0].square()
D = (square[:, 1] / square.sum(dim=1)).view(size, size)  # all that is in one dimension
cheapest = phase_diagram.predict_outcome(rarity, worth)
expected = torch.tensor([0, 1, 0.5])[cheapest]
fig, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
colours = LinearSegmentedColormap.from_list("", [plots.BLUE, plots.GREEN, plots.ORANGE])
mesh = ax.pcolormesh(worth, rarity, D, cmap=colours, vmin=0, vmax=1)
fig.colorbar(mesh, label="D of the second feature")
ax.contour(worth, rarity, expected, levels=[0.25, 0.75], colors="white")
ax.set(xscale="log", yscale="log", xlabel="importance of the second feature", ylabel="density")
for x, y, words in ((0.2, 0.7, "first"), (5, 0.7, "second"), (1, 0.1, "both, as a pair")):
    ax.text(x, y, words, color="white", ha="center", fontsize=12)
plt.show()

distance = (D[..., None] - torch.tensor([0, 0.5, 1])).abs().amin(dim=-1)
agreement = ((D - expected).abs() < 0.25).float().mean()
print(f"D is at most {distance.max():.2f} away from 0, 1/2 or 1")
print(f"the cheapest of the three by formula: {agreement:.0%} the same")

# %% tags=["check"]
assert distance.max() < 0.16
assert agreement > 0.9

# %% [markdown]
# A jump: no toy lies halfway between two regions, as between ice and water. This is a **phase
# diagram**. Borders are where two solutions cost the same. To leave a feature out costs its
# importance times its variance. To store both as a pair costs something only where both are on. So
# sparsity brings superposition, and very unequal importance prevents it.
#
# ### Exercise 10.2: find_phases
# Which of the three is cheapest if one feature is rarer than the other?
#
# ## Neurons
#
# Now put a ReLU on the hidden numbers, as on the neurons of an MLP: `h = ReLU(W x)`. A neuron
# driven by one feature is **monosemantic**, by several **polysemantic**. Six features on four
# neurons: how many drive the busiest?

# %%
my_busiest = (0, 0, 0)  # your guess, if features are on 70%, 30%, 15% of the time

often = torch.tensor([0.7, 0.3, 0.15])
worth_of_six = 0.8 ** torch.arange(6)
M, c = train(often, worth_of_six.expand(3, 6), d=4, steps=1500, relu=True)


def count_features(W, relu=False):
    """Count for each axis the features that, switched on alone, move it by at least 0.1."""
    alone = torch.eye(W.shape[1]) @ W.T  # feature, axis
    alone = torch.relu(alone) if relu else alone
    return (alone.abs() >= 0.1).sum(dim=0).tolist()


fig, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for i, ax in enumerate(axes):
    plots.draw_matrix(M[i], numbers[:4], numbers, ax, f"on {often[i]:.0%} of the time", 1.0)
    ax.set(xlabel="feature", ylabel="neuron")
    print(f"on {often[i]:.0%}: features per neuron", count_features(M[i], relu=True))
plt.show()
print("the busiest:", [max(count_features(each, relu=True)) for each in M], "you:", my_busiest)

# %% tags=["check"]
counts = [sorted(count_features(each, relu=True)) for each in M]
assert counts[:2] == [[1, 1, 1, 1], [1, 1, 2, 2]]
assert min(counts[2]) >= 3

# %% [markdown]
# In this toy, at 70% each neuron stands for one feature, and two features get none. At 15% three
# or more drive each neuron, at 30% both kinds live side by side. Orange features *silence* a
# neuron: switched on alone, they show nothing.
#
# ### Exercise 10.3: find_drivers
# Which features drive which neurons, in models that you have never seen?
#
# ## Trap: counting where axes mean nothing
#
# Features per axis can be counted without that ReLU, too. So turn the hidden space of the two
# pairs: `W` becomes `R W` with a random rotation (or reflection) `R`, and the reader turns along.
# Do outputs change? Do counts? And where a ReLU stands on the axes?


# %%
def turn(W):
    return torch.linalg.qr(torch.randn(len(W), len(W), generator=generator)).Q @ W


def compare_turned(W, b, density, importance, relu=False):
    """Measure by which factor each of 100 rotations changes the error."""
    x = draw(density[None], 5000, W.shape[1], seed=1)
    turned = torch.stack([W] + [turn(W) for _ in range(100)])
    error = measure_error(turned, b, x, importance[None], relu)
    return error[1:] / error[0]


linear_errors = compare_turned(W[1], b[1], densities[1], importance)
relu_errors = compare_turned(M[0], c[0], often[0], worth_of_six, relu=True)
print(f"two pairs: the error times {linear_errors.min():.2f} to {linear_errors.max():.2f}")
print(f"neurons:   the error times {relu_errors.min():.2f} to {relu_errors.max():.2f}")
turned = torch.tensor([count_features(turn(W[1])) for _ in range(100)])
print(f"two pairs: {count_features(W[1])} features per axis, ", end="")
print(f"turned {turned.min()} to {turned.max()}")

# %% tags=["check"]
assert (linear_errors - 1).abs().max() < 1e-4
assert relu_errors.min() > 1.1
assert (turned.min(), turned.max()) == (2, 4)

# %% [markdown]
# A rotation changes nothing that the linear toy does, but it changes the count, which is a fact
# about our axes. The ReLU acts on each axis by itself: in the 70% toy all 100 rotations do harm,
# and training has a reason to lay features along axes. Such a basis is **privileged**. Neurons have
# one. A residual stream, which matrices read and add to, has none by itself. And a privileged basis
# does not yet make neurons monosemantic: see 15%.
#
# ### Exercise 10.4: find_privileged
# In which layers do features lie along the axes, and where does it only look so?
#
# ## Features without a direction
#
# Must a feature have a direction? Store the month on a circle, like a clock, and two bits along a
# direction each. **R²** is the share of a value's variance that a guess explains on fresh inputs.
# Guess by a linear readout, or by the most similar other inputs.


# %%
def explain(guess, value):
    return (1 - (guess - value).square().mean() / value.var()).item()


def read_linearly(h, value):
    """Fit a linear readout on half of the rows, and return its R² on the other half."""
    h = torch.cat([h, torch.ones(len(h), 1)], dim=1)
    half = len(h) // 2
    readout = torch.linalg.lstsq(h[:half], value[:half, None]).solution[:, 0]
    return explain(h[half:] @ readout, value[half:])


def read_from_similar(h, value, k=10):
    """Return the R² of the mean value of the k most similar other rows."""
    distance = torch.cdist(h, h).fill_diagonal_(torch.inf)
    return explain(value[distance.topk(k, largest=False).indices].mean(dim=1), value)


month = torch.randint(12, (2000,), generator=generator)
bits = torch.randint(2, (2000, 2), generator=generator).float()
angle = month * math.tau / 12
parts = torch.stack([angle.cos(), angle.sin(), *bits.T], dim=1)
h = parts @ turn(torch.eye(8))[:4]
h = h + 0.02 * torch.randn(h.shape, generator=generator)
values = {
    "first bit": bits[:, 0],
    "month": month.float(),
    "bits differ": (bits[:, 0] != bits[:, 1]).float(),
    "shuffled bit": bits[torch.randperm(2000, generator=generator), 0],
}
scores = {name: (read_linearly(h, x), read_from_similar(h, x)) for name, x in values.items()}
for name, (linear, similar) in scores.items():
    print(f"{name:12} R²: linear {linear:5.2f}, from similar inputs {similar:5.2f}")

# %% tags=["check"]
assert min(scores["first bit"]) > 0.99
assert 0.5 < scores["month"][0] < 0.67
assert scores["bits differ"][0] < 0.05
assert min(scores["month"][1], scores["bits differ"][1]) > 0.99
assert max(scores["shuffled bit"]) < 0.05

# %% [markdown]
# The bit is represented linearly. The month is there in full, but no direction gives more than two
# thirds of it. Whether the bits differ no direction tells, yet the state decides it. The shuffled
# bit, the control, is not there.
#
# ### Exercise 10.5: tell_encodings
# Which values are stored linearly, which otherwise, which not at all?
#
# ## Claim card

# %%
card = ClaimCard(
    claim="The ReLU toy's hidden basis is privileged; that of the linear toy is not.",
    model="6 features, on 70% of the time, on 4 neurons; 5, on 20%, in 2 dimensions",
    task="reconstruct sparse features",
    data="5,000 inputs of each",
    components="their hidden spaces",
    intervention="turn it by 100 random rotations, and the reader along with it",
    effect=Measurement("ReLU toy: least factor of the error", relu_errors.min, low=1.1),
    control=Measurement("linear toy: most change", (linear_errors - 1).abs().max, high=1e-4),
    refuted_by="a rotation that does not hurt the ReLU toy, or one that hurts the linear toy",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** We knew the directions; in a real model they must first be found (lesson 11). And
# these toys only store features: models that compute with them may do otherwise.
#
# ## On real models
#
# Many neurons of image models are polysemantic
# ([Olah et al. 2020](https://distill.pub/2020/circuits/zoom-in/)). In Pythia models, combinations
# of early neurons tell words of several tokens, while some neurons in the middle stand for one
# thing, such as French ([Gurnee et al. 2023](https://arxiv.org/abs/2305.01610)). That superposition
# is the cause is a hypothesis: polysemantic neurons also arise by chance, where there is room for
# all ([Lecomte et al. 2023](https://arxiv.org/abs/2312.03096)).
# Residual streams do have special axes, probably because of the optimiser
# ([Elhage et al. 2023](https://transformer-circuits.pub/2023/privileged-basis/index.html)). Days
# and months lie on circles in GPT-2 and Mistral 7B, and Mistral computes with them
# ([Engels et al. 2024](https://arxiv.org/abs/2405.14860)). So "features are directions" is a good
# first guess, with exceptions.
#
# Next: lesson 11, where directions that nobody told us are found.
