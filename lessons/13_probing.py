# %% [markdown]
# # 13 · Probing
#
# After this lesson you can train probes, check what they learned, search without labels, and tell
# what can be read from what is used.
#
# ## Idea
#
# A **probe** is a small classifier that predicts a property of the input from a model's
# activations. A **linear** probe answers 1 where `x @ w + b > 0`, for an activation `x`. It is
# trained on some activations and tried on others. If it is right there, the property can be
# **decoded**. Three things may still be wrong:
#
# - the probe knows words by heart: the activations hold only which word it is;
# - the probe reads something else, which went along with the property in training;
# - the model itself does not read what the probe reads.
#
# The toy is a language model of short reviews with three **attributes**, each 0 or 1: topic (film
# or food), register (formal or casual) and sentiment (good or bad).

# %%
import matplotlib.pyplot as plt
import torch
from torch.nn.functional import normalize, softplus

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.toys.trained import brackets
from mini_transformer.toys.trained import style_grammar as reviews

toy = toys.load("style_grammar")
models = {"trained": toy.model, "untrained": Transformer(toy.model.config, seed=0)}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


texts, attributes = reviews.draw_texts(256, seeded(1))
fresh, fresh_attributes = reviews.draw_texts(256, seeded(2))
print(toy.task.read(texts[0]), attributes[0].tolist())

# %% [markdown]
# ## Predict
#
# Nouns show the topic: four belong to films, four to food. A linear probe reads the topic from the
# stream at the nouns, after layer 0. How often is it right in fresh reviews? And in a model with
# random weights?

# %%
my_trained = 0.5  # your guess, 0 to 1
my_untrained = 0.5  # your guess, 0 to 1

# %% [markdown]
# ## Build: a linear probe
#
# Training minimises the cross-entropy (-log p of the right label), plus a **penalty** on a long `w`
# ([Alain and Bengio 2016](https://arxiv.org/abs/1610.01644)). Below, the package's `fit_probe` does
# the same.


# %%
def fit_linear_probe(x, labels, penalty=1.0):
    """Return w and b of the best linear probe for labels 0 and 1."""
    w = torch.zeros(x.shape[1], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=300, line_search_fn="strong_wolfe")

    def compute_loss():
        optimizer.zero_grad()
        margin = (2 * labels - 1) * (x @ w + b)  # positive where the answer is right
        loss = softplus(-margin).sum() + penalty / 2 * w.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    return w.detach(), b.detach()


def read_nouns(model, texts):
    """Return the stream after layer 0 at the nouns, and which noun it is, 0 to 7."""
    here = (texts >= reviews.NOUN) & (texts < reviews.ADJECTIVE)
    return reviews.read_stream(model, texts, ("resid_post", 0))[here], texts[here] - reviews.NOUN


def measure_nouns(model, labels, left_out=-1):
    """Measure a probe for nouns' labels in fresh reviews: on all, or on the one it never saw."""
    x, noun = read_nouns(model, texts)
    new_x, new_noun = read_nouns(model, fresh)
    train, test = noun != left_out, (new_noun == left_out) | (left_out < 0)
    probe = methods.fit_probe(x[train], labels[noun[train]])
    return probe.accuracy(new_x[test], labels[new_noun[test]])


topic = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
shuffled = [topic[torch.randperm(8, generator=seeded(i))] for i in range(10)]
shares = {}
for name, model in models.items():
    control = min(measure_nouns(model, labels) for labels in shuffled)
    left_out = sum(measure_nouns(model, topic, noun) for noun in range(8)) / 8
    shares[name] = measure_nouns(model, topic), control, round(left_out, 2)
    print(name, "topic {:.0%}, shuffled labels {:.0%}, left-out noun {:.0%}".format(*shares[name]))
print(f"you: {my_trained:.0%} and {my_untrained:.0%}")

# %% tags=["check"]
assert shares == {"trained": (1, 1, 1), "untrained": (1, 1, 0.54)}
x, noun = read_nouns(toy.model, texts)
package = methods.fit_probe(x, topic[noun])
w, _ = fit_linear_probe(x, topic[noun])
torch.testing.assert_close(package.directions[0], w, atol=2e-3, rtol=2e-2)

# %% [markdown]
# ## Control: labels by chance
#
# Both probes are always right: no sign of training. A **control task**
# ([Hewitt and Liang 2019](https://arxiv.org/abs/1909.03368)) shows why. Shuffle which noun has
# which label, and train again: in all ten draws the probe is always right, too. The accuracy minus
# that on the control task is the **selectivity**, here 0. The stream need only hold which noun it
# is.
#
# A harder test: leave one noun out of training, and try the probe on it alone. In the trained model
# it is still always right: nouns of a topic share a direction. In the untrained one: 54%.
#
# ### Exercise 13.1: tell_what_sites_hold
# Which sites hold a label, which only the word, and which neither? The stub is in
# `exercises/ex13_probing.py`; `minilab grade 13` checks it.
#
# ## Trap 1: many dimensions, few rows
#
# Label every review by a coin. The stream has 64 dimensions, the probe hardly any penalty. Expect
# it to be right about its own rows while these are few, and to guess on fresh ones.

# %%
many, _ = reviews.draw_texts(1500, seeded(1))
ends = reviews.read_stream(toy.model, many, ("resid_mid", 1))[:, -1]
sizes = [16, 32, 64, 96, 128, 192, 256, 512]
own_rows, fresh_rows = [], []
for n in sizes:
    coins = torch.randint(2, (len(ends),), generator=seeded(n))
    probe = methods.fit_probe(ends[:n], coins[:n], penalty=1e-4)
    own_rows.append(probe.accuracy(ends[:n], coins[:n]))
    fresh_rows.append(probe.accuracy(ends[512:], coins[512:]))
ax = plots.plot_curves(sizes, {"its own rows": own_rows, "fresh rows": fresh_rows})
ax.set(xlabel="rows to train on", ylabel="coin flips right", ylim=(0.4, 1.05), xscale="log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
plt.show()

# %% tags=["check"]
assert own_rows[:3] == [1, 1, 1]
assert own_rows[-1] < 0.64
assert all(0.48 < share < 0.52 for share in fresh_rows)

# %% [markdown]
# Up to 64 rows, at least, it is right about its own: with as many dimensions as rows some `w` fits
# any labels.
#
# ## Trap 2: other distributions
#
# At a verb the model must know the sentiment, since the adjective comes next. We train probes for
# it on four kinds of reviews and try them on five. "matched" holds only good films and bad food, a
# **spurious correlation** that we planted; "reversed" the others. Expect 1 on the same kind.
# Elsewhere?


# %%
def read_verbs(seed, kind):
    """Return the stream at the verbs, after attention 1, and the sentiment."""
    given = torch.randint(2, (256, 3), generator=seeded(seed))
    sentiment = given[:, 2]
    topics = {"films": 0, "food": 1, "matched": sentiment, "reversed": 1 - sentiment}
    given[:, 0] = topics.get(kind, given[:, 0])
    tokens, given = reviews.draw_texts(256, seeded(seed), given)
    here = reviews.find_uses(tokens, reviews.SENTIMENT)
    return reviews.read_stream(toy.model, tokens)[here], given[:, 2:].expand_as(here)[here]


KINDS = ["all", "films", "food", "matched", "reversed"]
probes = [methods.fit_probe(*read_verbs(3, kind)) for kind in KINDS[:-1]]
table = torch.tensor([[probe.accuracy(*read_verbs(4, kind)) for kind in KINDS] for probe in probes])
ax = plt.subplots(figsize=(9, 2.8), layout="constrained")[1]
plots.draw_matrix(table, KINDS[:-1], KINDS, ax, "sentiment: share right", 1.0, numbers=True)
ax.set(xlabel="tried on", ylabel="trained on")
plt.show()

# %% tags=["check"]
assert table[[0, 1, 2, 3], [0, 1, 2, 3]].min() == 1
assert round(table[1, 2].item(), 2) == 0.5
assert table[3, 4] == 0

# %% [markdown]
# On its own kind each probe is perfect. The one for films guesses in food (50%): "good" has another
# direction there (lesson 14). The one for matched reviews learned the topic: on reversed ones it is
# *never* right. Fresh reviews of the same kind do not show this.
#
# ### Exercise 13.2: fit_without_shortcut
# Fit a probe that does not rest on a shortcut, though label and shortcut nearly always agree.
# `minilab grade 13`
#
# ## Build: search without labels
#
# **Contrast-consistent search** (CCS, [Burns et al. 2022](https://arxiv.org/abs/2212.03827)) needs
# no labels, only pairs that must disagree, as a statement and its negation do. It wants p(x) =
# sigmoid(w x) to be *consistent*, p(x⁺) = 1 - p(x⁻), and sure. Each set is centred and scaled, so
# that "first or second" cannot be read. The sign stays open.
#
# Our pairs are a review and the same with all adjectives turned, read at the last verb. Will all
# twenty searches find the sentiment?


# %%
def search(positive, negative, seed):
    """Return the w of one search: consistent and sure."""
    first, second = ((x - x.mean(0)) / x.std(0) for x in (positive, negative))
    w = normalize(torch.randn(first.shape[1], generator=seeded(seed)), dim=0).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=0.1)
    for _ in range(300):
        p, q = (first @ w).sigmoid(), (second @ w).sigmoid()
        loss = ((p + q - 1) ** 2 + torch.minimum(p, q) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return w.detach()


batch = toy.task.draw(256, seed=3)
row = torch.arange(256)
positive, negative = (
    reviews.read_stream(toy.model, tokens)[row, batch.position]
    for tokens in (batch.clean, batch.corrupt)
)
topic = (batch.answer - reviews.ADJECTIVE) // 2
sentiment = (batch.answer - reviews.ADJECTIVE) % 2
features = {"sentiment": sentiment, "topic": topic, "XOR": sentiment ^ topic}
counts = dict.fromkeys([*features, "none"], 0)
for seed in range(20):
    said = methods.answer_pairs(search(positive, negative, seed), positive, negative)
    right = {name: (said == value).float().mean() for name, value in features.items()}
    counts[next((name for name in right if abs(right[name] - 0.5) >= 0.4), "none")] += 1
contrast = methods.fit_contrast_directions(positive, negative, 2)
print(counts, contrast.shares)

# %% tags=["check"]
assert counts == {"sentiment": 8, "topic": 0, "XOR": 12, "none": 0}
assert [round(share.item(), 2) for share in contrast.shares] == [0.55, 0.42]
said = [((positive - negative) @ direction > 0).long() for direction in contrast.directions]
assert (said[0] == features["XOR"]).float().mean().sub(0.5).abs() > 0.49
assert (said[1] == sentiment).float().mean().sub(0.5).abs() > 0.45
package = methods.answer_pairs(methods.fit_ccs(positive, negative), positive, negative)
assert any((package == value).float().mean().sub(0.5).abs() > 0.45 for value in features.values())

# %% [markdown]
# Twelve of twenty find sentiment XOR topic: good films and bad food on one side, the others on the
# other. Each pair is split, so this is as consistent as sentiment. Pairs disagree
# on more than what you look for ([Farquhar et al. 2023](https://arxiv.org/abs/2312.10029)).
#
# A simpler search has the same trouble. **Contrast directions** are those along which pairs differ
# most. The first (55% of the squared difference) is the XOR, the second (42%) the sentiment.
#
# ### Exercise 13.3: answer_without_labels
# Pairs disagree on truth, and louder on a feature that you know. Find the truth. `minilab grade 13`
#
# ## Look: a negation feature
#
# "not" turns an adjective around. Does the model know, at the adjective, that it is negated? One
# probe is trained on first adjectives, another on second ones at position 12. Before these stands
# one "not", in the first sentence or in their own: position does not tell which.


# %%
def read_adjectives(model, seed, number, hook):
    """Return the stream at first or second adjectives, and whether these are negated."""
    tokens, _ = reviews.draw_texts(2000, seeded(seed))
    is_adjective = tokens >= reviews.ADJECTIVE
    at = (is_adjective & (is_adjective.cumsum(1) == number)).int().argmax(1)
    row = torch.arange(len(tokens))
    negated = (tokens[row, at - 1] == reviews.NOT).long()
    kept = (at == 12) | (number == 1)
    return reviews.read_stream(model, tokens, hook)[row, at][kept], negated[kept]


START, LATER = ("resid_pre", 0), ("resid_post", 0)
found = {}
print("first probe on first adjectives, on second ones; second probe on second ones")
for name, model in models.items():
    for hook in (START, LATER):
        train, test = (
            [read_adjectives(model, seed, number, hook) for number in (1, 2)] for seed in (5, 6)
        )
        first, second = (methods.fit_probe(*rows) for rows in train)
        shares = [first.accuracy(*test[0]), first.accuracy(*test[1]), second.accuracy(*test[1])]
        found[name, hook] = [round(share, 2) for share in shares]
        print(f"{name:10}{hook[0]:11}", *(f"{share:.0%}" for share in shares))

# %% tags=["check"]
later = found.pop(("trained", LATER))
assert later == [1, 0.55, 0.99]
assert all(shares == [1, 0.47, 0.53] for shares in found.values())

# %% [markdown]
# On first adjectives the first probe is always right, even without layers and training. It reads
# the *position*: "not" moves an adjective by one place. On second ones it guesses; there the second
# probe is right in 99%, but only after layer 0 of the trained model: a negation feature.
#
# ## Decodable is not used
#
# Which of the two does the model use? Move second adjectives, after layer 0 and equally far, along
# the mean difference between negated and plain first adjectives, which is mostly position, and
# along that of second ones. The answer is asked for at the third verb. **Control:** ten random
# directions.


# %%
is_adjective = batch.clean >= reviews.ADJECTIVE
at = (is_adjective & (is_adjective.cumsum(1) == 2)).int().argmax(1)
sign = torch.where(batch.clean[row, at - 1] == reviews.NOT, -1, 1)


def measure_lost(direction):
    """Measure the share of answers lost when second adjectives are moved."""

    def move(x, hook):
        x[row, at] += sign[:, None] * direction

    logits = toy.model.run_with_hooks(batch.clean, fwd_hooks=[(LATER, move)])
    return 1 - batch.correct(logits).float().mean().item()


steps = []
for number in (1, 2):
    x, negated = read_adjectives(toy.model, 5, number, LATER)
    steps.append(x[negated == 1].mean(0) - x[negated == 0].mean(0))
position, word = steps
noise = [torch.randn(64, generator=seeded(i)) for i in range(10)]
position_lost, word_lost, *noise_lost = (
    measure_lost(position.norm() * normalize(step, dim=0)) for step in (position, word, *noise)
)
print(
    f"lost by position: {position_lost:.0%}, word: {word_lost:.0%}, random: {max(noise_lost):.0%}"
)

# %% tags=["check"]
assert round(position_lost, 2) == 0.44
assert word_lost == 0
assert max(noise_lost) < 0.005

# %% [markdown]
# Along the position 44% of the answers are lost, along the feature that training made none: here
# the model reads "not" off the position, at least in part. No probe tells: intervene.
#
# The toy `unused_feature` is the pure case. In `x y =` heads bring both digits to the `=`, y twice
# as loud; the MLP reads x alone and says x + 1. Exchange what the probe of one digit reads for what
# it reads in another prompt.
#
# **PCA** finds the directions of largest variance, by a singular value decomposition of the
# centred rows. Whose will the first seven be?

# %%
unused = toys.load("unused_feature")
site = ("resid_mid", 0)
digits = unused.task.everything()
prompts = digits.distinct().clean
rows = reviews.read_stream(unused.model, prompts, site)[:, -1]
effects = {}
for place, digit in enumerate("xy"):
    probe = methods.fit_probe(rows, prompts[:, place])
    span = torch.linalg.svd(probe.directions).Vh[:7]  # of eight scores only differences count
    logits = methods.ablate_directions(
        unused.model, digits.clean, span, "resample", site, digits.corrupt
    )
    lost = 1 - digits.correct(logits).float().mean().item()
    effects[digit] = probe.accuracy(rows, prompts[:, place]), lost
    print(f"{digit}: decoded {effects[digit][0]:.0%}; exchanged: {lost:.0%} of answers lost")
components = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False).Vh[:7]
of_y = (components @ unused.truth.variables["y"].subspace.T).square().sum() / 7
print(f"of the first seven directions {of_y:.0%} is y's")

# %% tags=["check"]
assert effects == {"x": (1, 1), "y": (1, 0)}
assert of_y > 0.999
package = methods.fit_principal_directions(rows, 7).directions
torch.testing.assert_close(package.T @ package, components.T @ components)

# %% [markdown]
# Exchanging x loses all answers, exchanging y none. The first seven directions are all y's: PCA
# finds what is loud.
#
# ## Look: a syntax feature
#
# The toy `brackets` says whether brackets are balanced. Does it hold at the end token whether any
# closed before it was opened (the package calls this failure "elevation")? **Control:** five
# untrained models.

# %%
toy = toys.load("brackets")
strings = brackets.list_single()
fails = brackets.select("elevation").long()
order = torch.randperm(len(strings), generator=seeded(0))
train, test = order[:1200], order[1200:]


def measure_syntax(model):
    """Measure the probe for a bracket that is closed too early."""
    stream = reviews.read_stream(model, strings, brackets.SITE)
    at_end = stream[torch.arange(len(strings)), brackets.find_end(strings)]
    return methods.fit_probe(at_end[train], fails[train]).accuracy(at_end[test], fails[test])


decoded = measure_syntax(toy.model)
controls = [measure_syntax(Transformer(toy.model.config, seed=seed)) for seed in range(5)]
always = 1 - fails[test].float().mean().item()  # right, for one who never says yes
print(f"trained {decoded:.0%}, untrained {min(controls):.0%} to {max(controls):.0%}; ", end="")
print(f"always no: {always:.0%}")

# %% tags=["check"]
assert decoded == 1
assert [round(share, 2) for share in (min(controls), max(controls))] == [0.94, 0.95]

# %% [markdown]
# 94% to 95% come without training. So intervene.
#
# ## Claim card


# %%
def remove_random(seed):
    """Return a change that takes out a random direction."""
    d = normalize(torch.randn(toy.model.config.d_model, generator=seeded(seed)), dim=0)

    def change(at_end):
        return at_end - ((at_end - at_end.mean(dim=0)) @ d)[:, None] * d

    return change


def reject(change, failing="elevation"):
    """Measure the share rejected of strings that fail in one way."""
    return brackets.measure_rejected(toy.model, failing, change)


card = ClaimCard(
    claim="The model rejects strings that close too early by what it reads along one direction.",
    model="brackets, seed 0",
    task=toy.task.description,
    data="all strings that fail in at most one way",
    components="stream at the end token, after attention 1",
    intervention="take out their mean difference from balanced strings, keep that of wrong counts",
    effect=Measurement(
        "share still rejected", lambda: reject(brackets.erase("elevation")), high=0.01
    ),
    control=Measurement(
        "wrong counts rejected without it, all without a random direction, at least",
        lambda: min(
            reject(brackets.erase("elevation"), "count"),
            *(reject(remove_random(seed)) for seed in range(10)),
        ),
        low=0.99,
    ),
    refuted_by="such strings rejected without it",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 13.4: find_used_variables
# In models that you have never seen, all variables can be read at a site. Which does the model read
# from there? `minilab grade 13`
#
# ## On real models
#
# A linear probe reads the board in a model of Othello games, and pushing along its directions
# changes the moves ([Nanda et al. 2023](https://arxiv.org/abs/2309.00941)): decoded, and used. In
# BERT, how well a property is decoded did not say how much its removal hurts
# ([Elazar et al. 2021](https://arxiv.org/abs/2006.00995)). Probes for truth, CCS too, failed on
# negated statements ([Levinstein and Herrmann 2023](https://arxiv.org/abs/2307.00175)).
# [Belinkov 2022](https://arxiv.org/abs/2102.12452) reviews the field.
#
# Next: lesson 14 erases what was decoded.
