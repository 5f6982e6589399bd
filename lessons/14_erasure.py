# %% [markdown]
# # 14 · Erasure
#
# After this lesson you can take a concept out of activations in three ways, say what they leave
# behind and what else they damage, and test whether a model uses the concept.
#
# ## Idea
#
# A probe shows that a **concept**, such as the sentiment of a text, can be read from activations.
# To **erase** it means to change the activations so that it cannot be read any more. There are two
# reasons to do so. A user may not want a model to know the concept. Or we want to know whether the
# model needs it: take it out, and see.
#
# Every eraser of this lesson takes away what lies along some directions:
#
# `x → x - M (x - mean)`
#
# The mean of the activations stays where it is. If no linear probe can have a lower loss than one
# that always gives the same answer, we call the concept **linearly erased**. That is the case
# exactly where all classes have the same mean ([Belrose et al.
# 2023](https://arxiv.org/abs/2306.03819)).
#
# The toy is that of lesson 13, the language model of reviews with a topic (film or food), a
# register (formal or casual) and a sentiment (good or bad). We look at the verbs from the second
# sentence on, after attention 1. An adjective comes next, and it shows topic and sentiment.

# %%
import matplotlib.pyplot as plt
import torch
from torch.nn.functional import normalize

from mini_transformer import methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.toys.trained import style_grammar as reviews

model = toys.load("style_grammar").model
NAMES = ["topic", "register", "sentiment"]
SITE = reviews.SITE


def seeded(seed):
    return torch.Generator().manual_seed(seed)


texts = {seed: reviews.draw_texts(512, seeded(seed)) for seed in (1, 2)}


def read_verbs(seed, hook=SITE):
    """Return the stream at the verbs of 512 reviews, and their attributes (row, 3)."""
    tokens, given = texts[seed]
    here = reviews.find_uses(tokens, reviews.SENTIMENT)
    everywhere = given[:, None].expand(*tokens.shape, -1)
    return reviews.read_stream(model, tokens, hook)[here], everywhere[here]


x, attributes = read_verbs(1)
fresh, fresh_attributes = read_verbs(2)
topic, _, sentiment = attributes.T

# %% [markdown]
# ## Predict
#
# Before, a linear probe reads the sentiment in 99% or more of fresh rows, and of the probability
# that adjectives get, the model gives 99% to those of the text's own sentiment. Then the sentiment
# is linearly erased at all these verbs. What will the probe get? And the model?

# %%
my_probe = 0.0  # your guess, 0 to 1
my_model = 0.0  # your guess, 0 to 1

# %% [markdown]
# ## Build: three erasers
#
# **One direction.** The classes' means differ by `d`. Take out all that lies along it. The package
# calls this `fit_projection`.


# %%
def fit_direction(x, labels):
    """Return M of the eraser that takes out the difference of the means."""
    d = normalize(x[labels == 1].mean(0) - x[labels == 0].mean(0), dim=0)
    return torch.outer(d, d)


# %% [markdown]
# **INLP** (iterative null-space projection,
# [Ravfogel et al. 2020](https://arxiv.org/abs/2004.07667)). Train a linear probe, take out its
# direction, train another on what is left, and so on, until one is no better than the more frequent
# class.


# %%
def fit_inlp(x, labels):
    """Return M of the eraser that takes out one probe's direction after the other."""
    kept = torch.eye(x.shape[1])
    majority = labels.bincount().max() / len(labels)
    while True:
        left = (x - x.mean(0)) @ kept
        probe = methods.fit_probe(left, labels)
        if probe.accuracy(left, labels) <= majority:
            return torch.eye(x.shape[1]) - kept
        w = normalize(probe.directions[0] @ kept, dim=0)
        kept = kept - torch.outer(w, w)


# %% [markdown]
# **LEACE** (Belrose et al. 2023) is the smallest change that erases linearly. In **whitened**
# activations, `W (x - mean)` with `W` the inverse root of the covariance, all directions vary
# alike. There take out the direction along which the classes differ, and go back. (The package's
# leaves out directions that do not vary.)


# %%
def fit_leace(x, labels):
    """Return M of the smallest change, by mean square, that makes the means equal."""
    centred = (x - x.mean(0)).double()
    values, axes = torch.linalg.eigh(centred.T @ centred / len(x))
    W = axes @ torch.diag(values.rsqrt()) @ axes.T
    q = normalize(W @ centred.T @ (labels - labels.double().mean()), dim=0)
    return (torch.linalg.inv(W) @ torch.outer(q, q) @ W).float()


def apply(M):
    """Return the eraser of M as a function of activations."""
    return lambda rows: rows - (rows - x.mean(0)) @ M.T


fits = {"one direction": fit_direction, "INLP": fit_inlp, "LEACE": fit_leace}
erasers = {name: fit(x, sentiment) for name, fit in fits.items()}

# %% tags=["check"]
packages = (methods.fit_projection, methods.fit_inlp, methods.fit_leace)
for M, fit in zip(erasers.values(), packages, strict=True):
    torch.testing.assert_close(M, fit(x, sentiment).M, atol=2e-3, rtol=1e-3)

# %% [markdown]
# ### Exercise 14.1: erase_values
# Erase values instead of classes, with the least change. The stub is in
# `exercises/ex14_erasure.py`; `minilab grade 14` checks it, `minilab hint 14` helps.
#
# ## Look: what is left
#
# Ask of each eraser: what do a linear probe and a small MLP still read in fresh rows? What share of
# the variance is gone? And what does the model say if its own stream is changed at the verbs?
# **Control:** as many random directions as INLP takes out (about 40 of 64), ten draws.


# %%
def probe(change, labels, new_labels, hidden=None):
    """Fit a probe on changed rows; measure how often it is right in changed fresh rows."""
    return methods.fit_probe(change(x), labels, hidden).accuracy(change(fresh), new_labels)


def measure_model(change, of=reviews.SENTIMENT, hook=SITE):
    """Measure the probability of adjectives with the text's own attribute, changed at verbs."""
    tokens, given = texts[2]
    here = reviews.find_uses(tokens, reviews.SENTIMENT)

    def edit(stream, hook):
        stream[here] = change(stream[here])

    logits = model.run_with_hooks(tokens, fwd_hooks=[(hook, edit)])
    return reviews.share_own(logits, tokens, given, of, at=reviews.SENTIMENT)


def erase_random(n, seed):
    """Return the eraser of n random directions."""
    Q = torch.linalg.qr(torch.randn(64, n, generator=seeded(seed))).Q
    return apply(Q @ Q.T)


own = fresh_attributes[:, 2]
table = {}
for name, M in {"nothing": torch.zeros(64, 64), **erasers}.items():
    change = apply(M)
    gone = (fresh - change(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum()
    shares = [probe(change, sentiment, own), probe(change, sentiment, own, hidden=16), gone]
    table[name] = [round(float(share), 2) for share in (*shares, measure_model(change))]
    print(
        "{:14} linear {:4.0%}, MLP {:4.0%}, gone {:3.0%}, model {:.0%}".format(name, *table[name])
    )
random_40 = [measure_model(erase_random(40, seed)) for seed in range(10)]
print(f"40 random directions: model {min(random_40):.0%} to {max(random_40):.0%}")
print(f"LEACE, you: linear {my_probe:.0%}, model {my_model:.0%}")

# %% tags=["check"]
expected = [[1, 1, 0, 0.99], [0.52, 1, 0.25, 0.96], [0.5, 1, 0.49, 0.89], [0.52, 1, 0.23, 0.95]]
measured = torch.tensor(list(table.values()))
torch.testing.assert_close(measured, torch.tensor(expected), atol=0.015, rtol=0)
assert 37 <= torch.linalg.matrix_rank(erasers["INLP"], tol=0.01) <= 42
assert min(random_40) < table["INLP"][3] < max(random_40)
shuffled = [sentiment[torch.randperm(len(x), generator=seeded(i))] for i in range(10)]
left = [probe(apply(fit_leace(x, labels)), sentiment, own) for labels in shuffled]
assert min(left) > 0.99

# %% [markdown]
# All three do what they promise: the linear probe guesses. LEACE changes least. INLP takes out
# about 40 directions and half of the variance. (An eraser fitted to shuffled labels erases nothing:
# the probe stays at 99% or more in ten draws.)
#
# But an MLP reads the sentiment in nearly all fresh rows. The model still gives 95% of
# the probability to the right sentiment: it uses what no linear probe reads. INLP brings it to 89%,
# as 40 random directions do.
#
# ## Linear erasure leaves non-linear traces
#
# Where is the sentiment now? Look at the topics one by one. The difference from good to bad
# is a direction in films, and another in food. We plot the rows along both, before and after LEACE.
# If LEACE keeps its promise, the mean of all good rows falls on that of all bad rows. Expect to see
# more than that.


# %%
def measure_steps(rows, labels, topic):
    """Measure the difference from good to bad in each topic (topic, d)."""
    return torch.stack(
        [
            rows[(labels == 1) & (topic == which)].mean(0)
            - rows[(labels == 0) & (topic == which)].mean(0)
            for which in (0, 1)
        ]
    )


steps = measure_steps(x, sentiment, topic)
alike = torch.cosine_similarity(*steps, dim=0).item()
erased = apply(erasers["LEACE"])(x)
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, rows, title in zip(axes, (x, erased), ("before", "after LEACE"), strict=True):
    along = (rows - x.mean(0)) @ normalize(steps, dim=1).T
    for word, label, colour in (("good", 0, plots.BLUE), ("bad", 1, plots.ORANGE)):
        for kind, which, marker in (("film", 0, "o"), ("food", 1, "^")):
            points = along[(sentiment == label) & (topic == which)]
            ax.scatter(*points.T, s=6, color=colour, marker=marker, label=f"{word} {kind}")
        mean = along[sentiment == label].mean(0)
        ax.scatter(*mean, s=140, color=colour, marker="X", edgecolors="black")
    ax.set(title=title, xlabel="along good to bad films")
axes[0].set(ylabel="along good to bad food")
outside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
axes[1].legend(title="X: means (right: in one place)", markerscale=2, **outside)
plt.show()

new = apply(erasers["LEACE"])(fresh)
own_topic = fresh_attributes[:, 0]
by_topic = []
for which in (0, 1):
    reader = methods.fit_probe(erased[topic == which], sentiment[topic == which])
    by_topic.append(reader.accuracy(new[own_topic == which], own[own_topic == which]))
print(f"cosine of the two {alike:.2f}; probes in one topic after LEACE: {min(by_topic):.0%}")

# %% tags=["check"]
assert round(alike, 2) == -0.19
assert min(by_topic) == 1
means = [erased[sentiment == label].mean(0) for label in (0, 1)]
torch.testing.assert_close(*means, atol=1e-3, rtol=0)

# %% [markdown]
# The two means coincide, but good films are still apart from bad films, and good food from bad
# food: good films now lie near bad food. In one topic a linear probe reads the sentiment in every
# fresh row. Over both topics the differences now cancel. So the sentiment hides in a combination
# with the topic, as in an exclusive or. An MLP reads such a combination. The model can read it,
# too: each topic has adjectives of its own.
#
# ## Erased, and used or not
#
# So take out both directions. **Control:** two random directions, ten draws.
#
# A drop alone does not say much: a broken model also answers worse. A sharper test asks for the
# **counterfactual**: exchange what the stream holds for the text's own sentiment for what it holds
# for the other one, `x + mean of the other - mean of its own`, in its topic. If the model uses just
# this, it must now give the *other* adjective, and leave the topic as it is.

# %%
Q = torch.linalg.qr(steps.T).Q
sign = (1 - 2 * own)[:, None]
one = x[sentiment == 1].mean(0) - x[sentiment == 0].mean(0)
changes = {
    "both erased": apply(Q @ Q.T),
    "one direction exchanged": lambda rows: rows + sign * one,
    "both exchanged": lambda rows: rows + sign * steps[own_topic],
}
results = {}
for name, change in changes.items():
    shares = measure_model(change), measure_model(change, reviews.TOPIC)
    results[name] = [round(share, 2) for share in shares]
    print("{}: own sentiment {:.0%}, own topic {:.0%}".format(name, *results[name]))
random_2 = [measure_model(erase_random(2, seed)) for seed in range(10)]


def shift_random(seed):
    """Shift rows as far as `both exchanged`, along random directions."""
    drawn = normalize(torch.randn(2, 64, generator=seeded(seed)), dim=1)
    return lambda rows: rows + sign * (steps.norm(dim=1, keepdim=True) * drawn)[own_topic]


random_shifts = [measure_model(shift_random(seed)) for seed in range(10)]
both = apply(Q @ Q.T)
left = probe(both, sentiment, own, hidden=16)
print(f"random: own sentiment {min(random_2):.0%} erased, {min(random_shifts):.0%} shifted as far")
print(f"MLP, both erased: {left:.0%}")

# %% tags=["check"]
expected = [[0.51, 1], [0.72, 0.96], [0, 1]]
measured = torch.tensor(list(results.values()))
torch.testing.assert_close(measured, torch.tensor(expected), atol=0.015, rtol=0)
assert min(random_2) > 0.98
assert round(min(random_shifts), 2) == 0.8
assert left > 0.99

# %% [markdown]
# Without both directions the model guesses the sentiment (51%), and keeps the topic. With both
# exchanged it gives the other sentiment: less than 1% is left of its own, after equal shifts at
# random 80% or more. So these two directions hold what it uses. The one direction of all texts was
# not enough.
#
# Yet the MLP probe still reads the sentiment in more than 99%. There are other traces, which the
# model does not use. A probe, linear or not, is no judge of use.
#
# **Where you erase matters, too.** Do the same one layer earlier, after layer 0.

# %%
EARLIER = ("resid_post", 0)
before, _ = read_verbs(1, EARLIER)
after, _ = read_verbs(2, EARLIER)
readable = methods.fit_probe(before, sentiment).accuracy(after, own)
Q0 = torch.linalg.qr(measure_steps(before, sentiment, topic).T).Q


def erase_earlier(rows):
    return rows - (rows - before.mean(0)) @ Q0 @ Q0.T


early = measure_model(erase_earlier, hook=EARLIER)
print(f"after layer 0: probe {readable:.0%}, both erased: own sentiment {early:.0%}")

# %% tags=["check"]
assert (round(readable, 2), round(early, 2)) == (0.89, 0.93)

# %% [markdown]
# At the same verbs the sentiment can be read in 89%, and erasing it leaves the model at 93%:
# presumably attention 1 fetches it from elsewhere. "Not used" holds for one site, never for the
# whole model.
#
# ### Exercise 14.2: find_used_concepts
# Which concepts does a model use at a site, if concepts go together in its prompts?
# `minilab grade 14`
#
# ### Exercise 14.3: erase_what_is_used
# Find the few directions that a model uses, and only those. `minilab grade 14`
#
# ## Damage
#
# Two ways to erase too much. First, fit LEACE to all four pairs of topic and sentiment at once.
# Second, fit it on "matched" reviews only, good films and bad food, where the two always agree.
# What happens to the topic?

# %%
matched = topic == sentiment
damage = {}
for name, eraser in (
    ("sentiment", methods.fit_leace(x, sentiment)),
    ("pairs", methods.fit_leace(x, 2 * topic + sentiment)),
    ("matched", methods.fit_leace(x[matched], sentiment[matched])),
):
    readable = probe(eraser, topic, own_topic)
    shares = [readable, *(measure_model(eraser, of) for of in (reviews.SENTIMENT, reviews.TOPIC))]
    damage[name] = [round(share, 2) for share in shares]
    words = "{:10} topic: probe {:4.0%}; model: own sentiment {:.0%}, own topic {:.0%}"
    print(words.format(name, *damage[name]))

# %% tags=["check"]
expected = [[1, 0.95, 1], [0.53, 0.52, 0.49], [0.77, 0.75, 0.74]]
measured = torch.tensor(list(damage.values()))
torch.testing.assert_close(measured, torch.tensor(expected), atol=0.015, rtol=0)

# %% [markdown]
# The first takes out all that tells any pair from another, so the topic goes as well. The second
# cannot tell the two concepts apart, and takes out some of each. Whoever looks only at how far the
# own sentiment falls (to 52% and 75%, not 95%) prefers both. So measure what should *not* change
# as carefully as what should.
#
# ## Trap: an eraser is fitted, too
#
# Fit LEACE on few rows. Then train a linear probe on 760 fresh rows, and try it on the others.

# %%
sizes = [32, 64, 128, 256, 512, 1024]
own_rows, fresh_rows = [], []
for n in sizes:
    eraser = methods.fit_leace(x[:n], sentiment[:n])
    changed = eraser(fresh)
    few = eraser(x[:n])
    own_rows.append(methods.fit_probe(few, sentiment[:n]).accuracy(few, sentiment[:n]))
    reader = methods.fit_probe(changed[:760], own[:760])
    fresh_rows.append(reader.accuracy(changed[760:], own[760:]))
ax = plots.plot_curves(sizes, {"its own rows": own_rows, "fresh rows": fresh_rows})
ax.set(xlabel="rows that the eraser was fitted on", ylabel="sentiment read", xscale="log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set(ylim=(0.4, 1.0))
plt.show()
print(f"fitted on 32 rows: {own_rows[0]:.0%} there, {fresh_rows[0]:.0%} in fresh rows")

# %% tags=["check"]
assert (round(own_rows[0], 2), round(fresh_rows[0], 2)) == (0.53, 0.85)
assert max(own_rows) < 0.6
assert fresh_rows[-1] < 0.55

# %% [markdown]
# On its own rows each eraser leaves a probe near one half. But 32 rows tell little about the means
# of all, so in fresh rows 85% can be read. Judge an eraser on rows that it was not fitted on, by a
# probe trained on some of them and tried on others.
#
# ### Exercise 14.4: audit_erasers
# Which erasers did what they should, which leave traces, and which do damage? `minilab grade 14`
#
# ## Claim card

# %%
card = ClaimCard(
    claim="The model reads the sentiment at verbs from two directions, one for each topic.",
    model="style_grammar, seed 0",
    task="the next adjective shows the text's sentiment",
    data="verbs of 512 fresh reviews, from the second sentence on",
    components="stream after attention 1",
    intervention="exchange the sentiment's mean difference in the text's topic",
    effect=Measurement(
        "own sentiment left", lambda: measure_model(changes["both exchanged"]), high=0.01
    ),
    control=Measurement(
        "own sentiment after equal shifts at random", lambda: min(random_shifts), 0.75
    ),
    refuted_by="adjectives of the own sentiment after the exchange",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ## On real models
#
# Word embeddings lose a "gender direction" easily, but what is left still tells most of the bias:
# words of one gender stay neighbours
# ([Gonen and Goldberg 2019](https://arxiv.org/abs/1903.03862)). Without INLP's directions for
# parts of speech BERT predicts words much worse; this is **amnesic probing**, erasing as a test of
# use ([Elazar et al. 2021](https://arxiv.org/abs/2006.00995)). Counterfactual exchanges in BERT
# changed the agreement of verbs as grammar says they should
# ([Ravfogel et al. 2021](https://arxiv.org/abs/2105.06965)). LEACE in all layers of LLaMA and
# Pythia models showed that they need linear information on parts of speech (Belrose et al. 2023).
# Erasers that rest on a probe can leave the concept, and can take out what the task needs
# ([Kumar et al. 2022](https://arxiv.org/abs/2207.04153)). Non-linear erasers against one kind of
# reader did not hold against others
# ([Ravfogel et al. 2022](https://arxiv.org/abs/2201.12191)).
#
# Next: lesson 15 adds directions instead of taking them out.
