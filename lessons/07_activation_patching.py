# %% [markdown]
# # 7 · Activation patching
#
# After this lesson you can move one activation from one run into another, say what came along with
# it, and design the pair of prompts so that the answer means something.
#
# ## Idea
#
# Ablation (lesson 06) takes an activation away. You learn what needed it, but not *what was in it*.
# So put something else in its place: the same activation of the same model on **another prompt**,
# chosen with care.
#
# - `Eva Diaz plays` calls for `flute`: the **clean** prompt.
# - `Ada Diaz plays` calls for `lute`: the **corrupt** prompt. It differs in one thing, the first
#   name.
#
# Run the corrupt prompt, but with one activation of the clean run in it. If the answer becomes the
# clean one, this activation carries what the two prompts differ in. This is **activation patching**
# ([Vig et al. 2020](https://arxiv.org/abs/2004.12265);
# [Geiger et al. 2021](https://arxiv.org/abs/2106.02997), who call it an interchange intervention).
# Clean activations in corrupt runs is called **denoising**; the other way round, as `resample` did
# in lesson 06, is **noising**. Our toy is that of lesson 05: facts about people with 8 first and 8
# last names, one MLP, heads that see only their own position and the one before.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.methods import (
    attribute_logits,
    causal_trace,
    measure_share_recovered,
    patch_activations,
)
from mini_transformer.play import embed
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
# One run keeps the activation, a hook puts it into another. We measure the logit difference: the
# logit of the clean prompt's answer (`answer`) minus that of the corrupt prompt's (`wrong`),
# averaged over prompts. The **share recovered** says where a patched run stands between the corrupt
# run, 0, and the clean run, 1.


# %%
def patch(model, base, source, name, position):
    """Run on `base` with one activation, at one position, from a run on `source`."""
    _, cache = model.run_with_cache(source)

    def put(value, hook):
        value[:, position] = cache[name][:, position]

    return model.run_with_hooks(base, fwd_hooks=[(name, put)])


def measure_share(model, batch, logits):
    """Measure where these logits stand between the corrupt run (0) and the clean one (1)."""
    low = batch.logit_difference(model(batch.corrupt)).mean()
    high = batch.logit_difference(model(batch.clean)).mean()
    return (batch.logit_difference(logits).mean() - low) / (high - low)


# Patch what enters layer 0 at the first name.
logits = patch(toy.model, batch.corrupt, batch.clean, ("resid_pre", 0), position=0)
share = measure_share(toy.model, batch, logits)
print(f"first name patched: share {share:.2f}, no surprise, as nothing else differs")

# %% tags=["check"]
torch.testing.assert_close(logits, toy.model(batch.clean))

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
# prompts. What differs must pass from its own word, at the bottom, to the top right corner. Expect
# a staircase for the first name, one step to the right per layer of attention; a shorter one for
# the last name; and a straight climb for the relation.

# %%
PLACES = {
    "enters layer 0": ("resid_pre", 0),
    "attention 0 wrote": ("attn_out", 0),
    "MLP 0 wrote": ("mlp_out", 0),
    "enters layer 1": ("resid_pre", 1),
    "attention 1 wrote": ("attn_out", 1),
    "leaves layer 1": ("resid_post", 1),
}


def measure_map(model, batch):
    """Measure the share recovered by each place, one number per position."""
    shares = {}
    for place, name in PLACES.items():
        runs = [patch(model, batch.corrupt, batch.clean, name, t) for t in range(3)]
        shares[place] = torch.stack([measure_share(model, batch, logits) for logits in runs])
    return shares


maps = {what: measure_map(toy.model, batch) for what, batch in pairs.items()}
fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, layout="constrained")
words = ["first name", "last name", "relation"]
for ax, word, shares in zip(axes, words, maps.values(), strict=True):
    values = torch.stack(list(shares.values()))
    plots.plot_patching(values, list(PLACES), words, ax, f"corrupt: another {word}", numbers=True)
axes[0].set_ylabel("what is patched")
fig.suptitle("share recovered: 0 as in the corrupt run, 1 as in the clean run")
plt.show()

# %%
first = maps["first"]
by_mlp = first["MLP 0 wrote"][1]
print(f"it is position 1, you said {my_position}; MLP 0 there: {by_mlp:.2f}, you: {my_share}")

# %% tags=["check"]
prompts = (toy.model, batch.clean, batch.corrupt, batch.logit_difference)
for place, (site, layer) in PLACES.items():  # the package's way
    values = patch_activations(*prompts, site, direction="denoise")
    torch.testing.assert_close(first[place], measure_share_recovered(values, *prompts)[layer])
assert (first["enters layer 1"] - torch.tensor([0.0, 1.0, 0.0])).abs().max() < 1e-5
assert (round(first["attention 0 wrote"][1].item(), 2), round(by_mlp.item(), 2)) == (1.0, 0.97)
assert round(maps["last"]["attention 0 wrote"].max().item(), 2) == 0.62
assert round(maps["relation"]["attention 1 wrote"].max().item(), 2) == 0.59
relations = pairs["relation"]
cache = toy.model.run_with_cache(relations.clean)[1]
pushes = attribute_logits(toy.model, cache, relations.answer, relations.wrong)
assert round(pushes["m0"].mean().item(), 1) == 6.1
streams = [toy.model(tokens, stop_at_layer=1)[:, 0] for tokens in (batch.clean, batch.corrupt)]
# At position 0, entering layer 1, they differ all the same.
assert (streams[0] - streams[1]).norm(dim=-1).min() > 1

# %% [markdown]
# At the last name MLP 0 sees both names for the first time, and what it writes there brings back
# .97; layer 1 fetches it to the relation. At position 0 the stream that enters layer 1 still holds
# the first name, but nobody reads it: share 0. Patching asks what is *used*.
#
# Attention 0 and MLP 0 pass the same thing on, and each has (nearly) all of it, so their shares do
# not add up to 1. A share in between means that part takes another way. For another *last* name,
# attention 0 brings back .62: the last name also stays in its own stream, and MLP 0 reads it there.
# For another *relation* attention 1 brings back .59: MLP 0 at the relation already speaks for the
# answers of its relation, and the unembedding reads that, too.
#
# **Touch it.** Do it by hand: let what is off carry its value on the other prompt, and switch
# `m0` off at one position.

# %%
embed(toy, scene="patching", height=1400)

# %% [markdown]
# ## Control
#
# Ask of any map: 1. Does a patch from the *same* run change nothing? 2. Does an *untrained* model
# have another map? 3. What comes back from a run on *another* prompt, about somebody else?

# %%
my_somebody = 0.0  # your guess for 3, by MLP 0 at the last name; for the right person it is .97
same = patch(toy.model, batch.clean, batch.clean, ("mlp_out", 0), 1)
print(f"1. the same run moves logits by {(same - toy.model(batch.clean)).abs().max():.0e}")


def measure_gap(model):
    """Measure how far the logit difference moves from the corrupt run to the clean one."""
    clean, corrupt = (batch.logit_difference(model(x)) for x in (batch.clean, batch.corrupt))
    return (clean - corrupt).mean().item()


# `restrict` makes a new model as narrow as the toy: the heads' view, and no MLP in layer 1.
untrained = [restrict(Transformer(toy.model.config, seed=seed)) for seed in range(10)]
chance = [measure_map(model, batch) for model in untrained]
mlp_shares = [shares["MLP 0 wrote"][1].item() for shares in chance]
gaps = [abs(measure_gap(model)) for model in untrained]
print(f"2. untrained: MLP 0 {min(mlp_shares):.2f} to {max(mlp_shares):.2f}, ", end="")
print(f"clean - corrupt {max(gaps):.3f} at most; trained: {measure_gap(toy.model):.1f}")


def patch_mlp(pair, source):
    """Return the shares recovered and right, with MLP 0 at the last name from `source`."""
    logits = patch(toy.model, pair.corrupt, source, ("mlp_out", 0), 1)
    right = pair.correct(logits).float().mean().item()
    return measure_share(toy.model, pair, logits).item(), right


elsewhere = [patch_mlp(batch, batch.clean.roll(k, dims=0)) for k in range(1, 21)]
shares, rights = zip(*elsewhere, strict=True)
print(f"3. about somebody else: share {min(shares):.2f} to {max(shares):.2f}, ", end="")
print(f"you said {my_somebody}; right answers {min(rights):.0%} to {max(rights):.0%}")

# %% tags=["check"]
torch.testing.assert_close(same, toy.model(batch.clean))
assert measure_gap(toy.model) > 25
assert round(max(gaps), 2) == 0.01
for each in chance:
    assert (each["enters layer 1"] - first["enters layer 1"]).abs().max() < 1e-3
assert [round(share, 1) for share in (min(mlp_shares), max(mlp_shares))] == [-1.4, 1.4]
assert [round(share, 2) for share in (min(shares), max(shares))] == [0.43, 0.51]
assert [round(right, 2) for right in (min(rights), max(rights))] == [0.09, 0.16]

# %% [markdown]
# **The staircase needs no training**: it shows the wiring, and all ten untrained models have it.
# And a share is a ratio, so look at what it is a share *of*. In the trained model the logit
# difference moves by more than 25. In untrained ones it moves by 0.01 at most, and shares of that
# are noise: the MLP's is anything from -1.4 to 1.4.
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
# Suppose the corrupt prompt is *some other fact*: another first name, last name and relation. Which
# share of the answers does MLP 0 at the last name make right? With another first name alone it is
# 99%.

# %%
my_right = 0.99  # your guess
# First names are the tokens 0 to 7, last names 8 to 15, relations 16 to 19.
start, size = torch.tensor([0, 8, 16]), torch.tensor([8, 8, 4])
other = start + (batch.clean - start + 1) % size  # the next first name, last name and relation
said = patch(toy.model, other, batch.clean, ("mlp_out", 0), 1)[:, -1].argmax(dim=-1)
right = (said == batch.answer).float().mean().item()
# How often do these runs say the answer for the clean person and the other relation?
asked = torch.cat([batch.clean[:, :2], other[:, 2:]], dim=1)
right_person = (said == toy.model(asked)[:, -1].argmax(dim=-1)).float().mean().item()
print(f"right answers: {right:.0%}, you said {my_right:.0%}; ", end="")
print(f"right person, other relation: {right_person:.0%}")

# %% tags=["check"]
assert (right, round(right_person, 2)) == (0, 0.93)
assert round(patch_mlp(batch, batch.clean)[1], 2) == 0.99

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
# In layer 1 eight heads fetch the answer, and only the linear unembedding comes after them. So
# their shares, head by head, add up to 1. Also by the *probability* of the answer?


# %%
def measure_probability(logits):
    """Measure the probability of each prompt's answer."""
    return batch.at_answer(logits).softmax(dim=-1)[..., torch.arange(256), batch.answer]


my_sum = 1.0  # your guess, by probability
sums = []
for metric in (batch.logit_difference, measure_probability):
    prompts = (toy.model, batch.clean, batch.corrupt, metric)
    values = patch_activations(*prompts, "z", "head", direction="denoise")
    sums.append(measure_share_recovered(values, *prompts)[1].sum().item())
print(f"by logit difference {sums[0]:.2f}, by probability {sums[1]:.2f} (you: {my_sum})")

# %% tags=["check"]
assert [round(total, 2) for total in sums] == [1.0, 0.28]

# %% [markdown]
# Only .28: one head does raise its logit, but a probability near 0 (or 1) hardly moves. The logit
# difference is not bounded.
#
# ## Trap: denoising and noising disagree
#
# Two toys set by hand answer `x y . . . =` (the dots mean nothing), one by x AND y, the other (of
# lesson 06) by x OR y. Clean is `1 1`, corrupt `0 0`. Put the clean x into the corrupt run: which
# share does it restore? And put the corrupt x into the clean run: which share does it destroy?

# %%
# (restored, destroyed) by x: four numbers.
my_guess = {"boolean_and": (0.5, 0.5), "boolean_or": (0.5, 0.5)}
found = {}
for name in my_guess:
    gate = toys.load(name)
    pair = gate.task.everything().take(torch.tensor([-1]))  # the last: clean 1 1, corrupt 0 0
    denoised = patch(gate.model, pair.corrupt, pair.clean, ("resid_pre", 0), 0)
    noised = patch(gate.model, pair.clean, pair.corrupt, ("resid_pre", 0), 0)
    restored = measure_share(gate.model, pair, denoised).item()
    destroyed = 1 - measure_share(gate.model, pair, noised).item()
    found[name] = (round(restored, 2), round(destroyed, 2))
    print(f"{name} (restored, destroyed): {found[name]}, you: {my_guess[name]}")

# %% tags=["check"]
assert found == {"boolean_and": (0.0, 1.0), "boolean_or": (1.0, 0.0)}
assert (gate.task.read(pair.clean[0]), gate.task.read(pair.corrupt[0])) == (
    "1 1 . . . =",
    "0 0 . . . =",
)

# %% [markdown]
# Whoever only denoises finds that AND does not use x; whoever only noises finds the same of OR.
# Denoising asks what is **enough** (sufficient), noising what is **needed** (necessary). A place
# that is one and not the other has company: partners that it needs, or others that can stand in.
# Always run both.
#
# ## Without a second prompt: noise
#
# **Causal tracing** ([Meng et al. 2022](https://arxiv.org/abs/2202.05262)) needs no second prompt.
# It blurs a word by random noise, added to its embedding, of three times the standard deviation of
# the embeddings. Then one clean activation at a time is restored. There is no second answer to
# compare with, so the metric is the probability. Which share of answers is right once the first
# name is blurred?

# %%
my_blurred = 0.125  # your guess: 1 of 8 if nothing is left of the name
std = toy.model.W_E.std().item()
noise = torch.randn(256, 3, toy.model.config.d_model, generator=torch.Generator().manual_seed(0))
_, cache = toy.model.run_with_cache(batch.clean)


def run_blurred(times, name=None):
    """Return logits with noise on the first name, with `times` the std of the embeddings.

    With `name`, that activation is restored at the last name.
    """

    def blur(embed, hook):
        embed[:, 0] += times * std * noise[:, 0]

    def restore(value, hook):
        value[:, 1] = cache[name][:, 1]

    hooks = [("embed", blur)]
    if name is not None:
        hooks.append((name, restore))
    return toy.model.run_with_hooks(batch.clean, fwd_hooks=hooks)


high = measure_probability(toy.model(batch.clean)).mean()
rights, shares = {}, {}
for times in (3, 30):
    blurred = run_blurred(times)
    low = measure_probability(blurred).mean()
    back = measure_probability(run_blurred(times, ("mlp_out", 0))).mean()
    rights[times] = batch.correct(blurred).float().mean().item()
    shares[times] = ((back - low) / (high - low)).item()
    print(f"x {times}: {rights[times]:.0%} right; MLP 0 brings back {shares[times]:.2f}")
print(f"you said {my_blurred:.0%} right at x 3")

# %% tags=["check"]
assert [round(right, 2) for right in rights.values()] == [0.61, 0.06]
assert [round(share, 2) for share in shares.values()] == [1.0, 0.38]
# The package's way: a map, here with one draw of the noise.
first_name = torch.tensor([True, False, False]).expand(256, 3)
theirs = causal_trace(
    toy.model, batch.clean, measure_probability, first_name, "mlp_out", noise=30 * std, draws=1
)
torch.testing.assert_close(back, theirs[0, 1])

# %% [markdown]
# At x 3 most answers are still right (61%), and the MLP brings back all that is lost: the tracing
# finds it. The same MLP brings back 1.00 at x 3 and .38 at x 30. It stores what it stored before,
# but attention 0 now writes so much noise beside it that its part drowns. So state the size of your
# noise, and try a second prompt where you have one.
#
# ### Exercise 7.4: trace_noise
# The map of causal tracing, for several draws of the noise, on its scale from 0 to 1.
# `minilab grade 07`
#
# ## Limits, and a claim card
#
# A place that *carries* what differs need not have computed it: patching the name itself restores
# all. A map holds for its pairs and its metric. And a place brings along *everything* in which the
# two runs differ there.

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
# In unknown models, where is what the prompts differ in: which places are enough, and which are
# needed? `minilab grade 07`
#
# ## On real models
#
# Causal tracing of GPT-2 XL found facts where our toy has them, in MLPs at the last token of the
# subject (Meng et al.). With another subject in place of noise the peak is much weaker, and by
# probability one misses parts that work against the answer:
# [Zhang and Nanda 2023](https://arxiv.org/abs/2309.16042) compare the choices that you made here,
# [Heimersheim and Nanda 2024](https://arxiv.org/abs/2404.15255) say how to read the results. And to
# find a place is not to control it: where tracing locates a fact does not tell which layer is best
# edited to change it ([Hase et al. 2023](https://arxiv.org/abs/2301.04213)).
#
# Next: lesson 08, which patches not places but the connections between them.
