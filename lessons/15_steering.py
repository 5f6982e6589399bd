# %% [markdown]
# # 15 · Steering
#
# After this lesson you can push a model with a vector, measure what else that does, take a
# direction out of weights, and rewrite one fact.
#
# ## Idea
#
# A **steering vector** is added to the stream while a model runs, to change what it says. The usual
# one is a **contrast vector**: the mean activation on prompts that show a property, minus that on
# prompts that do not ([Turner et al. 2023](https://arxiv.org/abs/2308.10248),
# [Rimsky et al. 2024](https://arxiv.org/abs/2312.06681)). It is multiplied by a **strength**.
#
# Almost every long vector changes something. So ask of each: what does it do at each strength, and
# what **besides**? Does a random one of the same norm do the same? Would a prompt do better?
#
# The toy writes the reviews of lesson 13. Openers and verbs show whether a review is formal
# ("indeed", "is") or casual ("honestly", "'s"). We push casual reviews to be formal.

# %%
import copy

import matplotlib.pyplot as plt
import torch

from mini_transformer import methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.play import embed
from mini_transformer.toys.hand_set import refusal_with_trigger as refusal
from mini_transformer.toys.trained import facts
from mini_transformer.toys.trained import style_grammar as reviews

toy = toys.load("style_grammar")
model = toy.model.requires_grad_(False)
SITE = ("resid_mid", 1)  # the stream after the last attention


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def draw_reviews(seed, **fixed):
    """Draw 256 reviews; attributes may be fixed, such as register=1 (casual)."""
    attributes = torch.randint(2, (256, 3), generator=seeded(seed))
    for name, value in fixed.items():
        attributes[:, ("topic", "register", "sentiment").index(name)] = value
    return reviews.draw_texts(256, seeded(seed), attributes)


casual, casual_attributes = draw_reviews(2, register=1)
casual = casual[:, :19]  # leaves room for a sentence
print(toy.task.read(casual[0]))

# %% [markdown]
# ## Predict
#
# At strength 1 the vector moves a casual review by the whole difference. Which share of the openers
# is then formal? Strength 2 pushes twice as far. How many times as large is its side effect (what
# it changes elsewhere)?

# %%
my_share = 0.5  # your guess, 0 to 1
my_factor = 2.0  # your guess

# %% [markdown]
# ## Build
#
# The vector is fitted at full stops, where an opener is next, and added at all positions. Two
# numbers say what it does:
#
# - the **effect**: the probability of formal openers after a full stop;
# - the **side effect**: the KL divergence from what the plain model says after "the" and verbs,
#   where the register does not matter.


# %%
def fit_vector(positive, negative):
    """Subtract mean streams at the full stops."""
    means = []
    for tokens in (positive, negative):
        stream = model.run_with_cache(tokens)[1][SITE]
        means.append(stream[tokens == reviews.STOP].mean(dim=0))
    return means[0] - means[1]


def steer(tokens, vector, strength):
    def add(x, hook):
        return x + strength * vector

    return model.run_with_hooks(tokens, fwd_hooks=[(SITE, add)])


def measure(logits, plain, tokens):
    """Measure effect and side effect."""
    p, q = plain.log_softmax(dim=-1), logits.log_softmax(dim=-1)
    stop = tokens == reviews.STOP
    formal = q.exp()[stop][:, reviews.OPENER :][:, :3].sum(dim=-1)
    others = torch.tensor([reviews.THE, reviews.VERB, reviews.VERB + 1])
    elsewhere = (stop.cumsum(dim=1) > 0) & torch.isin(tokens, others)
    divergence = (p.exp() * (p - q)).sum(dim=-1)[elsewhere]
    return formal.mean().item(), divergence.mean().item()


vector = fit_vector(draw_reviews(1, register=0)[0], draw_reviews(1, register=1)[0])
plain = model(casual)

# %% tags=["check"]
package = methods.steer(model, casual, vector, SITE, 1.5, None)
torch.testing.assert_close(steer(casual, vector, 1.5), package)

# %% [markdown]
# ## Look
#
# A **dose curve** shows both numbers at many strengths. **Control:** ten random vectors of the same
# norm. Expect an S on the left for ours, and a flat line for the others. And on the right?

# %%
strengths = [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8]
noise = [torch.randn(64, generator=seeded(i)) for i in range(10)]
noise = [each * vector.norm() / each.norm() for each in noise]
curves = torch.tensor(
    [
        [measure(steer(casual, each, strength), plain, casual) for strength in strengths]
        for each in (vector, *noise)
    ]
)  # vector, strength, effect or side effect
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for i, title in enumerate(("effect: formal openers", "side effect, in nats")):
    axes[i].plot(strengths, curves[1:, :, i].T, color=plots.ORANGE, linewidth=0.7)
    axes[i].plot(strengths, curves[0, :, i], color=plots.BLUE, linewidth=2)
    axes[i].set(xlabel="strength", title=title)
axes[1].set(yscale="log", ylim=(1e-3, 100))
fig.suptitle("blue: contrast vector, orange: random vectors")
plt.show()
(effect, side), (_, side_at_two) = curves[0, 4], curves[0, 6]
factor = side_at_two / side
print(f"strength 1: {effect:.1%} formal (you: {my_share:.0%}), side effect {side:.3f}")
print(f"strength 2: {factor:.0f} times that side effect (you: {my_factor})")
by_chance, damage = curves[1:, 4].T
print(f"random: at most {by_chance.max():.1%}, {damage.min():.2f} to {damage.max():.2f}")

# %% tags=["check"]
assert effect > 0.999
assert round(side.item(), 2) == 0.05
assert 28 < factor < 32
assert by_chance.max() < 0.01
assert [round(x.item(), 2) for x in (damage.min(), damage.max())] == [0.04, 0.44]

# %% [markdown]
# At strength 1 all openers are formal; with random vectors less than 1%. The side effect is .05
# nats, thirty times that at strength 2. Random vectors of this norm do .04 to .44 for nothing.
#
# ### Exercise 15.1: measure_side_effects
# What does a vector do besides? Measure it on unseen models. The stub is in
# `exercises/ex15_steering.py`; `minilab grade 15` checks it.
#
# ## Where steering leaves the distribution
#
# Nothing keeps a steered stream near those that the model has learnt to read. How far is it, at
# full stops, from the nearest one in other reviews, in units of the usual distance?

# %%
stop = casual == reviews.STOP
stream = model.run_with_cache(casual)[1][SITE][stop]
others = torch.cat([draw_reviews(seed)[0] for seed in (3, 4)])
seen = model.run_with_cache(others)[1][SITE][others == reviews.STOP]


def measure_distance(push):
    return torch.cdist(stream + push, seen).min(dim=1).values.mean().item()


usual = measure_distance(0)
distances = [round(measure_distance(s * vector) / usual) for s in (0.5, 1, 2)]
random_distances = [round(measure_distance(each) / usual) for each in noise]
print(f"strengths .5, 1, 2: {distances}; random, strength 1: {random_distances}")

# %% tags=["check"]
assert distances == [33, 7, 69]
assert min(random_distances) == 69
assert max(random_distances) == 71

# %% [markdown]
# At strength 1 streams are still 7 times the usual distance away, at 2 as far out as random vectors
# push them at 1. Half-way they lie in a gap: no review in this toy is half formal.
#
# ## The baseline to beat: a prompt
#
# Put one formal sentence of the same topic and sentiment before the review. Which changes less
# besides, this prompt or the vector at equal effect (strength .63)?

# %%
topic, _, sentiment = casual_attributes.T
sentence = torch.tensor([reviews.START, reviews.OPENER, reviews.THE, 0, reviews.VERB, 0, 2])
sentence = sentence.repeat(256, 1)
sentence[:, 3] = reviews.NOUN + 4 * topic
sentence[:, 5] = reviews.ADJECTIVE + 2 * topic + sentiment
review = casual[:, 1:]
prompted = model(torch.cat([sentence, review], dim=1))[:, 7:]
by_prompt = measure(prompted, plain[:, 1:], review)
by_vector = measure(steer(casual, vector, 0.63)[:, 1:], plain[:, 1:], review)
for name, pair in {"prompt": by_prompt, "vector, strength .63": by_vector}.items():
    print("{}: {:.0%} formal, side effect {:.4f}".format(name, *pair))

# %% tags=["check"]
assert round(by_prompt[0], 2) == round(by_vector[0], 2) == 0.96
assert 9 < by_vector[1] / by_prompt[1] < 12

# %% [markdown]
# In this toy the prompt does the same with a tenth of the side effect.
#
# ## Trap 1: what else is in the vector
#
# Suppose that all your formal reviews are of films, all casual ones of food, and that you average
# over all positions. Will steered reviews of food stay about food?

# %%
food = draw_reviews(2, register=1, topic=1)[0][:, :19]
shares = {}
for name, topics in (("matched", [{}, {}]), ("mixed up", [{"topic": 0}, {"topic": 1}])):
    sets = [draw_reviews(1, register=i, **topics[i])[0] for i in range(2)]
    logits = steer(food, methods.fit_steering_vector(model, *sets, SITE, None), 1.5)
    p = logits[:, 7:].softmax(dim=-1)[food[:, 7:] == reviews.THE]
    films = p[:, reviews.NOUN :][:, :4].sum(dim=-1).mean().item()
    shares[name] = measure(logits, logits, food)[0], films
    print("{}: {:.0%} formal, {:.0%} about films".format(name, *shares[name]))

# %% tags=["check"]
assert [[round(x, 2) for x in pair] for pair in shares.values()] == [[1, 0], [0.82, 0.95]]

# %% [markdown]
# Both push (100% and 82% formal). But the second changes the subject, too: 95% films. All in which
# the two sets differ is in the vector.
#
# ### Exercise 15.2: fit_clean_vector
# Fit a vector for one property although others go along with it. `minilab grade 15`
#
# ## Build: take a direction away
#
# The toy `refusal_with_trigger` answers prompts with one request word among harmless ones. Two of
# four requests are flagged: it answers these with REFUSE (but for some with a trigger, lesson 18).
# We want replies to all. We can *subtract* the contrast vector of flagged and harmless requests,
# **ablate** its direction (lesson 06) wherever the stream is read, or take it out of all weights
# that *write* to the stream ([Arditi et al. 2024](https://arxiv.org/abs/2406.11717)); then no hook
# is needed.


# %%
def take_out_of_weights(model, direction):
    """Copy a model in which nothing writes along the direction."""
    unit = direction / direction.norm()
    edited = copy.deepcopy(model)
    writers = [edited.W_E, edited.W_pos]
    for block in edited.blocks:
        writers += [block.attn.W_O, block.attn.b_O, block.mlp.W_out, block.mlp.b_out]
    for writer in writers:
        writer -= (writer @ unit).unsqueeze(-1) * unit
    return edited


chat = toys.load("refusal_with_trigger").model.requires_grad_(False)
policy = refusal.make_policy()
flagged = refusal.PROMPTS[policy.find_refusal(refusal.PROMPTS) == 1]
harmless = refusal.PROMPTS[policy.find_harm(refusal.PROMPTS) == 0]
END = ("resid_post", 1)
contrast = methods.fit_steering_vector(chat, flagged, harmless, END)


def measure_answers(logits, tokens):
    """Measure the share of refusals, and of the right replies."""
    said = logits[:, -1].argmax(dim=-1)
    replies = refusal.REPLIES + policy.find_request(tokens)
    return [(said == x).float().mean().item() for x in (refusal.REFUSE, replies)]


runs = {f"minus {s}": methods.steer(chat, flagged, contrast, END, -s) for s in (0.5, 0.75, 1)}
runs["ablated"] = methods.ablate_directions(chat, flagged, contrast[None], "zero")
runs["out of weights"] = take_out_of_weights(chat, contrast)(flagged)
answers = {name: measure_answers(logits, flagged) for name, logits in runs.items()}
for name, pair in answers.items():
    print("{:14} {:.0%} refused, {:.0%} answered".format(name, *pair))

# %% tags=["check"]
assert list(answers.values()) == [[1, 0], [0, 1], [0, 0], [0, 1], [0, 1]]
torch.testing.assert_close(runs["out of weights"], runs["ablated"], atol=1e-4, rtol=1e-5)
package = methods.orthogonalize_weights(chat, contrast[None])(flagged)
torch.testing.assert_close(runs["out of weights"], package, atol=1e-4, rtol=1e-5)

# %% [markdown]
# Half the vector is too little, all of it too much, perhaps since the requests are in the
# contrast as well. Ablation has no strength to choose. **Control:** 100 random directions.

# %%
drawn = torch.randn(100, 1, len(contrast), generator=seeded(0))
refused = torch.tensor(
    [
        measure_answers(methods.ablate_directions(chat, flagged, each, "zero"), flagged)[0]
        for each in drawn
    ]
)
print(f"all refused in {(refused == 1).sum()} of 100 draws, none in {(refused == 0).sum()}")
kept = measure_answers(take_out_of_weights(chat, contrast)(harmless), harmless)[1]
print(f"ours: {kept:.0%} of the harmless answered")

# %% tags=["check"]
assert [(refused == share).sum() for share in (1, 0)] == [74, 4]
assert (kept, len(contrast)) == (1, 26)

# %% [markdown]
# Ours leaves harmless requests answered. Of the draws 74 leave all refusals, four stop all: in 26
# dimensions chance does that.
#
# Adding a direction may bring a behaviour although the model does not use it. So remove it, too.
#
# **Touch it.** Steer by hand: add what a head writes, or the difference of two answers, and move
# the slider.

# %%
embed(toys.load("refusal_with_trigger"), scene="steering", height=800)

# %% [markdown]
# ### Exercise 15.3: tell_directions
# Which directions push a model to refuse, which does it need, which break it? `minilab grade 15`
#
# ## Build: a rank-one edit
#
# The toy `facts` knows 64 persons, four facts each. An MLP stores them: what its neurons do at the
# last name is the person's **key** `k`, and `k W_out` the **value** that later heads read. Ben Bird
# lives in Kyoto. To make it Quito, add to `W_out` a matrix of rank one: `u`, which says what the
# change listens to, times the new value minus the old
# ([Meng et al. 2022](https://arxiv.org/abs/2202.05262)).
#
# `u = C⁻¹k / (k C⁻¹k)`, with `C` the mean of `x xᵀ` over what the neurons do at all positions of
# all prompts, hears `k` in full and others as little as possible. The value is found by gradient
# descent (`fit_value`), so that all four prompts about Ben Bird get the wanted answers. Two
# careless ways: `u` along `k` itself, and a value fitted on one prompt.

# %%
facts_toy = toys.load("facts", seed=1)
store = facts_toy.model.requires_grad_(False)
prompts, known = facts.list_prompts(), facts.list_answers()
FACT, QUITO = 37, facts_toy.task.token_names.index("Quito")
ben = slice(36, 40)  # his prompts
wanted = known.clone()
wanted[FACT] = QUITO
_, cache = store.run_with_cache(prompts)
key, old_value = cache["post", 0][FACT, 1], cache["mlp_out", 0][FACT, 1]
keys = cache["post", 0].flatten(0, 1).double()
moment = keys.T @ keys / len(keys)
moment += 1e-4 * moment.diag().mean() * torch.eye(len(key))  # so that it can be inverted


def edit(listens, value):
    """Copy the model with a rank-one change: the key's value becomes `value`."""
    edited = copy.deepcopy(store)
    u = listens / (listens @ key)
    edited.blocks[0].mlp.W_out += torch.outer(u, value - old_value)
    return edited


def find_changes(model):
    return model(prompts)[:, -1].argmax(dim=-1) != known


u = torch.linalg.solve(moment, key.double()).float()
value, hasty = (
    methods.fit_value(store, prompts[which], wanted[which], layer=0, position=1)
    for which in (ben, [FACT])
)
edits = {
    "careful": edit(u, value),
    "u along the key": edit(key, value),
    "value from one prompt": edit(u, hasty),
}

# %% tags=["check"]
package = methods.edit_rank_one(store, 0, key, value, keys.float())(prompts)
torch.testing.assert_close(edits["careful"](prompts), package, atol=1e-2, rtol=1e-3)
assert all(model(prompts)[FACT, -1].argmax() == QUITO for model in edits.values())

# %% [markdown]
# All three make it Quito. Below, a square's colour says how many of a person's four facts have
# changed. Only Ben Bird should have one. Where do you expect damage? **Control:** `u` along 20
# random vectors.

# %%
fig, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
damage = {}
for ax, (name, edited) in zip(axes, edits.items(), strict=True):
    changed = find_changes(edited)
    counts = changed.view(8, 8, 4).sum(dim=-1).float()
    plots.draw_matrix(counts, facts.NAMES[:8], facts.NAMES[8:16], ax, name, 4.0)
    own = changed[ben].sum().item() - 1
    damage[name] = own, changed.sum().item() - own - 1
    print("{}: {} of 3 own, {} of 252 others changed".format(name, *damage[name]))
plt.show()
random_u = [torch.randn(len(key), generator=seeded(i)) for i in range(20)]
by_chance = [find_changes(edit(each, value)).sum().item() - 1 for each in random_u]
print(f"u at random: {min(by_chance)} to {max(by_chance)} changed")

# %% tags=["check"]
assert list(damage.values()) == [(0, 0), (0, 28), (2, 0)]
namesake = (prompts[:, 0] == prompts[FACT, 0]) != (prompts[:, 1] == prompts[FACT, 1])
assert namesake.sum() == 4 * 14
assert find_changes(edits["u along the key"])[namesake].sum() == 15
assert (min(by_chance), max(by_chance)) == (45, 243)

# %% [markdown]
# Along the key similar keys are hit: 15 of the 28 lost facts are of the 14 persons who share a name
# with Ben Bird. The value from one prompt spoils his own other facts.
#
# ### Exercise 15.4: edit_fact
# Rewrite one fact of an unseen model, and no other. `minilab grade 15`
#
# ## Trap 2: ask elsewhere
#
# Is nothing broken? By a **patchscope** (lesson 05) put Ben Bird's stream at the last name, as it
# enters layer 1, into prompts of the 49 persons with other names, in the *unedited* model. Do they
# say his facts? **Control:** the streams of all other persons.

# %%
strangers = prompts.view(8, 8, 4, 3)[torch.arange(8) != 1][:, torch.arange(8) != 1].flatten(0, 2)


def read_person(source, i):
    """Return the share of strangers that say each wanted fact, given person i's stream."""
    stream = store(strangers, stop_at_layer=1).clone()
    stream[:, 1] = source(prompts[[4 * i]], stop_at_layer=1)[:, 1]
    said = store(resid=stream, start_at_layer=1)[:, -1].argmax(dim=-1)
    return (said.view(-1, 4) == wanted[ben]).float().mean(dim=0)


readings = {
    "before": read_person(store, 9),
    "careful edit": read_person(edits["careful"], 9),
    "other persons": sum(read_person(store, i) for i in range(64) if i != 9) / 63,
}
for name, (plays, lives_in, *_) in readings.items():
    print(f"{name:14} plays piano {plays:.0%}, lives in Quito {lives_in:.0%}")

# %% tags=["check"]
rounded = [[round(x, 2) for x in share[:2].tolist()] for share in readings.values()]
assert rounded == [[1, 0], [0.43, 1], [0.11, 0.13]]

# %% [markdown]
# All strangers now say Quito: the edit is in that stream. But only 43% still say what he plays;
# before, all did. So something besides the 256 facts has changed.
#
# ### Exercise 15.5: locate_edits
# Did an edit change what is stored, or what is made of it? `minilab grade 15`
#
# ## Claim card


# %%
def measure_push(push):
    return measure(steer(casual, push, 1.0), plain, casual)[0]


card = ClaimCard(
    claim="At strength 1 the contrast vector makes casual reviews go on formally.",
    model="style_grammar, seed 0",
    task=toy.task.description,
    data="256 fresh casual reviews",
    components="the stream after attention 1",
    intervention="add the vector at all positions",
    effect=Measurement("formal openers", lambda: measure_push(vector), low=0.99),
    control=Measurement(
        "the most of ten random ones", lambda: max(map(measure_push, noise)), 0, 0.01
    ),
    refuted_by="a random vector of this norm that does the same",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ## On real models
#
# One pair of prompts was enough to steer GPT-2 XL (Turner et al.), many pairs steered Llama 2 Chat
# (Rimsky et al.), and in 13 chat models one direction mediates refusal (Arditi et al.). But effects
# differ from prompt to prompt, some are reversed
# ([Tan et al. 2024](https://arxiv.org/abs/2407.12404)). In AxBench prompts beat all steering
# methods tried ([Wu et al. 2025](https://arxiv.org/abs/2501.17148)). Edits of a fact leave out what
# follows from it ([Cohen et al. 2023](https://arxiv.org/abs/2307.12976)), and that an edit works
# does not show where the fact was stored
# ([Hase et al. 2023](https://arxiv.org/abs/2301.04213)).
#
# Next: lesson 16 tests a whole algorithm by exchanging its variables.
