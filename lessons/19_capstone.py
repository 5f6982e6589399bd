# %% [markdown]
# # 19 · Capstone
#
# After this lesson you can take a model that nobody has explained, make a claim about it that is no
# wider than your evidence, and say what would refute it.
#
# ## Idea
#
# All lessons so far told you what to look for. In research nobody does. What keeps a researcher
# honest is an order of work:
#
# 1. **Find** which parts carry the answer.
# 2. **Explain** what each of them hands on.
# 3. **Predict** experiments that you have not run yet, and say how sure you are.
# 4. **Control**: do the same where your explanation says that nothing should happen.
# 5. **Narrow** the claim until it holds for all prompts that it talks about.
#
# The model is **blind**: we load its weights and its prompts, and open the truth at the end only.
# It comes from the package's **forge**, which builds models that run a random small program, then
# turns and shuffles their weights. So weights show little at a glance, but the truth is known.

# %%
import itertools
import re

import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, forge, plots
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.edges import list_edges, mask_of, run_edges, write_outputs
from mini_transformer.forge.twins import interchange

KNOBS = {"redundancy": "none", "positions": "fixed", "tasks": 1, "decoys": 1}
sealed = forge.make(23, size=2, **KNOBS)  # its truth stays closed for now
model = sealed.model
prompts = sealed.task.everything().distinct().clean
n, length = prompts.shape
n_layers, n_heads = model.config.n_layers, model.config.n_heads
print(f"{n} prompts of {length} tokens; {n_layers} layers of {n_heads} heads and an MLP")


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
# something stand that decides an answer?

# %%
my_places = 0  # your guess, 0 to 125

# %% [markdown]
# ## Build: exchange one output
#
# Run the model on a prompt, the **base**. At one position, let one component write what it writes
# in another prompt, the **source**. All that follows is computed from that.


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
    config = model.config
    return [
        name
        for layer in range(config.n_layers)
        for name in [*(f"a{layer}.h{head}" for head in range(config.n_heads)), f"m{layer}"]
    ]


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
# Expect a few places, since heads move things and MLPs combine them. Everything else should be
# exactly 0, not merely small, because we count changed answers.

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
# Six places, and all others are exactly 0. Two heads bring something to position 2, where an MLP
# writes. Two heads bring something to position 4, where another MLP writes. This is a list for
# these pairs of prompts: pairs that differ in less would show less.
#
# ### Exercise 19.1: trace_components
# Find them in models that you have never seen. Stubs are in `exercises/ex19_capstone.py`; `minilab
# grade 19` checks them, `minilab hint 19` helps.
#
# ## Explain: what is handed on?
#
# Put the output of every prompt into every other. That gives a table of answers: a row for the
# base, a column for the source. Two sources with equal columns do the same everywhere. Call them
# one **value**. So the columns sort the prompts by the **variable** that the component hands on.
# Expect few values, since tokens here have three.


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
# token of position 3. There `m3` makes the answer of both. Each value was found by what it *does*,
# not by what can be read from it.
#
# ### Exercise 19.2: read_variable
# Read variables of unseen models, also among prompts for which several values do the same. `minilab
# grade 19`
#
# ## Predict: experiments not run yet
#
# An explanation that fits what was seen is cheap. So say in advance what a new experiment will
# show, and how sure you are. Ours: the answer depends on two things only, on what `m2` hands on at
# position 2, and on the token at position 3. Take the first from one source and the second from
# another. Then *whatever the base is*, the answer should be that of a prompt which has both.
#
# Confidence is scored by the **Brier score**: the squared difference between the probabilities and
# what happened (1 for the token that came, 0 for all others), summed over tokens. It is a
# **proper** score: on average it is best for whoever says what they believe ([Gneiting and Raftery
# 2007](https://doi.org/10.1198/016214506000001437)). We give 95% to our token. Two rivals: equal
# shares for all three answers, and certainty that the base's own answer stays.


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
    """Give each predicted token this probability, and the others equal shares of the rest."""
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
# All 20 are right. Had one been wrong, certainty would have cost most: a whole 2 for this one. The
# same probability for every token is safe and says nothing.
#
# ### Exercise 19.3: predict_answers
# Predict with the confidence that your explanations deserve. `minilab grade 19`
#
# ## Control
#
# Could any variable predict so well? Shuffle which prompt has which value of `m2`, 200 times. Could
# any exchange do this? Exchange at two places that are not on the list. And does the map of places
# tell a model with a task from one without? Trace a model with random weights. Expect chance, no
# change, and a map full of effects.

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
print(f"random weights: {(random_effect > 0).sum()} of {random_effect.numel()} places have effects")

# %% tags=["check"]
torch.testing.assert_close(shuffled.min(), torch.tensor(0.55))
torch.testing.assert_close(shuffled.max(), torch.tensor(0.95))
assert own.bincount().max() > n / 2
assert torch.equal(silent, own[base])
assert (random_effect > 0).float().mean() > 0.5

# %% [markdown]
# **Trap.** A shuffled variable is right in 55% to 95% of the cases! One answer is much more common
# than the others, and when token 3 is 8 it does not matter what `m2` writes. So a share of right
# predictions means little by itself. What counts is that no shuffle of 200 gets all, and better
# still are **risky** predictions: choose experiments about which rival explanations disagree. The
# other two controls are clear. In a random model most places have some effect, and no explanation
# follows from that.
#
# ## Verify: is that all?
#
# A list of parts that matter is not yet a circuit. Keep only edges among these parts (lesson 09),
# let all others carry what they carry for the other prompt of a pair, and drop each edge that can
# be spared. If every prompt is still answered, the parts are enough.

# %%
batch = sealed.task.everything()
batch = batch.take(torch.randperm(len(batch.clean), generator=generator)[:100])
parts = {"input", "logits"} | {name for name, _ in places}
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
print(f"{len(candidates)} of {len(list_edges(model))} edges join the parts, {len(circuit)} do it")
print(circuit)

# %% tags=["check"]
assert len(circuit) == 9
assert count_right(circuit) == len(batch.clean)

# %% [markdown]
# Nine edges answer all 100 pairs, and none of them can be spared. This holds for `resample`, where
# what is off carries another prompt's values. With zeros in that place it is another question.
#
# ## Narrow: how far does the claim reach?
#
# "`m2` decides the answer" is too wide: for which prompts? Look for the widest **description**,
# tokens fixed at some positions, under which its output never matters. Then the claim can exclude
# these prompts.

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
print(f"m2 never matters for the {most} prompts with {widest}, of {int(is_idle.sum())} in all")

# %% tags=["check"]
assert (widest, most, int(is_idle.sum())) == ({3: 8}, 9, 9)

# %% [markdown]
# A description says more than a list of prompts: it says what they have in common, and a single
# prompt refutes it. Here it covers all nine prompts for which `m2` is idle. For others, "`m2`
# matters" is true.
#
# ### Exercise 19.4: widen_claim
# Find the widest claim that a component does not matter. `minilab grade 19`
#
# ## Claim card

# %%
matters = ~is_idle
strangers = [
    (name, at)
    for name, at in itertools.product(components, range(length))
    if (name, at) not in places
]


def measure_strangers():
    changed = [(try_all(model, prompts, *place) != own[:, None]).any() for place in strangers[::7]]
    return float(torch.stack(changed).float().mean())


card = ClaimCard(
    claim=f"Unless token 3 is {widest[3]}, m2 hands on at position 2 one of three values, on which "
    "the answer depends.",
    model="forged, seed 23",
    task="the token with the highest logit at the last position",
    data=f"all {n} prompts, each with the output of each",
    components="m2 at position 2",
    intervention="put in what it writes in another prompt",
    effect=Measurement(
        "least share of sources that change the answer, over these prompts",
        lambda: (table != own[:, None]).float().mean(dim=1)[matters].min(),
        low=0.2,
    ),
    control=Measurement("share of other places that change any answer", measure_strangers, high=0),
    refuted_by="such a prompt that no source changes",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ## Open the truth
#
# Only now. The forge lists the program, who runs it, and the minimal circuits.

# %%
print(sealed.program.draw())
(truth,) = sealed.truth.circuits["resample"].edges
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
# Exchanging everything is exact but slow. **Attribution patching** (lesson 08) estimates all
# effects at once: the gradient of the answer's logit lead in an output, times how far the output
# moves. Does it find the places as well? One model says little, so forge ten. Both methods rank
# places; the score is the share of true places among as many of the highest. The same models serve
# both, so look at the difference *within* each model: this is a **paired** comparison. **Control**:
# how far an output moves, without any gradient.


# %%
def estimate(model, base, source):
    """Estimate effects by gradients, and measure how far outputs move, (component, position)."""
    lead, cache = model.run_with_cache(base)
    lead = lead[:, -1].topk(2, dim=-1).values
    _, other = model.run_with_cache(source)
    names, estimates, moves = list_components(model), [], []
    for layer in range(model.config.n_layers):
        for kind in ("attn.hook_z", "hook_mlp_out"):
            name = f"blocks.{layer}.{kind}"
            value = cache[name]
            (slope,) = torch.autograd.grad(
                (lead[:, 0] - lead[:, 1]).sum(), value, retain_graph=True
            )
            step = (other[name] - value).detach()
            shape = (len(base), base.shape[1], -1, value.shape[-1])  # b t n h
            product = (slope * step).reshape(shape).sum(dim=-1)
            estimates.append(product.abs().mean(dim=0).T)
            moves.append(step.reshape(shape).norm(dim=-1).mean(dim=0).T)
    assert len(names) == sum(map(len, estimates))
    return torch.cat(estimates), torch.cat(moves)


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
    by_slope, by_move = estimate(case.model, tokens_of, tokens_of[pairs])
    rows.append([measure_precision(each, right) for each in (exact, by_slope, by_move)])
scores = torch.tensor(rows)


def bootstrap(difference):
    drawn = torch.randint(len(difference), (10_000, len(difference)), generator=generator)
    return difference[drawn].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()


print("mean precision: exact {:.2f}, gradient {:.2f}, how far {:.2f}".format(*scores.mean(dim=0)))
low, high = bootstrap(scores[:, 0] - scores[:, 1])
print(f"exact minus gradient, over models: {low:.2f} to {high:.2f}")
low_control, high_control = bootstrap(scores[:, 1] - scores[:, 2])
print(f"gradient minus how far: {low_control:.2f} to {high_control:.2f}")

# %% tags=["check"]
assert scores.mean(dim=0)[:2].min() > 0.9
assert scores.mean(dim=0)[2] < 0.1
assert low < 0 <= high
assert low_control > 0.8

# %% [markdown]
# Both find nearly all, and how far an output moves finds next to nothing. The interval of the
# difference touches 0: these ten models do not say which method is better. That is not the same as
# "they are equal". Exact exchange misses places here because one source per base does not always
# change the answer. More runs on the *same* model would not make the interval narrower by right: it
# is about models, so each model counts once.
#
# ### Exercise 19.5: compare_methods
# Is one of two methods better, and what of missing answers? `minilab grade 19`
#
# ## The exam
#
# Now you. The package forges models that nobody has seen, and seals the truth away:
#
# ```bash
# minilab forge --blind exam --n 20 --size 3
# minilab forge --score answers.json --blind exam
# ```
#
# `exam/README.md` says what is asked: circuits, roles and variables. Every run draws other models,
# since a secret goes into their seeds. Have somebody else keep the key. Before you score, write a
# claim card for each model, with twenty risky predictions and your confidence.
#
# **Limits.** In a forged model all parts are exact: effects are there or not. Tokens are few enough
# to try every pair. In a trained model effects fade out, a part does a little of much, and a
# description in tokens may not exist. The order of work stays.
#
# ## On real models
#
# [Wang et al. 2022](https://arxiv.org/abs/2211.00593) explained in GPT-2 how an indirect object is
# named, and tested the circuit for being faithful, complete and minimal; they found heads that
# stand in for others when these are taken out. How faithful a circuit seems depends much on details
# of the ablation ([Miller et al. 2024](https://arxiv.org/abs/2407.08734)). Tested as a hypothesis
# test would, some published circuits hold up and others do not ([Shi et al.
# 2024](https://arxiv.org/abs/2410.13032)). Explanations of single neurons of GPT-2 by GPT-4 score
# well on average of examples, and fail when they are asked what the neuron causes ([Huang et al.
# 2023](https://arxiv.org/abs/2309.10312)). Models with known circuits are a benchmark for methods
# ([Gupta et al. 2024](https://arxiv.org/abs/2407.14494)). And a game between teams, one of which
# hides an objective in a model that the others audit, is a blind exam on a larger scale ([Marks et
# al. 2025](https://arxiv.org/abs/2503.10965)).
#
# This was the last lesson. The next model is one that nobody has explained.
