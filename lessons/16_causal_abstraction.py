# %% [markdown]
# # 16 · Causal abstraction
#
# After this lesson you can write a hypothesis as a causal model, test it by swaps, search for what
# carries a variable, and tell when a test proves nothing.
#
# ## Idea
#
# That a value can be read from an activation does not show that the model uses it (lesson 13). A
# hypothesis about use is a **causal model**: variables, and how each follows from others. In it one
# can *set* a variable to another value, and see what follows.
#
# If a part of an activation is such a variable, we can set it there. Run the model on one
# prompt, the **base**, but with this part as it is in the run on another, the **source**. This is
# an **interchange intervention**; we say swap. The causal model says what must follow: the answer
# for the base, had the variable the value that it has in the source. This is the **counterfactual
# answer**. The share of pairs of prompts that get it is the **interchange accuracy**. If it is 1
# for every variable at its place, on all pairs, the causal model is an **abstraction** of the
# network.
#
# The toy adds numbers modulo 11 like a clock: `a b =` is followed by `(a + b) % 11`. Its weights
# are set by hand.

# %%

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy, softplus

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.edges import write_mlp, write_outputs

clock = toys.load("clock_by_hand")
model = clock.model

# %% [markdown]
# ## Predict
#
# Base `3 4 =`, source `5 9 =`. We swap what carries `a`. What does the model say?

# %%
my_answer = 0  # your guess

# %% [markdown]
# ## Build
#
# The hypothesis, and a swap of the part of an activation that lies in the span of orthonormal
# `rows`.


# %%
def run_causal_model(tokens, given):
    """Compute each variable of the hypothesis, unless its value is given."""
    values = dict(given)
    values.setdefault("a", tokens[:, 0])
    values.setdefault("b", tokens[:, 1])
    values.setdefault("a + b", (values["a"] + values["b"]) % 11)
    return values


def predict(base, source, name):
    """Predict the counterfactual answer: the base, with one variable of the source."""
    set_to = run_causal_model(source, {})[name]
    return run_causal_model(base, {name: set_to})["a + b"]


def swap(model, base, source, hook, rows):
    """Run on base with the rows' span at the last position from source; return last logits."""
    with torch.no_grad():
        other = model.run_with_cache(source, names_filter=hook)[1][hook][:, -1]

    def put(value, point):
        own = value[:, -1]
        value[:, -1] = own + (other - own) @ rows.T @ rows

    return model.run_with_hooks(base, fwd_hooks=[(hook, put)])[:, -1]


def measure_accuracy(model, base, source, answers, hook, rows):
    said = swap(model, base, source, hook, rows).argmax(dim=1)
    return (said == answers).float().mean().item()


places = {
    name: (variable.site, variable.subspace) for name, variable in clock.truth.variables.items()
}
one, other = torch.tensor([[3, 4, 11], [5, 9, 11]]).split(1)
said = swap(model, one, other, *places["a"]).argmax().item()
print(f"base 3 4 =, source 5 9 =, a swapped: {said} (you: {my_answer})")

# %% tags=["check"]
assert said == predict(one, other, "a").item() == 5 + 4
package = methods.swap_subspace(model, one, other, places["a"][1], places["a"][0])[:, -1]
torch.testing.assert_close(swap(model, one, other, *places["a"]), package)

# %% [markdown]
# ## Look
#
# All 121 x 121 pairs of prompts: each variable's prediction against each place. Expect 1 where
# they belong together. **Control**: a random subspace of the same size, and no swap at all.

# %%
number = torch.arange(11)
prompts = torch.cartesian_prod(number, number, torch.tensor([11]))
which = torch.cartesian_prod(torch.arange(121), torch.arange(121))
base, source = prompts[which[:, 0]], prompts[which[:, 1]]
names = list(places)
generator = torch.Generator().manual_seed(0)


def draw_rows(n, width=model.config.d_model):
    return torch.linalg.qr(torch.randn(width, n, generator=generator)).Q.T


few = torch.randperm(len(base), generator=generator)[:1000]
random_scores = [
    measure_accuracy(
        model,
        base[few],
        source[few],
        predict(base, source, "a")[few],
        places["a"][0],
        draw_rows(4),
    )
    for _ in range(20)
]
matrix = torch.zeros(3, 4)
for i, name in enumerate(names):
    answers = predict(base, source, name)
    for j, (hook, rows) in enumerate(places.values()):
        matrix[i, j] = measure_accuracy(model, base, source, answers, hook, rows)
    matrix[i, 3] = (model(base)[:, -1].argmax(dim=1) == answers).float().mean()
fig, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
plots.draw_matrix(
    matrix, names, [f"of {name}" for name in names] + ["no swap"], ax, "", 1.0, numbers=True
)
ax.set(xlabel="place that is swapped", ylabel="variable", title="interchange accuracy")
plt.show()
print(f"20 random subspaces: {min(random_scores):.2f} to {max(random_scores):.2f}")

# %% tags=["check"]
assert (matrix[:, :3].diagonal() == 1).all()
assert torch.allclose(matrix[~torch.eye(3, 4).bool()], torch.tensor(1 / 11))
assert max(random_scores) < 0.25

# %% [markdown]
# Each place carries its own variable, on all pairs. A wrong pairing is right by chance, in one case
# of 11, and random subspaces stay below .25.
#
# ### Exercise 16.1: find_places
# Which places carry a variable, in unseen models? Stubs are in
# `exercises/ex16_causal_abstraction.py`; `minilab grade 16` checks them, `minilab hint 16` helps.
#
# ## Trap: a wrong hypothesis that passes
#
# A wrong hypothesis: the place of `a` carries `a + b`. Three ways to choose pairs: base and source
# differ in `a` alone, as pairs made for patching often do; they agree in `a`; or any pairs. What
# does each hypothesis score?

# %%
same_a = base[:, 0] == source[:, 0]
same_b = base[:, 1] == source[:, 1]
choices = {"differ in a alone": same_b & ~same_a, "same a": same_a, "any": torch.ones_like(same_a)}
scores = {}
for words, chosen in choices.items():
    pairs = base[chosen], source[chosen]
    for name in ("a", "a + b"):
        answers = predict(*pairs, name)
        scores[words, name] = measure_accuracy(model, *pairs, answers, *places["a"])
    scores[words, "nothing"] = measure_accuracy(
        model, *pairs, predict(*pairs, "a"), places["a"][0], torch.zeros(1, model.config.d_model)
    )
    a, total, nothing = (scores[words, name] for name in ("a", "a + b", "nothing"))
    print(f"{words:17} {chosen.sum():6} pairs: a {a:.2f}, a + b {total:.2f}, ", end="")
    print(f"a without a swap {nothing:.2f}")

# %% tags=["check"]
assert choices["differ in a alone"].sum() == 1210
assert scores["differ in a alone", "a"] == scores["differ in a alone", "a + b"] == 1
assert scores["same a", "a"] == scores["same a", "nothing"] == 1
assert max(scores["any", "a + b"], scores["any", "nothing"]) < 0.1 < scores["any", "a"] == 1

# %% [markdown]
# On all 1,210 pairs that differ in `a` alone, the wrong hypothesis scores 1.00: both predict the
# same there. On pairs with the same `a` even swapping nothing scores 1.00. So choose pairs on which
# rival hypotheses disagree. Number counts, too: if 14% of all pairs were wrong, 20 random pairs
# would still all be right in 5% of draws (`0.86 ** 20`), so 20 pairs cannot exclude it.

# %% tags=["check"]
assert 0.04 < 0.86**20 < 0.05

# %% [markdown]
# ### Exercise 16.2: refute_hypotheses
# Which hypotheses can be refuted, and by which pair? `minilab grade 16`
#
# ## Search
#
# An unknown place can be searched for: **distributed alignment search** (DAS,
# [Geiger et al. 2023](https://arxiv.org/abs/2303.02536)). Choose a hook, a number of dimensions,
# and pairs with counterfactual answers. Then fit orthonormal rows by gradient descent, so that
# swaps make these answers likely. The model's weights stay as they are.


# %%
def fit(model, base, source, answers, hook, dim, steps=100):
    """Fit dim orthonormal rows so that swapping their span brings the answers."""
    width = model.config.d_model
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(width, dim, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(steps):
        rows = torch.linalg.qr(free).Q.T  # orthonormal, whatever `free` is
        loss = cross_entropy(swap(model, base, source, hook, rows), answers)
        (free.grad,) = torch.autograd.grad(loss, [free])
        optimizer.step()
    return torch.linalg.qr(free.detach()).Q.T


hook = places["a"][0]
untrained = Transformer(model.config, seed=0)
rows_in_order = torch.randperm(len(base), generator=generator)
seen, unseen = rows_in_order[:256], rows_in_order[256:1256]
answers = predict(base, source, "a")


def search(model, dim):
    """Return the accuracy on unseen pairs after a search."""
    rows = fit(model, base[seen], source[seen], answers[seen], hook, dim)
    return measure_accuracy(model, base[unseen], source[unseen], answers[unseen], hook, rows)


found = fit(model, base[seen], source[seen], answers[seen], hook, dim=4)

# %% tags=["check"]
pairs = base[seen], source[seen], answers[seen], hook
package = methods.fit_das(model, *pairs, dim=4)  # begins wide, see its docstring
truth = clock.truth.variables["a"].subspace
plain, wide = ((rows @ truth.T).square().sum() / 4 for rows in (found, package))
assert 0.85 < plain < wide
assert wide > 0.95  # nearly the span that the weights write

# %% [markdown]
# The clock holds `a` as cosine and sine of `2πka/11` for two k (lesson 17). How many
# dimensions do swaps need? **Control**: the same search in an untrained model.

# %%
dims = [1, 2, 3, 4, 5]
curves = {
    "the clock": [search(model, dim) for dim in dims],
    "untrained": [search(untrained, dim) for dim in dims],
}
fig, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for (label, curve), colour in zip(curves.items(), (plots.BLUE, plots.ORANGE), strict=True):
    ax.plot(dims, curve, "o-", color=colour, label=label)
ax.set(xlabel="dimensions", ylabel="interchange accuracy", ylim=(0, 1.05))
ax.set_title("search for a, on pairs it has not seen")
ax.legend()
plt.show()
print({label: [round(x, 2) for x in curve] for label, curve in curves.items()})

# %% tags=["check"]
assert max(curves["the clock"][:3]) < 0.8 < 0.95 < min(curves["the clock"][3:])
assert max(curves["untrained"]) < 0.2

# %% [markdown]
# With three the search stays below .8; four are enough. In the untrained model nothing is found.
#
# ### Exercise 16.3: find_subspace
# Where does a disguised clock carry a number? `minilab grade 16`
#
# ## Illusion 1: a direction that nobody uses
#
# A layer of three numbers. The first is `x`, either 1 or -1. The second is about `3x`, but nobody
# reads it. The third is read, but always 0: it is **dormant**. The next layer computes the first
# plus twice the third, and answers with the sign. Where does a search with one direction end?

# %%
n = 200
x = 2.0 * torch.randint(2, (n,), generator=generator) - 1
noise = 0.3 * (2 * torch.rand(n, generator=generator) - 1)
h = torch.stack([x, 3 * x + noise, torch.zeros(n)], dim=1)
reader = torch.tensor([1.0, 0.0, 2.0])
partner = torch.randperm(n, generator=generator)


def swap_direction(u):
    """Swap one direction of h; return the reader's output, times the sign that it should have."""
    u = u / u.norm()
    swapped = h + ((h[partner] - h) @ u)[:, None] * u
    return swapped @ reader * x[partner]


u = torch.randn(3, generator=generator).requires_grad_()
optimizer = torch.optim.Adam([u], lr=0.05)
for _ in range(300):
    (u.grad,) = torch.autograd.grad(softplus(-swap_direction(u)).mean(), [u])
    optimizer.step()
directions = {
    "first": torch.tensor([1.0, 0.0, 0.0]),
    "second": torch.tensor([0.0, 1.0, 0.0]),
    "third": torch.tensor([0.0, 0.0, 1.0]),
    "second + third": torch.tensor([0.0, 1.0, 1.0]),
    "found": u.detach() / u.detach().norm() * u.detach()[0].sign(),
}
outcome = {}
for words, direction in directions.items():
    right = swap_direction(direction)
    outcome[words] = ((right > 0).float().mean().item(), softplus(-right).mean().item())
    print(f"{words:15} accuracy {outcome[words][0]:.2f}, loss {outcome[words][1]:.2f}")
print("found:", [round(part, 2) for part in directions["found"].tolist()])

# %% tags=["check"]
assert outcome["first"][0] == outcome["second + third"][0] == outcome["found"][0] == 1
assert max(outcome["second"][0], outcome["third"][0]) < 0.7
assert outcome["second + third"][1] < 0.6 * outcome["first"][1]
assert directions["found"].min() > 0.2
in_span = torch.tensor([1.0, 1.0, 0.0])
for words in ("first", "found"):
    assert (swap_direction(directions[words] * in_span) > 0).all()

# %% [markdown]
# Neither the second nor the third number alone moves the answer; their sum does, in all cases. The
# swap takes a difference from a number that varies, and puts it where nothing ever was. It has even
# half the loss of the true direction, so the search ends between them. This is an **illusion**
# ([Makelov et al. 2023](https://arxiv.org/abs/2311.17030)): the answer moves on a path that no
# prompt takes. A test: **confine** the direction to where activations vary, so that nothing of the
# third is left. The true one still works, and what the search found; `second + third` becomes
# `second` and fails.
#
# ### Exercise 16.4: tell_illusions
# Which subspaces carry a variable, and which only move the answer? `minilab grade 16`
#
# ## Illusion 2: a map that may do anything
#
# DAS amounts to a rotation: turn, exchange some coordinates, turn back. Why not allow any
# invertible map, such as a network that can be run backwards? Here the answer to `x y =` is `x + 1`
# modulo 8. We fit both to swaps of `x`, in a model with random weights, and test them on new pairs.

# %%
simple = toys.load("unused_feature")
random_model = Transformer(simple.model.config, seed=0)
digits = torch.cartesian_prod(torch.arange(8), torch.arange(2), torch.tensor([8]))
which = torch.cartesian_prod(torch.arange(16), torch.arange(16))
which = which[torch.randperm(len(which), generator=generator)]
sides = digits[which[:, 0]], digits[which[:, 1]]
target = (sides[1][:, 0] + 1) % 8
kept, held_out = slice(160), slice(160, None)
used = (sides[0][kept], sides[1][kept], target[kept], hook)  # hook: resid_mid, as above
# 8 values span 7 dimensions
alignment = methods.fit_nonlinear_alignment(random_model, *used, dim=7, steps=200)
rotation = methods.fit_das(random_model, *used, dim=7, steps=100)
new = sides[0][held_out], sides[1][held_out]
by_map = methods.swap_by_map(random_model, *new, alignment, hook)[:, -1].argmax(dim=1)
free_score = (by_map == target[held_out]).float().mean().item()
turn_score = measure_accuracy(random_model, *new, target[held_out], hook, rotation)
print(f"random weights, new pairs: any map {free_score:.2f}, a rotation {turn_score:.2f}")

# %% tags=["check"]
assert free_score > 0.7
assert turn_score < 0.4

# %% [markdown]
# The free map is right on most new pairs, in a model that computes nothing. The map does the work
# itself ([Sutter et al. 2025](https://arxiv.org/abs/2507.08802)). Held-out pairs do not expose it;
# the untrained model does.
#
# ## Test the whole hypothesis
#
# **Causal scrubbing** ([Chan et al. 2022](https://www.alignmentforum.org/posts/JvZhhzycHu2Yd57RN))
# tests all variables at once: whatever it says does not matter is replaced. The toy computes `x XOR
# y`, with a head for each bit and an MLP. The hypothesis: heads hand on `x` and `y`, and of these
# the MLP hands on only a function of both. So draw for the MLP a prompt that agrees with the given
# one in that function. Then draw for each head any prompt that agrees with the drawn one in the
# head's bit. All else comes from any prompt. Wrong functions and exchanged heads should cost
# accuracy.

# %%
xor = toys.load("boolean_xor")
bits = xor.task.everything().distinct().clean  # all four prompts
x, y = bits[:, 0], bits[:, 1]
written = dict(zip(("input", "a0.h0", "a0.h1", "m0"), write_outputs(xor.model, bits), strict=True))
ask = torch.arange(4).repeat(500)


def draw_same(feature, rows):
    """Draw for each prompt one with the same value of the feature."""
    same = feature[rows][:, None] == feature
    return torch.multinomial(same.float(), 1, generator=generator)[:, 0]


def scrub(head_x, head_y, gate):
    """Return the accuracy if only what the hypothesis names is kept."""
    agree = draw_same(gate, ask)
    inputs = written[head_x][draw_same(x, agree)] + written[head_y][draw_same(y, agree)]
    inputs = inputs + written["input"][draw_same(0 * x, ask)]
    result = write_mlp(xor.model, 0, inputs)
    rest = draw_same(0 * x, ask)
    stream = result + sum(written[name][rest] for name in ("input", "a0.h0", "a0.h1"))
    said = xor.model.unembed(stream)[:, -1].argmax(dim=1)
    return (said == (x ^ y)[ask]).float().mean().item()


heads = [xor.truth.roles[bit] for bit in "xy"]
with torch.no_grad():
    scrubbed = {
        "heads x and y, XOR": scrub(*heads, x ^ y),
        "heads x and y, AND": scrub(*heads, x & y),
        "heads exchanged, XOR": scrub(*heads[::-1], x ^ y),
        "nothing named": scrub(*heads, 0 * x),
        "everything named": scrub(*heads, 2 * x + y),
    }
for words, score in scrubbed.items():
    print(f"{words:21} {score:.2f}")

# %% tags=["check"]
batch = xor.task.draw(512)
runs = xor.model, batch.clean, batch.corrupt, batch.logit_difference
fetch = {heads[0]: lambda tokens: tokens[:, 0], heads[1]: lambda tokens: tokens[:, 1]}
by_xor = methods.scrub(*runs, fetch | {"m0": lambda tokens: tokens[:, 0] ^ tokens[:, 1]})
by_and = methods.scrub(*runs, fetch | {"m0": lambda tokens: tokens[:, 0] & tokens[:, 1]})
assert by_xor.recovered > 0.99 > 0.6 > by_and.recovered
assert scrubbed["heads x and y, XOR"] == scrubbed["everything named"] == 1
assert scrubbed["heads exchanged, XOR"] < 0.9
assert abs(scrubbed["nothing named"] - 0.5) < 0.05
assert scrubbed["heads x and y, AND"] < 0.8

# %% [markdown]
# The right hypothesis loses nothing. Neither does one that names everything: then nothing is
# replaced. A score of 1 is worth more, the less is kept.
#
# ### Exercise 16.5: name_messages
# What is the least that each head must hand on? `minilab grade 16`
#
# ## Claim card

# %%
card = ClaimCard(
    claim="Four directions at resid_mid carry the first number a, and nothing else of the prompt.",
    model="clock_by_hand: addition modulo 11",
    task="a b = is followed by a + b",
    data="1,000 pairs of prompts that were not used in the search",
    components="the subspace that DAS found with four dimensions",
    intervention="swap it between prompts",
    effect=Measurement(
        "interchange accuracy",
        lambda: measure_accuracy(model, base[unseen], source[unseen], answers[unseen], hook, found),
        low=0.95,
    ),
    control=Measurement("same search, untrained", lambda: curves["untrained"][3], high=0.2),
    refuted_by="pairs that differ in b as well and do not get the counterfactual answer",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# **Limits.** A hypothesis is tested on the prompts and at the place that were tried. Hypotheses
# that predict the same cannot be told apart. And a subspace that works need not be the only one.
#
# ## On real models
#
# Swaps found parts of a language model for inference that behave like variables of a simple
# algorithm ([Geiger et al. 2021](https://arxiv.org/abs/2106.02997)). In Alpaca, of 7 billion
# weights, DAS found two yes-or-no variables behind a comparison of prices ([Wu et al.
# 2023](https://arxiv.org/abs/2305.08809)). That dormant directions
# make illusions was shown in GPT-2; whether the word fits is disputed
# ([Wu et al. 2024](https://arxiv.org/abs/2401.12631)). On a benchmark of facts, many methods moved
# other facts as well ([Huang et al. 2024](https://arxiv.org/abs/2402.17700)). So report what must
# not change beside what must.
#
# Next: lesson 17 takes a trained model apart, end to end.
