# %% [markdown]
# # 11 · Sparse autoencoders
#
# After this lesson you can train a dictionary that finds directions nobody told you, say what its
# objective makes it get wrong, and tell what a model does from what a dictionary made up.
#
# ## Idea
#
# In lesson 10 a hidden state was a sum of features, and we knew their directions. In a trained
# model nobody tells us. A **dictionary** is a guess: a list of **latents**, each with a direction
# and, for each input, an amount, its **code**, so that the hidden state is nearly the sum of *few*.
#
# A **sparse autoencoder** learns both. Its encoder computes the codes, one linear map and a ReLU.
# Its decoder adds up the latents' directions, each times its code. It is trained to rebuild its
# input with few codes.
#
# In the toy `planted_features` a head adds up the directions of the 1 to 4 features in the prompt,
# by amounts of 0.8, 1 or 1.2: 24 features in 16 dimensions.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import normalize

from mini_transformer import plots
from mini_transformer.board.metrics.features import score_features
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.methods import (
    Dictionary,
    measure_share_of_second,
    scale_features,
    train_crosscoder,
    train_dictionary,
)
from mini_transformer.toys.hand_set import planted_features as planted

case = planted.make_case(planted.PLAIN, n=24, d=16)
x, amounts = planted.draw_activations(case, 4000)
directions = case.truth.features.directions  # (feature, d)

# %% [markdown]
# ## Predict
#
# A direction is **found** if some latent has a cosine above 0.9 with it. Of the 24, how many does a
# dictionary find that is trained only to rebuild its input, as well as it can? And how many if it
# may use three codes for each input?

# %%
my_found_by_rebuilding = 0  # your guess, 0 to 24
my_found_by_three = 0  # your guess, 0 to 24

# %% [markdown]
# ## Build
#
# Two ways to get few codes. **L1**: pay a penalty for their sum. **TopK**: keep the `k` highest of
# each input, and set all others to 0.


# %%
def encode(x, W_enc, b_enc, b_dec, k=0):
    """Compute the codes (n, latent) of activations x (n, d)."""
    codes = torch.relu((x - b_dec) @ W_enc + b_enc)
    if k:
        top = codes.topk(k, dim=1)
        codes = torch.zeros_like(codes).scatter(1, top.indices, top.values)
    return codes


def train(x, n_latents, penalty=0.0, k=0, bias=0.0, restart=None):
    """Train a dictionary; return a Dictionary of the package."""
    generator = torch.Generator().manual_seed(0)
    W_dec = normalize(torch.randn(n_latents, x.shape[1], generator=generator))
    W_enc, b_enc, b_dec = W_dec.T.clone(), torch.full((n_latents,), bias), x.mean(dim=0)
    parameters = [p.requires_grad_() for p in (W_enc, b_enc, W_dec, b_dec)]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for step in range(800):
        batch = x[torch.randint(len(x), (128,), generator=generator)]
        codes = encode(batch, W_enc, b_enc, b_dec, k)
        error = (codes @ W_dec + b_dec - batch).square().sum(dim=1).mean()
        optimizer.zero_grad()
        (error + penalty * codes.sum(dim=1).mean()).backward()
        optimizer.step()
        W_dec.data = normalize(W_dec.data)  # or long directions would make codes cheap
        if restart and step % 100 == 99:
            restart(*(p.data for p in parameters), k)
    W_enc, b_enc, W_dec, b_dec = (p.detach() for p in parameters)
    # `b_dec` is taken off the input, and added to the output; thresholds are 0.
    return Dictionary(W_enc, b_enc, W_dec, b_dec, b_dec, torch.zeros(n_latents), k)


dictionaries = {
    "only rebuild": train(x, 24),
    "L1": train(x, 24, penalty=0.3),
    "TopK": train(x, 24, k=3),
}

# %% tags=["check"]
for found in dictionaries.values():
    own = encode(x, found.W_enc, found.b_enc, found.b_dec, found.k)
    torch.testing.assert_close(own, found.encode(x))

# %% [markdown]
# ## Look
#
# **Explained variance** is 1 minus the squared error over the variance. Each square below is a
# cosine of a feature and a latent (sorted). Where the features are found, expect a dark diagonal.
# **Control**: a dictionary of a shuffled `x`, each axis by itself, which holds none of them.


# %%
def count_found(dictionary, directions=directions):
    return int(((dictionary.W_dec @ directions.T).amax(dim=0) > 0.9).sum())


generator = torch.Generator().manual_seed(0)
shuffled = torch.stack([axis[torch.randperm(len(x), generator=generator)] for axis in x.T], dim=1)
dictionaries["shuffled"] = train(shuffled, 24, k=3)

fig, axes = plt.subplots(1, 4, figsize=(14, 4), layout="constrained")
for ax, (name, found) in zip(axes, dictionaries.items(), strict=True):
    cosines = directions @ found.W_dec.T
    order = cosines.argmax(dim=0).argsort()
    plots.draw_matrix(cosines[:, order], [""] * 24, [""] * 24, ax, name, 1.0)
    ax.set(xlabel="latent", ylabel="feature")
    explained = found.explained_variance(shuffled if name == "shuffled" else x)
    n_on = (found.encode(x) > 0).sum(dim=1).float().mean()
    print(f"{name:12}: explains {explained:.0%} with {n_on:.1f} codes, finds {count_found(found)}")
plt.show()
print(f"you: {my_found_by_rebuilding} and {my_found_by_three}")

# %% tags=["check"]
assert [count_found(found) for found in dictionaries.values()] == [0, 24, 24, 0]
assert dictionaries["only rebuild"].explained_variance(x) > 0.99
assert max(dictionaries[name].explained_variance(x) for name in ("L1", "TopK")) < 0.95

# %% [markdown]
# The dictionary that rebuilds best has found nothing. Many sets of directions rebuild everything,
# if all may be used. Only sparsity singles out the features. So **high explained variance does not
# show that the features are right**.
#
# ### Exercise 11.1: find_features
# Find directions that nobody told you about. Stubs are in
# `exercises/ex11_sparse_autoencoders.py`; `minilab grade 11` checks them, `minilab hint 11` helps.
#
# ## What L1 costs: shrinkage
#
# Take an input with one feature, of amount 1, and a latent with just its direction. Code `c` costs
# `(1 - c)² + 0.3 c`. The least is at `c = 0.85`, not 1: L1 makes codes too small. Does every
# code lack the same 0.15, large or small?

# %%
alone = (amounts > 0).sum(dim=1) == 1
value, feature = amounts[alone].max(dim=1)
lacking = {}
for name in ("L1", "TopK"):
    owner = (directions @ dictionaries[name].W_dec.T).argmax(dim=1)
    code = dictionaries[name].encode(x[alone]).gather(1, owner[feature][:, None])[:, 0]
    lacking[name] = [(value - code)[value == v].mean().item() for v in planted.LEVELS]
    print(name, "codes lack", " ".join(f"{gap:.2f}" for gap in lacking[name]), "at .8, 1, 1.2")

# %% tags=["check"]
for gaps, expected in (("L1", 0.24), ("TopK", 0.10)):
    assert max(abs(gap - expected) for gap in lacking[gaps]) < 0.01
assert dictionaries["TopK"].b_enc.max() < 0

# %% [markdown]
# The same at each amount, but 0.24. TopK, which pays for nothing, lacks 0.10: its encoder has
# negative biases, which keep latents off where only similar features are on. The difference, 0.14,
# is near the 0.15 of the sum: **shrinkage**. (We did not test if 0.10 has one cause in both.)
#
# ## Dead latents
#
# A latent that is never on gets no gradient through its ReLU, so it stays off: it is **dead**. Let
# us provoke it, by biases that start at -1. The cure: point dead latents at inputs that are rebuilt
# badly.


# %%
def restart(W_enc, b_enc, W_dec, b_dec, k):
    codes = encode(x, W_enc, b_enc, b_dec, k)
    dead = (codes == 0).all(dim=0)
    error = x - b_dec - codes @ W_dec
    worst = error.norm(dim=1).argsort(descending=True)[: int(dead.sum())]
    W_dec[dead] = normalize(error[worst])
    W_enc[:, dead] = W_dec[dead].T
    b_enc[dead] = 0.0


starts = {
    "bad start": train(x, 24, k=3, bias=-1.0),
    "with restarts": train(x, 24, k=3, bias=-1.0, restart=restart),
    "96 latents": train(x, 96, k=3),
}
deaths = {name: int((found.encode(x) == 0).all(dim=0).sum()) for name, found in starts.items()}
for name, found in starts.items():
    print(f"{name}: {deaths[name]} dead, {count_found(found)} features found")

# %% tags=["check"]
assert list(deaths.values()) == [3, 0, 17]
assert [count_found(found) for found in starts.values()] == [20, 22, 24]

# %% [markdown]
# Restarts revive all three, and two more features are found. The 17 dead of 96 are no fault.
#
# ## Which architecture is best?
#
# Four more, from the package. **BatchTopK** keeps `k` codes per input on average over a batch.
# **Gated**: one part of the encoder decides which latents are on, another how much, so that L1 need
# not shrink amounts. **JumpReLU**: a latent is on above its own trained threshold, and the penalty
# counts latents. **Matryoshka**: BatchTopK whose first eighth, quarter and half of the latents must
# rebuild the input without the others, too.
#
# Three regimes: fewer latents than features (12), more (48), and 48 with features in **families**,
# where a child is on only together with its parent. The score is **F1**: high if many features are
# found, and few live latents are something else; 12 latents reach 2/3 at best. Is BatchTopK better
# than gated?

# %%
my_answers = ("", "")  # "yes" or "no": with 12 latents, with 48

regimes = {
    "12 latents": (planted.PLAIN, 12),
    "48 latents": (planted.PLAIN, 48),
    "48, families": (planted.TREES, 48),
}
penalties = {"l1": 0.2, "gated": 0.6, "jumprelu": 0.1}
settings = dict(steps=500, batch=128, lr=0.01)


def judge(architecture, structure, n_latents, seed=0):
    case = planted.make_case(structure, 24, 16, seed)
    x, amounts = planted.draw_activations(case, 4000)
    penalty = penalties.get(architecture)
    found = train_dictionary(
        x, n_latents, architecture, k=3, penalty=penalty, seed=seed, **settings
    )
    truth = case.truth.features
    scores = score_features(truth.directions, amounts, found.W_dec, found.encode(x), truth.entails)
    return {**scores, "explained": found.explained_variance(x)}


names = ["l1", "topk", "batchtopk", "gated", "jumprelu", "matryoshka"]
scores = {regime: {name: judge(name, *toy) for name in names} for regime, toy in regimes.items()}
shown = [*[(regime, "f1") for regime in regimes], ("48, families", "absorption")]
fig, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained", sharey=True)
for ax, (regime, score) in zip(axes, shown, strict=True):
    ax.barh(names, [scores[regime][name][score] for name in names], color=plots.BLUE)
    ax.set(title=f"{regime}: {score}", xlim=(0, 1))
ax.set(xlabel="low is good (see below)")
axes[0].invert_yaxis()
plt.show()
print("you:", my_answers)

wins = []
for seed in (1, 2):
    for n in (12, 48):
        batch, gated = (judge(name, planted.PLAIN, n, seed)["f1"] for name in names[2:4])
        print(f"seed {seed}, {n} latents: BatchTopK {batch:.2f}, gated {gated:.2f}")
        wins.append(batch > gated)

# %% tags=["check"]
assert wins == [False, True, False, True]
few, many, families = scores.values()
assert few["batchtopk"]["f1"] == min(few[name]["f1"] for name in names)
assert few["batchtopk"]["explained"] > few["gated"]["explained"]
assert many["batchtopk"]["f1"] == max(many[name]["f1"] for name in names)
assert max(families[name]["f1"] for name in names) < 0.3
assert round(families["topk"]["explained"], 2) == 0.97
assert min(names, key=lambda name: families[name]["absorption"]) == "matryoshka"

# %% [markdown]
# At these penalties none is best. With 12 latents BatchTopK is last, although it explains more than
# gated; with 48 it is first. In families, where TopK explains 97%, all do badly. So report the
# regime, and do not rank by explained variance.
#
# ## Traps: absorption and hedging
#
# Families go wrong by **absorption**. A child needs two codes, its own and its parent's; a latent
# for "parent and child" needs one. So the parent's latent is silent where the child is. Here
# Matryoshka absorbs least, as its authors intend.
#
# **Hedging** comes from too few latents for features that come together. Take 12 pairs: where one
# is on, so is the other in three of four inputs. Expect latents between the two. **Control**: the
# same counts in independent features.


# %%
def count_between(structure, n_latents):
    case = planted.make_case(structure, 24, 16)
    x, _ = planted.draw_activations(case, 4000)
    found = train_dictionary(x, n_latents, "topk", k=3, **settings)
    near = found.W_dec @ case.truth.features.directions.T > 0.5
    of_partners = near[:, ::2] & near[:, 1::2]
    return int((near.sum(dim=1) > 1).sum()), int(of_partners.any(dim=1).sum())


between = {}
for structure, name in ((planted.PAIRS, "pairs"), (planted.PLAIN, "independent")):
    for n_latents in (12, 48):
        between[name, n_latents] = count_between(structure, n_latents)
        blends, partners = between[name, n_latents]
        print(f"{name}, {n_latents} latents: {blends} are blends, {partners} of partners")

# %% tags=["check"]
assert list(between.values()) == [(11, 11), (18, 14), (8, 0), (9, 1)]

# %% [markdown]
# With 12 latents for 24 features most are blends even if features are independent. But in pairs all
# 11 blend partners, and of 48 latents 14 still do: where two features mostly come together, one
# code for both is cheap.
#
# ### Exercise 11.2: find_preferred
# When does the dictionary that an objective prefers change?
#
# ### Exercise 11.3: find_absorbing
# Which latents absorb a concept, and which only look so?
#
# ## Two models, one dictionary
#
# A **crosscoder** rebuilds two models' activations on the same inputs by one set of codes; each
# latent has a direction in either. Here are two seeds of one model: 16 features, other directions
# in each. Feature 0 is missing in the second, feature 1 in the first. Feature 2 is a fifth as
# strong in the second, feature 3 in the first. How large a share of a latent's length is in the
# second? Expect 0, 1, 1/6, 5/6, and 1/2 for all others.

# %%
twins = [planted.make_case(planted.PLAIN, 16, 16, seed) for seed in (0, 1)]
_, amounts_of_16 = planted.draw_activations(twins[0], 4000)
first, second = (twin.truth.features.directions.clone() for twin in twins)
second[0], first[1] = 0, 0
second[2], first[3] = 0.2 * second[2], 0.2 * first[3]
both = normalize(torch.cat([first, second], dim=1))
shares = {}
for name in ("l1", "batchtopk"):
    crosscoder = train_crosscoder(
        amounts_of_16 @ first, amounts_of_16 @ second, 24, name, k=3, penalty=0.2, **settings
    )
    owner = (crosscoder.W_dec @ both.T).argmax(dim=0)
    shares[name] = measure_share_of_second(crosscoder, 16)[owner]
    print(f"{name:9}: " + " ".join(f"{share:.2f}" for share in shares[name][:6]), "...")

# %% tags=["check"]
for name, expected in (("l1", [0, 1, 0, 1]), ("batchtopk", [0, 1, 1 / 6, 5 / 6])):
    assert (shares[name][:4] - torch.tensor(expected)).abs().max() < 0.02
    assert (shares[name][4:] - 0.5).abs().max() < 0.07

# %% [markdown]
# The L1 crosscoder says that features 2 and 3 are in one model only. They are in both. The penalty
# made the weak half not worth its price: shrinkage again. Between a model and its fine-tuned
# version this would be a finding, and wrong. BatchTopK pays for no lengths, and gets it right.
#
# ### Exercise 11.4: find_exclusive
# Which latents are exclusive, and which were made so by the penalty?
#
# ## From layer to layer
#
# A **transcoder** reads what a component reads, and rebuilds what it writes. A **cross-layer
# transcoder** rebuilds what several layers write. In this toy layer 0 turns A into B, and layer 1
# turns B into C. Nothing goes directly from A to C. What will the dictionary say?

# %%
generator = torch.Generator().manual_seed(0)
A, B, C = torch.linalg.qr(torch.randn(18, 18, generator=generator)).Q.split(6)
is_on = torch.rand(4000, 6, generator=generator) < 0.2
read = is_on * (0.5 + torch.rand(4000, 6, generator=generator)) @ A
early = torch.relu(read @ A.T - 0.1) @ B


def run_late(early):
    return torch.relu((read + early) @ B.T - 0.1) @ C


written = torch.cat([early, run_late(early)], dim=1)
transcoder = train_dictionary(
    read, 6, "l1", penalty=0.1, outputs=written, widths=(18, 18), **settings
)
to_B, to_C = (part @ X.T for part, X in zip(transcoder.W_dec.split(18, dim=1), (B, C), strict=True))
both_ways = int(((to_B > 0.5) & (to_C > 0.5)).sum())
explained = transcoder.explained_variance(read, written)
left = run_late(early=torch.zeros_like(early)).norm() / run_late(early).norm()
print(f"explains {explained:.0%}; {both_ways} of 6 latents write a B and its C")
print(f"without B the model writes {left:.0%} of C")

# %% tags=["check"]
assert explained > 0.99
assert both_ways == 6
assert left == 0

# %% [markdown]
# It rewrites A → B → C as "A → B" and "A → C", by one latent. It explains 99%, and is wrong about
# the way: without B it would write C.
#
# ### Exercise 11.5: find_detours
# Which direct writes of a cross-layer transcoder are detours in the model?
#
# ## Claim card
#
# "This latent is a feature" is more than a dictionary can say. Say what was measured: where it is
# on, whether another seed finds it (not done here), what the *model* does without it, beside a
# random direction with the same codes. Here: how much of its feature's logit is lost?

# %%
tokens = case.truth.features.draw(300, 9)
strength = case.truth.features.activations(tokens)


def measure_lost(dictionary):
    owner = (dictionaries["L1"].W_dec @ directions.T).argmax(dim=0)
    lost = []
    for feature in range(24):
        rows = tokens[strength[:, feature] > 0]
        before, after = (
            scale_features(
                case.model, rows, ("resid_post", 0), dictionary, [int(owner[feature])], factor
            )[:, -1, feature]
            for factor in (1.0, 0.0)
        )
        lost.append(1 - after.mean() / before.mean())
    return torch.stack(lost).mean().item()


def measure_random(n_draws=10):
    draws = [normalize(torch.randn(24, 16, generator=generator)) for _ in range(n_draws)]
    return max(measure_lost(replace(dictionaries["L1"], W_dec=draw)) for draw in draws)


card = ClaimCard(
    claim="Without an L1 latent in the stream, the model loses most of its feature's logit.",
    model="planted features, 24 in 16 dimensions",
    task="name its features",
    data="300 fresh prompts",
    components="24 latents",
    intervention="take a latent's code times its direction out of the stream",
    effect=Measurement(
        "mean share of the feature's logit lost", lambda: measure_lost(dictionaries["L1"]), low=0.5
    ),
    control=Measurement(
        "the same along random directions, most of 10 draws", measure_random, high=0.2
    ),
    refuted_by="random directions that do as much, or latents that do little",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** The toy's features are linear and sparse. Real ones may be neither.
#
# ## On real models
#
# Dictionaries found readable latents in a one-layer model ([Bricken et al.
# 2023](https://transformer-circuits.pub/2023/monosemantic-features)), and in Claude 3 Sonnet, where
# clamping them steers the model ([Templeton et al.
# 2024](https://transformer-circuits.pub/2024/scaling-monosemanticity/)). Absorption occurs in real
# dictionaries ([Chanin et al. 2024](https://arxiv.org/abs/2409.14507)), two seeds share only part
# of their latents ([Paulo & Belrose 2025](https://arxiv.org/abs/2501.16615)), and untrained
# transformers get latents that look as interpretable ([Heap et al.
# 2025](https://arxiv.org/abs/2501.17727)). L1 crosscoders invent exclusive
# latents ([Minder et al. 2025](https://arxiv.org/abs/2504.02922)). A dictionary is a source of
# hypotheses; the test is in the model.
#
# Next: lesson 12, where latents and neurons get descriptions, and descriptions get scores.
