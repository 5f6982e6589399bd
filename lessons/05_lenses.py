# %% [markdown]
# # 5 · Lenses
#
# After this lesson you can read an answer off the stream half-way, in four ways, and say what each
# misses.
#
# ## Idea
#
# The unembedding reads the end of the stream. But `W_U` can be multiplied with the stream of any
# layer, so one can ask early: what would the model say if it had to stop *here*? That is the
# **logit lens** ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)). It sees
# what already stands in the output's own directions. What stands in another code one can learn to
# translate (the **tuned lens**), or put into another prompt for the model itself to read (the
# **patchscope**).
#
# Our toy knows 256 facts, such as *Ben Bird lives in Kyoto*. Either name alone says nothing: no two
# people called Ben live in the same place. Each relation has eight answers, so chance is 1 in 8.
# The toy has two layers of eight heads and one MLP, `m0`, in layer 0. A head sees two positions
# only, its own and the one before, so that there are few ways through the model.
#
# `everything()` pairs each fact with the seven that differ from it in the first name; `distinct()`
# keeps each fact once. `answer` is the right token, `wrong` the answer to the other fact.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Config, Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement

facts = toys.load("facts")
model = facts.model.requires_grad_(False)
batch = facts.task.everything()
row = 7 * 37  # fact 37, the first of its seven pairs
print(facts.task.read(batch.clean[row]), "->", facts.task.token_names[batch.answer[row]])
without = batch.correct(methods.ablate(model, batch.clean, ["m0"], "zero")).float().mean().item()
print(f"right answers: {batch.accuracy(model):.0%}, without m0: {without:.0%}")

# %% tags=["check"]
assert facts.task.token_names[batch.answer[row]] == "Kyoto"
assert (batch.accuracy(model), round(without, 2)) == (1, 0.14)

# %% [markdown]
# ## Predict
#
# Lesson 01 split the logit difference into what each writer pushes. Here it is 13 on average. How
# much of it does `m0` push?

# %%
my_push = 5.0  # your guess

# %% [markdown]
# ## Build: attribution through a norm
#
# Most models divide the last stream by its size before the unembedding. An **RMSNorm** divides by
# the stream's root mean square, its **scale**, and multiplies each dimension by a weight, its
# **gain**. With the scale held fixed at its value in this run, this is linear, and the pushes add
# up again. This is **direct logit attribution**, the package's `methods.attribute_logits`.


# %%
def attribute(model, tokens, answer, wrong):
    """Return what each writer adds to logit(answer) - logit(wrong) at the last position.

    The final norm is RMS or none.
    """
    _, cache = model.run_with_cache(tokens)
    reads = (model.W_U[:, answer] - model.W_U[:, wrong]).T  # b d
    if model.ln_final is not None:
        reads = reads * model.ln_final.w / cache["ln_final.hook_scale"][:, -1]
    return {
        name: (part[:, -1] * reads).sum(dim=-1) for name, part in model.decompose(cache).items()
    }


pushes = {
    name: push.mean().item()
    for name, push in attribute(model, batch.clean, batch.answer, batch.wrong).items()
}
heads = sum(push for name, push in pushes.items() if name.startswith("a1"))
print(f"m0 pushes {pushes['m0']:z.2f} (you: {my_push}); ", end="")  # z: a 0 without a minus
print(f"the eight heads of layer 1 together {heads:.1f}")

# %% tags=["check"]
assert abs(pushes["m0"]) < 0.01
assert round(heads, 1) == 13.2
assert attribute(model, batch.clean, batch.answer, batch.wrong)["m0"].abs().max() > 10

# The package's function gives the same, also in a random model with an RMSNorm.
size = {"d_vocab": 52, "n_ctx": 3, "d_model": 20, "n_layers": 3, "n_heads": 2}
normed = Transformer(Config(**size, norm="rms"), seed=0).requires_grad_(False)
normed.ln_final.w[:] = torch.linspace(0.5, 2, 20)
for each in (model, normed):
    mine = attribute(each, batch.clean, batch.answer, batch.wrong)
    cache = each.run_with_cache(batch.clean)[1]
    theirs = methods.attribute_logits(each, cache, batch.answer, batch.wrong)
    for name, push in mine.items():
        torch.testing.assert_close(push, theirs[name], rtol=1e-3, atol=1e-4)

# %% [markdown]
# Nothing. At the relation `m0` sees the last name, but not the first, so it cannot prefer the right
# fact of a pair: what it pushes in one prompt (up to 11) it takes back in another. The two names
# meet in `m0` one position earlier. What it writes there acts through the heads that read it, and
# attribution sees the last step only.
#
# Through a norm it misses one thing more. A writer in a direction that nobody reads pushes nothing,
# but it makes the stream longer, and so every other push smaller.
# ### Exercise 5.1: head_pushes
# Attribution to heads through a **LayerNorm**, which first subtracts the mean of the stream's
# numbers. Stubs are in `exercises/ex05_lenses.py`; `minilab grade 05` checks them,
# `minilab hint 05` helps.
#
# ## Build: the logit lens
#
# Stream l enters layer l. One more, the last, leaves the last layer.
# `model(tokens, stop_at_layer=l)` runs up to there and returns the stream. Each is read with the
# final norm on its *own* scale.


# %%
def apply_logit_lens(model, tokens):
    """Read logits off every stream, (stream, batch, position, vocabulary)."""
    layers = range(model.config.n_layers + 1)
    return torch.stack([model.unembed(model(tokens, stop_at_layer=layer)) for layer in layers])


# %% tags=["check"]
lens = apply_logit_lens(normed, batch.clean)
torch.testing.assert_close(
    lens, methods.apply_logit_lens(normed, batch.clean), rtol=1e-3, atol=1e-3
)

# %% [markdown]
# ### Exercise 5.2: settling_layers
# Find the first stream such that the lens says the answer there and in all later streams.
# `minilab grade 05`
#
# ## Build: the patchscope
#
# Take the stream of one prompt (the source) and put it into another prompt (the target), with one
# hook; the target's logits are the reading
# ([Ghandeharioun et al. 2024](https://arxiv.org/abs/2401.06102)). Layer and position of source and
# target may differ; here they are the same. The target is a **stranger**: another first name,
# another last name, the same relation.


# %%
def apply_patchscope(source, target, layer, position):
    """Return the target's last logits, with one stream taken from the source."""
    state = model(source, stop_at_layer=layer)[:, position]
    n_layers = model.config.n_layers
    site = ("resid_pre", layer) if layer < n_layers else ("resid_post", n_layers - 1)

    def put(resid, hook):
        resid[:, position] = state

    return model.run_with_hooks(target, fwd_hooks=[(site, put)])[:, -1]


source, answer = batch.distinct().clean, batch.distinct().answer  # all 256 facts, once
first, last, relation = source.T  # first names are the tokens 0 to 7, last names 8 to 15
stranger = torch.stack([(first + 4) % 8, (last + 3) % 8 + 8, relation], dim=1)

# %% tags=["check"]
theirs = methods.apply_patchscope(model, source, stranger, 1, 1, layers=[1], positions=[1])[0, 0]
torch.testing.assert_close(apply_patchscope(source, stranger, 1, 1), theirs)

# %% [markdown]
# ## Look
#
# On the left what the logit lens says. On the right what the stranger's prompt says when the stream
# is put into it; with nothing put in, it says the answer 1 time in 8. Each cell is a share of the
# 256 facts. Expect the right side to find the answer where both names meet, at the last name in
# stream 1, and at the relation only after layer 1 has fetched it. And the left: does it show the
# answer where it is stored?

# %%
my_lens = 0.5  # your guess: how often does the lens say the answer at the last name, in stream 1?


# %%
def measure_reading(target, layer, position=1, source=source):
    """Measure how often a target says the answer when a stream of the source is put in."""
    says = apply_patchscope(source, target, layer, position).argmax(dim=-1)
    return (says == answer).float().mean().item()


lens = apply_logit_lens(model, source)
shares = {"the logit lens says it": (lens.argmax(dim=-1) == answer[:, None]).float().mean(dim=1)}
scope = torch.tensor(
    [[measure_reading(stranger, layer, t) for t in range(3)] for layer in range(3)]
)
shares["put in, a stranger says it"] = scope
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
places = ["first name", "last name", "relation"]
rows = ["0: the embedding", "1: after layer 0", "2: the end"]
for ax, (title, share) in zip(axes, shares.items(), strict=True):
    plots.draw_matrix(share, rows, places, ax, title, 1.0, numbers=True)
    ax.set(xlabel="position", ylabel="stream")
plt.show()

# %%
seen = shares["the logit lens says it"][1, 1]
rank = methods.measure_answer_rank(lens[1], answer, position=1).float().mean()
print(f"last name, stream 1: the lens is right {seen:.0%} (you: {my_lens:.0%}), ", end="")
print(f"and ranks the answer {rank:.0f} of 52")

# %% tags=["check"]
assert seen < 0.1
assert round(rank.item()) == 22
assert scope[1, 1] > 0.9
assert scope[2, 2] == 1
assert (model(stranger)[:, -1].argmax(dim=-1) == answer).float().mean() == 1 / 8

# %% [markdown]
# The answer is there, in a code that layer 1 reads and the unembedding does not: rank 22 of 52 is
# near the middle. "The lens shows nothing" is not "nothing is there". A patchscope at chance (.12)
# proves as little: the last stream at the last name was put in after all layers, where nothing
# reads it.
#
# ## Control: who said it?
#
# Put in the last name from stream 0, before anything was computed. What if the stranger shares the
# source's *first* name?

# %%
cousin = torch.cat([source[:, :1], stranger[:, 1:]], dim=1)  # the source's first name
readings = {
    "a stranger, stream 1": measure_reading(stranger, 1),
    "a stranger, stream 0": measure_reading(stranger, 0),
    "shares the first name, stream 0": measure_reading(cousin, 0),
}
print(*(f"{name:36}{share:.0%}" for name, share in readings.items()), sep="\n")
# Stream 1 of another person; each person has four rows, one per relation.
others = [measure_reading(stranger, 1, source=source.roll(4 * k, dims=0)) for k in range(1, 64)]
print(f"a stranger, stream 1 of somebody else: {min(others):.0%} to {max(others):.0%}, ", end="")
print(f"on average {sum(others) / 63:.0%}")

# %% tags=["check"]
assert [round(share, 2) for share in readings.values()] == [0.96, 0.0, 1.0]
assert [round(share, 2) for share in (min(others), sum(others) / 63, max(others))] == [
    0,
    0.11,
    0.19,
]

# %% [markdown]
# 100% from a stream that knows one name: the target supplied the other. (With the stranger's first
# name it is 0%, below chance: the two names then make a third person, who always has another
# answer.) So choose targets that cannot know, and always put in other people's states as well: with
# all 63 of them it is 11% on average and 19% at most, near chance, 1 in 8.
#
# ## Build: the tuned lens
#
# A **translator** `x + x A + b` is trained so that the lens says what the model says in the end
# ([Belrose et al. 2023](https://arxiv.org/abs/2303.08112)). The **KL divergence**, the sum of
# `p (log p - log q)`, says in nats how far apart the two are; 0 means equal.
#
# We train lenses on a language model of two layers. It writes reviews, 19 tokens from a vocabulary
# of 24 (`the soup 's tasty .`), and has something to say after every token. `("resid_mid", 0)` is
# the stream in layer 0, after attention and before the MLP.


# %%
def measure_kl(read, logits):
    p, q = logits.log_softmax(dim=-1), read.log_softmax(dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1).mean()


def train_lens(model, streams, logits, steps=200):
    d_model = model.config.d_model
    A = torch.zeros(d_model, d_model, requires_grad=True)
    b = torch.zeros(d_model, requires_grad=True)
    optimizer = torch.optim.Adam([A, b], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        measure_kl(model.unembed(streams + streams @ A + b), logits).backward()
        optimizer.step()
    return A.detach(), b.detach()


reviews = toys.load("style_grammar")
trained = reviews.model.requires_grad_(False)
train_prompts = reviews.task.draw(128, seed=1).clean
test_prompts = reviews.task.draw(128, seed=2).clean


def measure_lenses(model, site):
    """Train a tuned lens; measure the KL of logit lens and tuned lens on fresh prompts."""
    logits, cache = model.run_with_cache(train_prompts)
    A, b = train_lens(model, cache[site], logits)
    logits, cache = model.run_with_cache(test_prompts)
    x = cache[site]
    return [measure_kl(model.unembed(read), logits).item() for read in (x, x + x @ A + b)]


found = {
    "after attention 0": measure_lenses(trained, ("resid_mid", 0)),
    "embedding": measure_lenses(trained, ("resid_pre", 0)),
}
for seed in range(3):
    untrained = Transformer(trained.config, seed=seed).requires_grad_(False)
    found[f"untrained model {seed}"] = measure_lenses(untrained, ("resid_mid", 0))
for name, pair in found.items():
    print(f"{name:20} logit lens {pair[0]:.2f}, tuned lens {pair[1]:.3f}")

# %% tags=["check"]
package = methods.fit_tuned_lens(trained, train_prompts, steps=200)
theirs = methods.measure_divergence(methods.apply_tuned_lens(trained, test_prompts, package))
assert abs(theirs[1].item() - found["after attention 0"][1]) < 0.05

# %% [markdown]
# ## A trap: a lens that knows more than the stream
#
# After attention 0 the tuned lens is nearly perfect. But at the embedding, where *no layer has
# run*, it is still four times closer than the logit lens. Is the answer there? Compare a table: for
# each token, the model's average distribution after it.

# %%
after = trained(train_prompts).softmax(dim=-1)
table = torch.stack([after[train_prompts == token].mean(dim=0) for token in range(24)])
by_table = measure_kl(table[test_prompts].log(), trained(test_prompts)).item()
print(f"a table of what follows each token: {by_table:.2f}")

# %% tags=["check"]
assert by_table < found["embedding"][1] < found["embedding"][0] / 4
removed = {name: 1 - tuned_lens / logit_lens for name, (logit_lens, tuned_lens) in found.items()}
assert min(share for name, share in removed.items() if name != "embedding") > 0.9
assert max(found[f"untrained model {seed}"][0] for seed in range(3)) < 0.06

# %% [markdown]
# No better than the table: the lens has *learned* what usually follows, it does not read it. And in
# untrained models, which know nothing, it removes more than 90% of the distance, too. That distance
# is small, 0.06 nats or less, and what random layers still do to the stream is close to a linear
# map. So compare a tuned lens with one on an earlier stream, never with the logit lens alone.
#
# ### Exercise 5.3: train_translator
# Train a translator from streams and logits alone. Part of what decides the logits is not in the
# streams. `minilab grade 05`
#
# ## Claim card

# %%
card = ClaimCard(
    claim="After layer 0 the last name's stream holds the attribute, in a code that layer 1 reads.",
    model="facts, seed 0",
    task=facts.task.description,
    data="all 256 facts, each put into a prompt with two other names and the same relation",
    components="the stream that enters layer 1, at the last name",
    intervention="it replaces that of the target prompt",
    effect=Measurement(
        "the target says the source's attribute", lambda: measure_reading(stranger, 1), low=0.9
    ),
    control=Measurement(
        "the same with the embedding, or with any other person's stream",
        lambda: max(measure_reading(stranger, 0), *others),
        high=0.2,
    ),
    refuted_by="a target that says it as often when the state of another entity, "
    "or of an earlier layer, is put in",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 5.4: find_store
# In which streams of an unknown model of facts does the answer lie, in whichever code? One layer to
# put things into is not enough. `minilab grade 05`
#
# ## On real models
#
# The logit lens was found on GPT-2 and is brittle elsewhere. So the tuned lens was made; it
# predicts better in models of up to 20 billion parameters (Belrose et al.). Facts of GPT-2 XL and
# GPT-J are gathered much as in our toy: early MLPs enrich the last token of the subject, later
# heads fetch the attribute from there ([Geva et al. 2023](https://arxiv.org/abs/2304.14767)).
# Direct attribution has been caught out: in a four-layer model heads write what later heads erase,
# and both get a large push though together they do nothing
# ([Janiak et al. 2023](https://arxiv.org/abs/2310.07325)).
#
# Next: lesson 06, where parts are taken away.
