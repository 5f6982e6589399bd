# %% [markdown]
# # 19 · Capstone
#
# After this lesson you can make a claim about a model that nobody has explained, no wider than your
# evidence, and say what would refute it.
#
# ## Idea
#
# Lessons told you what to look for. In research nobody does. What keeps one honest is an order of
# work:
#
# 1. **Find** which parts carry the answer.
# 2. **Explain** what each of them hands on.
# 3. **Predict** experiments that you have not run yet, and say how sure you are.
# 4. **Control**: do the same where nothing should happen.
# 5. **Narrow** the claim until it holds for all prompts that it talks about.
#
# We work **blind**: we load a model's weights and prompts, and open the truth at the end only. The
# model comes from the **forge**, which builds models that run a random small program, then turns
# and shuffles their weights. One thing is not blind: seed 23 was chosen for its short program, of
# which a part is idle at times. Those of the exercises come from your own seed.

# %%
import itertools
import re

import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, forge, methods, plots
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.edges import list_edges, list_writers, mask_of, run_edges, write_outputs
from mini_transformer.forge.twins import interchange

KNOBS = {"redundancy": "none", "positions": "fixed", "tasks": 1, "decoys": 1}
sealed = forge.make(23, size=2, **KNOBS)  # its truth stays closed for now
model = sealed.model
prompts = sealed.task.everything().distinct().clean
n, length = prompts.shape
print(f"{n} prompts of {length} tokens")


def answer(model, tokens):
    """Return the token with the highest logit at the last position."""
    with torch.no_grad():
        return model(tokens)[:, -1].argmax(dim=-1)


own = answer(model, prompts)
print(prompts[:4].tolist(), "->", own[:4].tolist())

# %% [markdown]
# ## Predict
#
# There are 25 **components**, heads and MLPs, and 5 positions. At how many of these 125 places does
# some answer change if a component writes what it writes in another prompt?

# %%
my_places = 0  # your guess, 0 to 125

# %% [markdown]
# ## Build: exchange one output
#
# Run the model on a prompt, the **base**. At one position, let one component write what it writes
# in another prompt, the **source**.


# %%
def exchange(model, base, *changes):
    """Return the answers to `base`; each change is (source, component, position)."""

    def make_put(place, value):
        def put(written, hook):
            changed = written.clone()
            changed[place] = value[place]
            return changed

        return put

    hooks = []
    for source, component, position in changes:
        layer, _, head = component[1:].partition(".h")
        name = f"blocks.{layer}." + ("attn.hook_z" if head else "hook_mlp_out")
        place = (slice(None), position, int(head)) if head else (slice(None), position)
        with torch.no_grad():
            _, cache = model.run_with_cache(source, names_filter=[name])
        hooks.append((name, make_put(place, cache[name])))
    with torch.no_grad():
        return model.run_with_hooks(base, fwd_hooks=hooks)[:, -1].argmax(dim=-1)


def list_components(model):
    return [name for name in list_writers(model) if name != "input"]


def trace(model, base, source):
    """Measure the share of answers that each component changes at each position."""
    before = answer(model, base)
    return torch.tensor(
        [
            [
                (exchange(model, base, (source, name, at)) != before).float().mean()
                for at in range(base.shape[1])
            ]
            for name in list_components(model)
        ]
    )


generator = torch.Generator().manual_seed(0)
order = torch.randperm(n, generator=generator)
effect = trace(model, prompts, prompts[order])

# %% tags=["check"]
for name in ("a1.h0", "m3"):
    same = interchange(model, prompts, prompts[order], name, 4)[:, -1].argmax(dim=-1)
    assert torch.equal(exchange(model, prompts, (prompts[order], name, 4)), same)

# %% [markdown]
# ## Look
#
# Expect a few places, and exactly 0 elsewhere, because we count changed answers.

# %%
components = list_components(model)
fig, ax = plt.subplots(figsize=(5, 7), layout="constrained")
plots.draw_matrix(
    effect, components, [str(at) for at in range(length)], ax, "share of answers changed", 1.0
)
ax.set(xlabel="position", ylabel="component")
plt.show()

places = [(components[i], at) for i, at in effect.nonzero().tolist()]
print(f"{len(places)} places (you: {my_places}):", places)

# %% [markdown]
# Six places: at positions 2 and 4, two heads bring something, and an MLP writes. This is a list for
# these pairs of prompts: pairs that differ in less would show less.
#
# ### Exercise 19.1: trace_components
# Find them in unseen models. Stubs are in `exercises/ex19_capstone.py`; `minilab
# grade 19` checks them, `minilab hint 19` helps.
#
# ## Explain: what is handed on?
#
# Put the output of every prompt into every other. That gives a table of answers: a row for the
# base, a column for the source. Two sources with equal columns do the same: call them one
# **value**. So the columns sort the prompts by the **variable** that the component hands on.
# Expect few values: each varying position holds one of three tokens.


# %%
def try_all(model, prompts, component, position):
    """Return what is answered, (base, source), for all pairs of prompts."""
    n = len(prompts)
    base, source = prompts.repeat_interleave(n, dim=0), prompts.repeat(n, 1)
    return exchange(model, base, (source, component, position)).view(n, n)


def read_variable(model, prompts, component, position):
    columns = try_all(model, prompts, component, position).T
    return columns.unique(dim=0, return_inverse=True)[1]


def determines(known, value):
    """Say whether prompts that agree in all of `known` agree in `value`."""
    groups = torch.stack(known, dim=1).unique(dim=0, return_inverse=True)[1]
    both = torch.stack([groups, value], dim=1).unique(dim=0)
    return len(both) == len(groups.unique())


varying = [at for at in range(length) if len(prompts[:, at].unique()) > 1]
variables = {place: read_variable(model, prompts, *place) for place in places}
sources = {}
for place, variable in variables.items():
    for size in (1, 2, 3):
        found = [
            which
            for which in itertools.combinations(varying, size)
            if determines([prompts[:, at] for at in which], variable)
        ]
        if found:
            sources[place] = found[0]
            break
    print(f"{place}: {len(variable.unique())} values, told by the tokens at {sources[place]}")

# %% tags=["check"]
assert " ".join(f"{name}@{at}" for name, at in places) == (
    "a1.h0@4 a1.h1@2 a2.h2@2 m2@2 a3.h0@4 m3@4"
)
assert (n, len(components), effect.numel(), varying) == (27, 25, 125, [0, 1, 3])
assert {len(variable.unique()) for variable in variables.values()} == {3}
assert list(sources.values()) == [(3,), (0,), (1,), (0, 1), (0, 1), (0, 1, 3)]

# %% [markdown]
# So here is an explanation. Two heads bring the tokens of positions 0 and 1 to position 2. There
# `m2` makes one of three values of them. `a3.h0` brings this value to position 4, and `a1.h0` the
# token of position 3. There `m3` makes the answer of both. So each part has a **role**: three hand
# on a *token*, `m2` and `a3.h0` something *between*, `m3` the *answer*. All this was found by what
# an output *does*, not by reading it.
#
# ### Exercise 19.2: read_variable
# Read variables and roles. Values that do the same for all given prompts count as one. `minilab
# grade 19`
#
# ## Predict: experiments not run yet
#
# An explanation that fits what was seen is cheap. So say in advance what a new experiment will
# show. Ours: the answer depends only on what `m2` hands on and on the token at position 3. Take the
# first from one source and the second from another. Then *whatever the base is*, the answer should
# be that of a prompt which has both.
#
# Confidence is scored by the **Brier score**: the squared difference between the probabilities and
# what happened (1 for the token that came, 0 for others), summed over tokens. It is **proper**: on
# average it is best for whoever says what they believe ([Gneiting and Raftery
# 2007](https://doi.org/10.1198/016214506000001437)). We give 95% to our token. The rivals: equal
# shares, and certainty that the base's own answer stays.


# %%
tokens = own.unique()  # the answers that there are
middle = variables["m2", 2]
base, first, second = (torch.randperm(n, generator=generator)[:20] for _ in range(3))


def predict(middle):
    """Predict the 20 answers, by prompts that have both values."""
    found = []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        both = (middle == middle[i]) & (prompts[:, 3] == prompts[j, 3])
        found.append(int(own[both].mode().values) if both.any() else int(tokens[0]))
    return torch.tensor(found)


def spread(predicted, confidence):
    rest = (1 - confidence) / (len(tokens) - 1)
    return torch.where(predicted[:, None] == tokens, confidence, rest)


predicted = predict(middle)  # written down before the next line runs
middle_source, token_source = (prompts[first], "m2", 2), (prompts[second], "a1.h0", 4)
happened = exchange(model, prompts[base], middle_source, token_source)


def score(probabilities):
    return (probabilities - (happened[:, None] == tokens).float()).square().sum(dim=1).mean().item()


brier = {
    "ours, 95%": score(spread(predicted, 0.95)),
    "equal shares": score(spread(predicted, 1 / 3)),
    "sure of no change": score(spread(own[base], 1.0)),
}
hits = (predicted == happened).float().mean().item()
print(f"{hits:.0%} of 20 predictions are right; Brier scores:")
for words, value in brier.items():
    print(f"  {words:18} {value:.3f}")

# %% tags=["check"]
assert determines([middle], variables["a3.h0", 4])
assert determines([variables["a3.h0", 4]], middle)
assert hits == 1
assert brier["ours, 95%"] < 0.01 < 0.6 < brier["equal shares"] < 1 < brier["sure of no change"]

# %% [markdown]
# All 20 are right. Had one been wrong, certainty would have cost most: a whole 2 for this one.
# Equal shares for all tokens are safe and say nothing. If several explanations fit what was seen,
# share the probability among them, and keep some for the case that none is right.
#
# ### Exercise 19.3: predict_answers
# Predict with the confidence that your explanations deserve. `minilab grade 19`
#
# ## Control
#
# Could any variable predict so well? Shuffle which prompt has which value of `m2`. Exchange at two
# places that are not on the list. And trace a model with random weights.

# %%
shuffled = torch.tensor(
    [
        (predict(middle[torch.randperm(n, generator=generator)]) == happened).float().mean()
        for _ in range(200)
    ]
)
print(f"shuffled: {shuffled.min():.0%} to {shuffled.max():.0%} right, mean {shuffled.mean():.0%}")

silent = exchange(model, prompts[base], (prompts[first], "m1", 2), (prompts[second], "a2.h0", 4))
print(f"other places: {(silent != own[base]).sum()} answers change")
untrained = Transformer(model.config, seed=0)
random_effect = trace(untrained, prompts, prompts[order])
print(f"random weights: {(random_effect > 0).sum()} places have effects")

# %% tags=["check"]
torch.testing.assert_close(shuffled.min(), torch.tensor(0.55))
torch.testing.assert_close(shuffled.max(), torch.tensor(0.95))
assert own.bincount().max() > n / 2
assert torch.equal(silent, own[base])
assert (random_effect > 0).float().mean() > 0.5

# %% [markdown]
# **Trap.** A shuffled variable is right in 55% to 95% of the cases! One answer is much more common
# than the others, and when token 3 is 8 it does not matter what `m2` writes (shown below). So a
# share of right predictions means little by itself. What counts is that no shuffle of 200 gets all.
# Better still are **risky** predictions, about which rival explanations disagree. The other places
# change nothing. In a random model most places have some effect.
#
# ## Verify: is that all?
#
# Are these parts enough? Keep only edges among them (lesson 09), let others carry what they carry
# for the other prompt of a pair (`resample`), and drop each edge that can be spared.

# %%
batch = sealed.task.everything()
batch = batch.take(torch.randperm(len(batch.clean), generator=generator)[:100])
parts = {"input", "logits"} | {name for name, _ in places}
# Edges from a part to a part:
candidates = [edge for edge in list_edges(model) if set(re.split("<.>|->", edge)) - {""} <= parts]
off = write_outputs(model, batch.corrupt)


def count_right(edges):
    logits = run_edges(model, batch.clean, mask_of(model, edges)[None], off)[0, :, -1]
    return int((logits.argmax(dim=-1) == batch.answer).sum())


circuit = list(candidates)
for edge in candidates:
    fewer = [other for other in circuit if other != edge]
    if count_right(fewer) == len(batch.clean):
        circuit = fewer
print(f"{len(candidates)} edges join the parts, {len(circuit)} do it")
print(circuit)

# %% tags=["check"]
assert len(circuit) == 9
assert count_right(circuit) == len(batch.clean)
for edge in circuit:
    assert count_right([other for other in circuit if other != edge]) < len(batch.clean)

# %% [markdown]
# Nine edges answer all 100 pairs, and none of them can be spared.
#
# ## Narrow: how far does the claim reach?
#
# "`m2` decides the answer" is too wide: for which prompts? Look for the widest **description**,
# tokens fixed at some positions, under which its output never matters, and exclude these prompts.

# %%
table = try_all(model, prompts, "m2", 2)
is_idle = (table == own[:, None]).all(dim=1)
widest, most = None, 0
for size in (0, 1, 2):
    for places_fixed in itertools.combinations(varying, size):
        for values in itertools.product(*(prompts[:, at].unique().tolist() for at in places_fixed)):
            described = (prompts[:, places_fixed] == torch.tensor(values)).all(dim=1)
            if described.sum() > most and is_idle[described].all():
                widest, most = dict(zip(places_fixed, values, strict=True)), int(described.sum())
print(f"m2 never matters for the {most} prompts with {widest}, of {is_idle.sum()} in all")

# %% tags=["check"]
assert (widest, most, int(is_idle.sum())) == ({3: 8}, 9, 9)

# %% [markdown]
# A description says what prompts have in common, and a single prompt refutes it. Here it covers all
# nine prompts for which `m2` is idle.
#
# ### Exercise 19.4: widen_claim
# Find the widest claim that a component does not matter. `minilab grade 19`
#
# ## Claim card


# %%
def measure_elsewhere():
    fresh = trace(model, prompts, prompts[order.roll(1)])
    return fresh[effect == 0].max()


card = ClaimCard(
    claim=f"Unless token 3 is {widest[3]}, m2 hands on at position 2 one of three values, on which "
    "the answer depends.",
    model="forged, seed 23",
    task="the token with the highest logit at the last position",
    data=f"all {n} prompts, each with the output of each",
    components="m2 at position 2",
    intervention="put in what it writes in another prompt",
    effect=Measurement(
        "least share of sources that change the answer, over the other 18 prompts",
        lambda: (table != own[:, None]).float().mean(dim=1)[~is_idle].min(),
        low=0.2,
    ),
    control=Measurement("share of answers changed at other places", measure_elsewhere, high=0),
    refuted_by="such a prompt that no source changes",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ## Open the truth
#
# Only now.

# %%
print(sealed.program.draw())
(truth,) = sealed.truth.circuits["resample"].edges
plots.plot_circuit(model, circuit, truth=truth, title="what was found; behind it, the truth")
plt.show()
print("circuit exact:", set(circuit) == set(truth))
values = sealed.truth.variables["v0"].compute(prompts)
print("variable exact:", determines([middle], values) and determines([values], middle))

# %% tags=["check"]
assert set(circuit) == set(truth)
assert determines([middle], values)
assert determines([values], middle)

# %% [markdown]
# ## Is one method better?
#
# An exchange is exact for its pair, but slow. **Attribution patching** (lesson 08) estimates all
# effects at once: how far an output moves, times the gradient of the answer's lead over the second
# logit. One model says little, so forge ten. Both methods rank places; if k are true, the score is
# the share of true ones among the k highest. The same models serve both, so look at the difference
# *within* each model: a **paired** comparison.


# %%
def measure_lead(logits):
    best, second = logits[:, -1].topk(2, dim=-1).values.T
    return best - second


def estimate(model, base, source):
    """Estimate effects on the lead by gradients, (component, position)."""
    run = model, base, source, measure_lead
    heads = methods.attribution_patch(*run, "z", "head pos", direction="noise")
    mlps = methods.attribution_patch(*run, "mlp_out", "pos", direction="noise")
    effects = torch.cat([heads, mlps[:, None]], dim=1) - measure_lead(model(base)).mean()
    return effects.flatten(0, 1).abs().detach()


def measure_precision(ranking, right):
    top = ranking.flatten().topk(int(right.sum())).indices
    return right.flatten()[top].float().mean().item()


rows = []
for seed in range(100, 110):
    case = forge.make(seed, size=2, **KNOBS)
    tokens_of = case.task.everything().distinct().clean
    pairs = torch.randperm(len(tokens_of), generator=generator)
    # The true places: where the circuit's components write.
    ends = [re.match(r"(.+?)->.* @(\d+)", s) for s in case.truth.by_position["resample"].edges[0]]
    true = {(end[1], int(end[2])) for end in ends if end[1] != "input"}
    right = torch.tensor(
        [
            [(name, at) in true for at in range(tokens_of.shape[1])]
            for name in list_components(case.model)
        ]
    )
    exact = trace(case.model, tokens_of, tokens_of[pairs])
    by_slope = estimate(case.model, tokens_of, tokens_of[pairs])
    by_chance = torch.rand(right.shape, generator=torch.Generator().manual_seed(seed))  # control
    rows.append([measure_precision(each, right) for each in (exact, by_slope, by_chance)])
scores = torch.tensor(rows)


print("mean precision: exact {:.2f}, gradient {:.2f}, chance {:.2f}".format(*scores.mean(dim=0)))
difference = scores[:, 0] - scores[:, 1]
drawn = torch.randint(10, (10_000, 10), generator=generator)  # a bootstrap over models
low, high = difference[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
print(f"exact minus gradient, over models: {low:.2f} to {high:.2f}")

# %% tags=["check"]
assert scores[:, :2].mean(dim=0).min() > 0.9
assert scores[:, 2].mean() < 0.15
assert low < 0 <= high

# %% [markdown]
# Both find nearly all, a random ranking next to nothing. The interval of the difference contains 0,
# or ends at it: these ten models do not say which method is better. That is not "they are equal".
# An exchange can miss a place, since one source per base need not change the answer. More runs on
# one model would say nothing of others.
#
# ### Exercise 19.5: compare_methods
# Is one of two methods better? `minilab grade 19`
#
# ## The exam
#
# Now you:
#
# ```bash
# minilab forge --blind exam --n 20 --size 3
# minilab forge --score answers.json --blind exam
# ```
#
# `exam/README.md` says what is asked: circuits, variables and roles, which have other names there.
# Have somebody else keep `exam.key.json`. Before you score, write a claim card for each model, with
# twenty risky predictions and your confidence.
#
# **Limits.** In a forged model effects are there or not. In a trained one they fade out, and a
# description in tokens may not exist.
#
# ## On real models
#
# [Wang et al. 2022](https://arxiv.org/abs/2211.00593) tested a circuit of GPT-2 for being faithful,
# complete and minimal. How faithful a circuit seems depends much on details of the ablation
# ([Miller et al. 2024](https://arxiv.org/abs/2407.08734)). Put to hypothesis tests, some published
# circuits hold up and others do not ([Shi et al. 2024](https://arxiv.org/abs/2410.13032)). Teams
# have audited a model in which another team hid an objective ([Marks et al.
# 2025](https://arxiv.org/abs/2503.10965)).
#
# The next model is one that nobody explained.
