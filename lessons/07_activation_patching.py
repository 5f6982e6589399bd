# %% [markdown]
# # 7 · Activation patching
#
# After this lesson you can move one activation from one run into another, say what came along with
# it, and design the pair of prompts so that the answer means something.
#
# ## Idea
#
# Ablation (lesson 06) takes an activation away. What breaks, needed it; *what was in it* you do not
# learn. So put something else in its place: the same activation of the same model on **another
# prompt**, chosen with care.
#
# - `Eva Diaz plays` calls for `flute`: the **clean** prompt.
# - `Ada Diaz plays` calls for `lute`: the **corrupt** prompt. It differs in one thing, the first
#   name.
#
# Run the corrupt prompt, but with one activation of the clean run in it. If the answer becomes the
# clean one, this activation carries what the two prompts differ in. This is **activation
# patching**. Putting clean activations into corrupt runs is called **denoising**; the other way
# round, as `resample` did in lesson 06, is **noising**.
#
# Our toy has learnt facts by heart: 64 people, made of 8 first and 8 last names, and 4 relations.
# One name alone says nothing. It has two layers of 8 heads, and an MLP in layer 0 only. Its heads
# see just two positions, their own and the one before, so there are few ways through the model.

# %%
import dataclasses

import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.methods import causal_trace, measure_share_recovered, patch_activations
from mini_transformer.toys.trained.facts import restrict

torch.set_grad_enabled(False)  # nothing is trained here
toy = toys.load("facts")
pairs = {what: toy.task.draw(256, seed=1, corrupt=what) for what in ("first", "last", "relation")}
names = toy.task.token_names
for what, batch in pairs.items():
    clean, corrupt = toy.task.read(batch.clean[2]), toy.task.read(batch.corrupt[2])
    print(
        f"another {what}: {clean} -> {names[batch.answer[2]]}, "
        f"but {corrupt} -> {names[batch.wrong[2]]}"
    )
    # All answers are right, on the clean prompts and on the corrupt ones.
    assert batch.accuracy(toy.model) == 1
    assert (toy.model(batch.corrupt)[:, -1].argmax(dim=-1) == batch.wrong).all()
batch = pairs["first"]
assert [names[token] for token in (batch.answer[2], batch.wrong[2])] == ["flute", "lute"]

# %% [markdown]
# ## Build: one patch
#
# One run keeps the activation, a hook puts it into another. We measure the **logit difference**
# (lesson 01): the logit of the clean answer minus that of the corrupt one, averaged over prompts.
# The **share recovered** says where a patched run stands between the corrupt run, 0, and the clean
# run, 1.


# %%
def patch(model, base, source, name, position):
    """Run on `base` with one activation, at one position, from a run on `source`."""
    _, cache = model.run_with_cache(source)

    def put(value, hook):
        value[:, position] = cache[name][:, position]

    return model.run_with_hooks(base, fwd_hooks=[(name, put)])


def find_share(model, batch, logits):
    """Find where these logits stand between the corrupt run (0) and the clean one (1)."""
    low, high = (
        batch.logit_difference(model(tokens)).mean() for tokens in (batch.corrupt, batch.clean)
    )
    return (batch.logit_difference(logits).mean() - low) / (high - low)


# Patch what enters layer 0.
name_patched = patch(toy.model, batch.corrupt, batch.clean, ("resid_pre", 0), position=0)
# No surprise: nothing else differs.
torch.testing.assert_close(name_patched, toy.model(batch.clean))

# %% [markdown]
# ### Exercise 7.1: patch_positions
# Patch each prompt at a position of its own. Stubs are in `exercises/ex07_activation_patching.py`;
# `minilab grade 07` checks them, `minilab hint 07` helps.
#
# ## Predict
#
# The first name enters at position 0, the answer leaves at position 2. Each layer's heads see one
# position back. From which position must layer 1 take the first name? And which share comes back if
# only what MLP 0 wrote there is patched?

# %%
my_position, my_share = 0, 0.5  # your guesses: 0, 1 or 2, and a share

# %% [markdown]
# ## Look
#
# A map: patch six places, from bottom to top, at every position, for three ways to corrupt the same
# prompts. Whatever differs must pass from its own word, at the bottom, to the top right corner.
# With the heads' narrow view, expect a staircase for the first name, one step to the right per
# layer of attention; a shorter one for the last name; and a straight climb for the relation.

# %%
PLACES = {"enters layer 0": ("resid_pre", 0), "attention 0 wrote": ("attn_out", 0)}
PLACES |= {"MLP 0 wrote": ("mlp_out", 0), "enters layer 1": ("resid_pre", 1)}
PLACES |= {"attention 1 wrote": ("attn_out", 1), "leaves layer 1": ("resid_post", 1)}


def make_map(model, batch):
    """Map the share recovered by each place (rows) at each position (columns)."""
    runs = [
        [patch(model, batch.corrupt, batch.clean, name, t) for t in range(3)]
        for name in PLACES.values()
    ]
    return torch.tensor([[find_share(model, batch, logits) for logits in row] for row in runs])


maps = {what: make_map(toy.model, batch) for what, batch in pairs.items()}
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
words = ["first name", "last name", "relation"]
for ax, word, values in zip(axes, words, maps.values(), strict=True):
    plots.plot_patching(values, list(PLACES), words, ax, f"corrupt: another {word}", numbers=True)
axes[0].set_ylabel("what is patched")
fig.suptitle(
    "share of the logit difference recovered: 0 as in the corrupt run, 1 as in the clean run"
)
plt.show()

# %%
first = maps["first"]
prompts = (toy.model, batch.clean, batch.corrupt, batch.logit_difference)
for row, (site, layer) in zip(first, PLACES.values(), strict=True):  # the package's way
    values = patch_activations(*prompts, site, direction="denoise")
    torch.testing.assert_close(row, measure_share_recovered(values, *prompts)[layer])
assert (first[3] - torch.tensor([0.0, 1.0, 0.0])).abs().max() < 1e-5
assert [round(first[row, 1].item(), 2) for row in (1, 2)] == [1.0, 0.97]
assert round(maps["last"][1].max().item(), 2) == 0.62
assert round(maps["relation"][4].max().item(), 2) == 0.59
streams = [toy.model(tokens, stop_at_layer=1)[:, 0] for tokens in (batch.clean, batch.corrupt)]
# At position 0, entering layer 1, they differ all the same.
assert (streams[0] - streams[1]).norm(dim=-1).min() > 1
print(f"it is position 1, you said {my_position}; MLP 0 there: {first[2, 1]:.2f}, you: {my_share}")

# %% [markdown]
# At the last name MLP 0 sees both names for the first time, and what it writes there brings back
# .97; layer 1 fetches it to the relation. At position 0 the stream that enters layer 1 still holds
# the first name, but nobody reads it: share 0. Patching asks what is *used*.
#
# Shares of places one behind the other do not add up to 1: attention 0 and MLP 0 pass the same
# thing on, and each has (nearly) all of it. A share in between means that part of it takes another
# way. Of the last name attention 0 writes .62, of the relation attention 1 writes .59: the word's
# own stream passes both by.
#
# ## Control
#
# Ask of any map: 1. Does a patch from the *same* run change nothing? 2. Does an *untrained* model,
# with the same narrow view, have another map? 3. What does the place bring back if it is patched
# from a run on *another* of our prompts, about somebody else?

# %%
# Your guess for 3, the share recovered by MLP 0 at the last name; for the right person it is .97.
my_somebody = 0.0
torch.testing.assert_close(
    patch(toy.model, batch.clean, batch.clean, ("mlp_out", 0), 1), toy.model(batch.clean)
)

# Heads that see two positions, no MLP in layer 1.
untrained = restrict(Transformer(toy.model.config, seed=0))
chance = make_map(untrained, batch)
for title, model, values in (("trained", toy.model, first), ("untrained", untrained, chance)):
    leads = [batch.logit_difference(model(tokens)) for tokens in (batch.clean, batch.corrupt)]
    gap = (leads[0] - leads[1]).mean()
    print(
        f"{title}: enters layer 1 {values[3].round().tolist()}, MLP 0 {values[2, 1]:.2f}; "
        f"clean - corrupt {gap:.3f}"
    )
    assert gap > 25 if model is toy.model else abs(gap) < 0.01
assert (chance[3] - first[3]).abs().max() < 1e-4
assert round(chance[2, 1].item(), 2) == 0.2


def patch_mlp(pair, source):
    """Return the share recovered and the share of right answers with MLP 0 from `source`.

    What MLP 0 writes at the last name is taken from a run on `source`.
    """
    logits = patch(toy.model, pair.corrupt, source, ("mlp_out", 0), 1)
    return find_share(toy.model, pair, logits).item(), pair.correct(logits).float().mean().item()


share, right = patch_mlp(batch, batch.clean.roll(1, dims=0))  # of the prompt before
print(f"about somebody else: share {share:.2f}, you said {my_somebody}; right answers {right:.0%}")
assert (round(share, 2), round(right, 2)) == (0.48, 0.13)

# %% [markdown]
# **The staircase needs no training**: it shows the wiring. And a share is a ratio: 1 means *all* of
# a logit difference, even of one that moves by less than 0.01 where the trained one moves by more
# than 25. What training did make is the MLP's share, .97 against .20.
#
# **Somebody else brings half**: .48, with 13% right answers, about 1 in 8. The patch took the
# corrupt person away without bringing the clean one, and a logit difference near 0 is half of the
# way. So compare with a wrong source, not with 0.
#
# ### Exercise 7.2: patching_map
# The map with its scale, in both directions: denoising and noising. `minilab grade 07`
#
# ## Trap: a corrupt prompt that changes more than one thing
#
# Had we just taken *some other fact*, another first name, last name and relation: which share of
# the answers would MLP 0 at the last name make right? With another first name alone it is 99%.

# %%
my_right = 0.99  # your guess
# First names are tokens 0 to 7, and so on.
start, size = torch.tensor([0, 8, 16]), torch.tensor([8, 8, 4])
other = start + (batch.clean - start + 1) % size  # the next first name, last name and relation
mixed = dataclasses.replace(batch, corrupt=other, wrong=toy.model(other)[:, -1].argmax(dim=-1))
right = [patch_mlp(pair, pair.clean)[1] for pair in (mixed, batch)]
asked = torch.cat([batch.clean[:, :2], other[:, 2:]], dim=1)  # the right person, the other relation
person = dataclasses.replace(mixed, answer=toy.model(asked)[:, -1].argmax(dim=-1))
right.append(patch_mlp(person, mixed.clean)[1])
print(
    f"right answers: {right[0]:.0%}, you said {my_right:.0%}; "
    f"right person, other relation: {right[2]:.0%}"
)
assert [round(value, 2) for value in right] == [0, 0.99, 0.93]

# %% [markdown]
# None. In 93% of the runs MLP 0 does bring the right person, but the model is asked about another
# relation. So:
#
# - change **one thing**, and keep everything else, also the length;
# - the two answers must **differ**, or there is nothing to bring back;
# - the model must **give both answers**, or you explain something that it does not do.
#
# ### Exercise 7.3: choose_corruptions
# From a list of prompts, choose for each one that fits. `minilab grade 07`
#
# ## Trap: a metric that saturates
#
# In layer 1 eight heads fetch the answer, and only the unembedding comes after them. It is linear,
# so their shares, head by head, add up to that of attention 1 as a whole, 1. Also by the
# *probability* of the answer?


# %%
def find_probability(logits):
    return batch.at_answer(logits).softmax(dim=-1)[..., torch.arange(256), batch.answer]


my_sum = 1.0  # your guess, by probability
for metric, total in ((batch.logit_difference, 1.0), (find_probability, 0.28)):
    prompts = (toy.model, batch.clean, batch.corrupt, metric)
    values = patch_activations(*prompts, "z", "head", direction="denoise")
    heads = measure_share_recovered(values, *prompts)[1]
    print(f"sum of shares: {heads.sum():.2f}, you said {my_sum}")
    assert round(heads.sum().item(), 2) == total

# %% [markdown]
# Only .28: one head does raise its logit, but a probability near 0 (or 1) hardly moves. The logit
# difference has no ends.
#
# ## Trap: denoising and noising disagree
#
# Two toys set by hand answer `x y . . . =`, one by x AND y, the other (of lesson 06) by x OR y.
# Clean is `1 1`, corrupt `0 0`. Which share does x alone bring if you put it, clean, into the
# corrupt run? And if you put it, corrupt, into the clean run, how far does the answer fall?

# %%
# (denoising, noising) of x: four numbers.
my_guess = {"boolean_and": (0.5, 0.5), "boolean_or": (0.5, 0.5)}
ones, zeros = torch.tensor([[1, 1, 2, 2, 2, 3]]), torch.tensor([[0, 0, 2, 2, 2, 3]])
found = {}
for name in my_guess:
    gate = toys.load(name)
    pair = dataclasses.replace(
        gate.task.draw(1), clean=ones, corrupt=zeros, answer=ones[:, 0], wrong=zeros[:, 0]
    )
    denoised = find_share(gate.model, pair, patch(gate.model, zeros, ones, ("resid_pre", 0), 0))
    noised = find_share(gate.model, pair, patch(gate.model, ones, zeros, ("resid_pre", 0), 0))
    found[name] = (round(denoised.item(), 2), round(1 - noised.item(), 2))
    print(
        f"{name}: denoising restores {found[name][0]}, noising destroys {found[name][1]}; "
        f"you: {my_guess[name]}"
    )
assert found == {"boolean_and": (0.0, 1.0), "boolean_or": (1.0, 0.0)}

# %% [markdown]
# Whoever only denoises finds that AND does not use x; whoever only noises finds the same of OR.
# Denoising asks what is **enough** (sufficient), noising what is **needed** (necessary). A place
# that is one and not the other has company: partners that it needs, or others that can stand in.
# Always run both.
#
# ## Without a second prompt: noise
#
# **Causal tracing** (Meng et al. 2022) needs no corrupt prompt. It blurs a word: random noise is
# added to its embedding. Then one clean activation at a time is restored. There is no second answer
# to compare with, so the metric is the probability. The noise has three times the standard
# deviation of the embeddings. Which share of answers is right once the first name is blurred so?

# %%
my_blurred = 0.125  # your guess: 1 of 8 if nothing is left of the name
spread = toy.model.W_E.std().item()
cache = toy.model.run_with_cache(batch.clean)[1]
blurred = torch.tensor([True, False, False]).expand(256, 3)  # the first name
drawn = torch.randn(256, 3, toy.model.config.d_model, generator=torch.Generator().manual_seed(0))


def run_blurred(times, name=None):
    """Return logits with noise on the first name, of `times` the spread.

    If told so, one activation is restored at the last name.
    """
    blur = ("embed", lambda x, hook: x + times * spread * drawn * blurred.unsqueeze(-1))

    def put(value, hook):
        value[:, 1] = cache[name][:, 1]

    return toy.model.run_with_hooks(batch.clean, fwd_hooks=[blur, (name, put)] if name else [blur])


found = []
for times in (3, 30):
    noisy = run_blurred(times)
    restored = run_blurred(times, ("mlp_out", 0))
    low, high, back = (
        find_probability(run).mean() for run in (noisy, toy.model(batch.clean), restored)
    )
    theirs = causal_trace(
        toy.model, batch.clean, find_probability, blurred, "mlp_out", noise=times * spread, draws=1
    )
    # The package's way: a map, here with one draw of the noise.
    torch.testing.assert_close(back, theirs[0, 1])
    found += [batch.correct(noisy).float().mean().item(), ((back - low) / (high - low)).item()]
    said = f"you said {my_blurred:.0%} at x 3"
    print(
        f"x {times}: {found[-2]:.0%} right ({said}); MLP 0 at the last name brings back "
        f"{found[-1]:.2f}"
    )
assert [round(value, 2) for value in found] == [0.61, 1.0, 0.06, 0.38]
torch.testing.assert_close(run_blurred(30, ("attn_out", 0))[:, -1], toy.model(batch.clean)[:, -1])

# %% [markdown]
# At x 3 most are still right (61%): names are far enough apart to be told through the noise. At x
# 30 it is 6%, and the same MLP seems to bring back .38 only. It stores what it stored before; but
# attention 0 now writes so much noise beside it that the MLP's part drowns. (Restore what attention
# 0 wrote there, and everything comes back.) So state the size of your noise, and prefer a second
# prompt.
#
# ### Exercise 7.4: trace_noise
# The map of causal tracing, for several draws of the noise, on its scale from 0 to 1.
# `minilab grade 07`
#
# ## Limits, and a claim card
#
# That a place *carries* what differs is not that it is computed there: patching the name itself
# restores all. A map holds for its pairs and its metric. And a place brings along *everything* in
# which the two runs differ there.

# %%
both = [pairs["first"], pairs["last"]]
card = ClaimCard(
    claim="What MLP 0 writes at the last name is enough to tell layer 1 which person is meant.",
    model="facts, seed 0: 2 layers of 8 heads that see two positions, one MLP",
    task=toy.task.description,
    data="256 pairs of prompts that differ in the first name, 256 in the last, seed 1",
    components="the output of MLP 0 at the last name",
    intervention="denoising: the clean activation in the corrupt run",
    effect=Measurement(
        "right answers", lambda: min(patch_mlp(pair, pair.clean)[1] for pair in both), low=0.9
    ),
    control=Measurement(
        "right answers with what it writes about somebody else",
        lambda: max(patch_mlp(pair, pair.clean.roll(1, dims=0))[1] for pair in both),
        high=0.2,
    ),
    refuted_by="wrong answers with the clean activation, or as many right ones "
    "with somebody else's",
)
verdict = card.check()
print(verdict)
assert verdict

# %% [markdown]
# ### Exercise 7.5: find_carriers
# In models that you have never seen, where is what the prompts differ in: which places are enough,
# and which are needed? `minilab grade 07`
#
# Next: lesson 08, which patches not places but the connections between them.
