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
# patching** ([Vig et al. 2020](https://arxiv.org/abs/2004.12265);
# [Geiger et al. 2021](https://arxiv.org/abs/2106.02997), who call it an interchange intervention).
# Putting clean activations into corrupt runs is called **denoising**; the other way round, as
# `resample` did in lesson 06, is **noising**.
#
# Our toy is that of lesson 05. It has learnt facts by heart: 64 people, made of 8 first and 8 last
# names, and 4 relations. One name alone says nothing. It has two layers of 8 heads, and an MLP in
# layer 0 only. Each head is made to see two positions only, its own and the one before, so that
# there are few ways through the model.

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
batch = pairs["first"]

# %% tags=["check"]
for each in pairs.values():  # all answers are right, on the clean prompts and on the corrupt ones
    assert each.accuracy(toy.model) == 1
    assert (toy.model(each.corrupt)[:, -1].argmax(dim=-1) == each.wrong).all()
assert [names[token] for token in (batch.answer[2], batch.wrong[2])] == ["flute", "lute"]

# %% [markdown]
# ## Build: one patch
#
# One run keeps the activation, a hook puts it into another. We measure the **logit difference**:
# the logit of the clean answer (`answer`) minus that of the corrupt one (`wrong`), averaged over
# prompts.
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
share = find_share(toy.model, batch, name_patched)
print(f"first name patched: share {share:.2f}, no surprise, as nothing else differs")

# %% tags=["check"]
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
print(f"it is position 1, you said {my_position}; MLP 0 there: {first[2, 1]:.2f}, you: {my_share}")

# %% tags=["check"]
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

# %% [markdown]
# At the last name MLP 0 sees both names for the first time, and what it writes there brings back
# .97; layer 1 fetches it to the relation. At position 0 the stream that enters layer 1 still holds
# the first name, but nobody reads it: share 0. Patching asks what is *used*.
#
# Shares of places one behind the other do not add up to 1: attention 0 and MLP 0 pass the same
# thing on, and each has (nearly) all of it. A share in between means that part of it takes another
# way. For another *last* name, attention 0 brings back .62 and not all: the last name also stays in
# its own stream, and MLP 0 reads it from there. For another *relation* attention 1 brings back .59:
# the stream at the relation says by itself what is asked for, and the unembedding reads that, too.
#
# ## Control
#
# Ask of any map: 1. Does a patch from the *same* run change nothing? 2. Does an *untrained* model,
# with the same narrow view, have another map? 3. What does the place bring back if it is patched
# from a run on *another* of our prompts, about somebody else?

# %%
# Your guess for 3, the share recovered by MLP 0 at the last name; for the right person it is .97.
my_somebody = 0.0
same = patch(toy.model, batch.clean, batch.clean, ("mlp_out", 0), 1)
print(f"1. the same run moves logits by {(same - toy.model(batch.clean)).abs().max():.0e}")


def find_gap(model):
    """Find how far the logit difference moves from the corrupt run to the clean one."""
    leads = [batch.logit_difference(model(tokens)) for tokens in (batch.clean, batch.corrupt)]
    return (leads[0] - leads[1]).mean().item()


# `restrict` narrows the heads' view to two positions, and takes out the MLP of layer 1.
untrained = [restrict(Transformer(toy.model.config, seed=seed)) for seed in range(10)]
chance = torch.stack([make_map(model, batch) for model in untrained])
gaps = [abs(find_gap(model)) for model in untrained]
print(f"2. trained: MLP 0 {first[2, 1]:.2f}, clean - corrupt {find_gap(toy.model):.1f}; ", end="")
print(
    f"ten untrained: MLP 0 {chance[:, 2, 1].min():.2f} to {chance[:, 2, 1].max():.2f}, "
    f"clean - corrupt {max(gaps):.3f} at most"
)


def patch_mlp(pair, source):
    """Return the share recovered and the share of right answers with MLP 0 from `source`.

    What MLP 0 writes at the last name is taken from a run on `source`.
    """
    logits = patch(toy.model, pair.corrupt, source, ("mlp_out", 0), 1)
    return find_share(toy.model, pair, logits).item(), pair.correct(logits).float().mean().item()


# The source is the prompt before, the one before that, and so on.
elsewhere = [patch_mlp(batch, batch.clean.roll(k, dims=0)) for k in range(1, 21)]
shares, rights = zip(*elsewhere, strict=True)
print(
    f"3. about somebody else: share {min(shares):.2f} to {max(shares):.2f}, "
    f"you said {my_somebody}; right answers {min(rights):.0%} to {max(rights):.0%}"
)

# %% tags=["check"]
torch.testing.assert_close(same, toy.model(batch.clean))
assert find_gap(toy.model) > 25
assert round(max(gaps), 2) == 0.01
assert (chance[:, 3] - first[3]).abs().max() < 1e-3
assert [round(x.item(), 1) for x in (chance[:, 2, 1].min(), chance[:, 2, 1].max())] == [-1.4, 1.4]
assert [round(share, 2) for share in (min(shares), max(shares))] == [0.43, 0.51]
assert [round(right, 2) for right in (min(rights), max(rights))] == [0.09, 0.16]

# %% [markdown]
# **The staircase needs no training**: it shows the wiring, and all ten untrained models have it.
# And a share is a ratio, so look at what it is a share *of*. In the trained model the logit
# difference moves by more than 25, in untrained ones by 0.01 at most, and shares of that are noise:
# the MLP's is anything from -1.4 to 1.4.
#
# **Somebody else brings half**: .43 to .51 in 20 draws, with 9% to 16% right answers, about 1 in 8.
# The patch took the corrupt person away without bringing the clean one, and a logit difference near
# 0 is half of the way. So compare with a wrong source, not with 0.
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

# %% tags=["check"]
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
sums = []
for metric in (batch.logit_difference, find_probability):
    prompts = (toy.model, batch.clean, batch.corrupt, metric)
    values = patch_activations(*prompts, "z", "head", direction="denoise")
    sums.append(measure_share_recovered(values, *prompts)[1].sum().item())
print(f"by logit difference {sums[0]:.2f}, by probability {sums[1]:.2f} (you: {my_sum})")

# %% tags=["check"]
assert [round(total, 2) for total in sums] == [1.0, 0.28]

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

# %% tags=["check"]
assert found == {"boolean_and": (0.0, 1.0), "boolean_or": (1.0, 0.0)}

# %% [markdown]
# Whoever only denoises finds that AND does not use x; whoever only noises finds the same of OR.
# Denoising asks what is **enough** (sufficient), noising what is **needed** (necessary). A place
# that is one and not the other has company: partners that it needs, or others that can stand in.
# Always run both.
#
# ## Without a second prompt: noise
#
# **Causal tracing** ([Meng et al. 2022](https://arxiv.org/abs/2202.05262)) needs no second prompt.
# It blurs a word: random noise is added to its embedding. Then one clean activation at a time is
# restored. There is no second answer to compare with, so the metric is the probability. The noise
# has three times the standard deviation of the embeddings. Which share of answers is right once the
# first name is blurred so?

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
    found += [batch.correct(noisy).float().mean().item(), ((back - low) / (high - low)).item()]
    said = f"you said {my_blurred:.0%} at x 3"
    print(
        f"x {times}: {found[-2]:.0%} right ({said}); MLP 0 at the last name brings back "
        f"{found[-1]:.2f}"
    )

# %% tags=["check"]
assert [round(value, 2) for value in found] == [0.61, 1.0, 0.06, 0.38]
# The package's way: a map, here with one draw of the noise.
theirs = causal_trace(
    toy.model, batch.clean, find_probability, blurred, "mlp_out", noise=30 * spread, draws=1
)
torch.testing.assert_close(back, theirs[0, 1])
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

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 7.5: find_carriers
# In models that you have never seen, where is what the prompts differ in: which places are enough,
# and which are needed? `minilab grade 07`
#
# ## On real models
#
# Causal tracing of GPT-2 XL found facts where our toy has them, in MLPs at the last token of the
# subject ([Meng et al. 2022](https://arxiv.org/abs/2202.05262)). With another subject in place of
# noise the peak is much weaker, and by probability one misses parts that work against the answer:
# [Zhang and Nanda 2023](https://arxiv.org/abs/2309.16042) compare the choices that you made here,
# [Heimersheim and Nanda 2024](https://arxiv.org/abs/2404.15255) say how to read the results. And to
# find a place is not to control it: where tracing locates a fact does not tell which layer is best
# edited to change it ([Hase et al. 2023](https://arxiv.org/abs/2301.04213)).
#
# Next: lesson 08, which patches not places but the connections between them.
