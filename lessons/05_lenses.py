# %% [markdown]
# # 5 · Lenses
#
# After this lesson you can read an answer off the stream half-way, in four ways, and say what each
# of them misses.
#
# ## Idea
#
# Every part of a transformer adds to one stream, and the unembedding reads its end. But `W_U` fits
# a stream from anywhere, so one can ask early: what would the model say if it had to stop *here*?
# That is the **logit lens**
# ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)). It sees what already
# stands in the output's own directions. Where something stands in another code, one can learn to
# translate it (the **tuned lens**), or put it into another prompt and let the model itself read it
# (the **patchscope**).
#
# Our toy knows 256 facts, such as *Ben Bird lives in Kyoto*. Either name alone says nothing: no two
# people called Ben live in the same place. It has two layers of eight heads; only layer 0 has an
# MLP that does anything. Each head is made to see two positions only, its own and the one before,
# so that there are few ways through the model. Without that MLP (`m0`) the facts are lost.
#
# `everything()` puts each fact beside seven others, in which only the first name differs. `answer`
# is the right token, `wrong` the answer to the other fact; the **logit difference** is the logit of
# the one minus that of the other, the "lead" of lesson 01.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Config, Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement

facts = toys.load("facts")
model = facts.model.requires_grad_(False)
batch = facts.task.everything()
print(facts.task.read(batch.clean[259]), "->", facts.task.token_names[batch.answer[259]])
without = batch.correct(methods.ablate(model, batch.clean, ["m0"], "zero")).float().mean().item()
print(f"right answers: {batch.accuracy(model):.0%}, without m0: {without:.0%}")

# %% tags=["check"]
assert facts.task.token_names[batch.answer[259]] == "Kyoto"
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
# Most models divide the last stream by its size before the unembedding: an **RMSNorm** by the root
# of its mean square, the **scale**, and then multiply each dimension by a weight, the **gain**.
# That is not linear, but it is once the scale is held at what it was in this run. Then the pushes
# add up again. This is **direct logit attribution**, the package's `methods.attribute_logits`.


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
print(
    f"m0 pushes {abs(pushes['m0']):.2f} (you: {my_push}); "
    f"the eight heads of layer 1 together {heads:.1f}"
)

# %% tags=["check"]
assert abs(pushes["m0"]) < 0.01
assert round(heads, 1) == 13.2

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
# Nothing: `m0` acts through the heads that read it, and attribution sees the last step only.
# Through a norm it misses one thing more: a writer in a direction that nobody reads makes the
# stream longer, so every other push smaller.

# %%
reads = torch.tensor([1.0, 0.0])
useful = torch.tensor([2.0, 0.0])
bystander = torch.tensor([0.0, 2.0])
lead = {
    name: (x / x.square().mean().sqrt()) @ reads
    for name, x in (("both", useful + bystander), ("one", useful))
}
print(
    f"the bystander pushes {bystander @ reads:.0f}, but with it the lead is {lead['both']:.2f}, ",
    end="",
)
print(f"and without it {lead['one']:.2f}")

# %% tags=["check"]
assert bystander @ reads == 0
assert (round(lead["both"].item(), 2), round(lead["one"].item(), 2)) == (1.0, 1.41)

# %% [markdown]
# ### Exercise 5.1: head_pushes
# Attribution to heads through a **LayerNorm**, which first subtracts the mean of the stream's
# numbers. Stubs are in `exercises/ex05_lenses.py`; `minilab grade 05` checks them,
# `minilab hint 05` helps.
#
# ## Build: the logit lens
#
# Stream l is what enters layer l; the last leaves the last layer. `model(tokens, stop_at_layer=l)`
# runs up to there and returns the stream. Each is read with the final norm on its *own* scale.


# %%
def apply_logit_lens(model, tokens):
    """Read logits off every stream, (stream, b, t, v)."""
    layers = range(model.config.n_layers + 1)
    return torch.stack([model.unembed(model(tokens, stop_at_layer=layer)) for layer in layers])


# %% tags=["check"]
for each in (model, normed):
    lens = apply_logit_lens(each, batch.clean)
    theirs = methods.apply_logit_lens(each, batch.clean)
    between = 2 if each.config.d_mlp else 1  # the package also reads between attention and MLP
    torch.testing.assert_close(lens, theirs[::between], rtol=1e-3, atol=1e-3)

# %% [markdown]
# ### Exercise 5.2: settling_layers
# When does the lens settle? Find the first stream such that the lens says the answer there and in
# all later streams. `minilab grade 05`
#
# ## Build: the patchscope
#
# Take the stream of one prompt (the source) and put it into another prompt (the target), with one
# hook; the target's logits are the reading
# ([Ghandeharioun et al. 2024](https://arxiv.org/abs/2401.06102)). Here it goes into the same layer
# and position, which need not be. The target is a **stranger**: another first name, another last
# name, the same relation.


# %%
def apply_patchscope(source, target, layer, position):
    """Return the target's last logits, with one stream taken from the source."""
    state = model(source, stop_at_layer=layer)[:, position]
    site = ("resid_pre", layer) if layer < model.config.n_layers else ("resid_post", -1)

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
# is put into it; with nothing put in, it is right 1 time in 8 by accident. Each cell is a share of
# the 256 facts. `m0` at the last name is the only place where both names meet. Expect the right
# side to find the answer there, in stream 1, and at the relation only after layer 1 has fetched it.
# And the left: does it show the answer where it is stored?

# %%
my_lens = 0.5  # your guess: how often does the lens say the answer at the last name, in stream 1?

# %%
lens = apply_logit_lens(model, source)
shares = {"the logit lens says it": (lens.argmax(dim=-1) == answer[:, None]).float().mean(dim=1)}
said = [
    [apply_patchscope(source, stranger, layer, t).argmax(dim=-1) for t in range(3)]
    for layer in range(3)
]
scope = torch.stack([torch.stack(row) for row in said]) == answer
shares["put in, a stranger says it"] = scope.float().mean(dim=2)
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
print(
    f"last name, stream 1: the lens is right {seen:.0%} (you: {my_lens:.0%}), "
    f"and ranks the answer {rank:.0f} of 52"
)

# %% tags=["check"]
assert seen < 0.1
assert round(rank.item()) == 22
assert scope[1, 1].float().mean() > 0.9
assert scope[2, 2].all()
assert (model(stranger)[:, -1].argmax(dim=-1) == answer).float().mean() == 1 / 8

# %% [markdown]
# The answer is there, in a code that layer 1 reads and the unembedding does not: rank 22 is not far
# from chance, 26. "The lens shows nothing" is not "nothing is there". Neither is a patchscope's 0:
# at the last name the end of the stream was put in where no layer was left to read it. Another
# layer might.
#
# ## Control: who said it?
#
# Put in the last name from stream 0, before anything was computed. If the stranger shares the
# source's *first* name:

# %%
cousin = torch.cat([source[:, :1], stranger[:, 1:]], dim=1)  # the source's first name


def measure_reading(target, layer, source=source):
    """Measure how often a target says the answer when the last name's stream is put in."""
    says = apply_patchscope(source, target, layer, 1).argmax(dim=-1)
    return (says == answer).float().mean().item()


readings = {
    "a stranger, stream 1": measure_reading(stranger, 1),
    "a stranger, stream 0": measure_reading(stranger, 0),
    "shares the first name, stream 0": measure_reading(cousin, 0),
}
print(*(f"{name:36}{share:.0%}" for name, share in readings.items()), sep="\n")
# Stream 1 of another person; each person has four rows, one per relation.
others = [measure_reading(stranger, 1, source.roll(4 * k, dims=0)) for k in range(1, 64)]
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
# 100% from a stream that knows one name: the target supplied the other. A patchscope reads from its
# own prompt, too. Choose targets that cannot know, and always put in other people's states as well:
# with all 63 of them it is 11% on average and 19% at most, near the guess.
#
# ## Build: the tuned lens
#
# A **translator** `x + x A + b` is trained so that the lens says what the model says in the end
# ([Belrose et al. 2023](https://arxiv.org/abs/2303.08112)). How far two distributions are apart is
# measured by the **KL divergence**, sum of p (log p - log q), in nats; 0 means equal. We train
# lenses on a small language model of reviews, which has something to say after every token.
# `("resid_mid", 0)` is the stream between attention 0 and MLP 0.


# %%
def measure_kl(read, logits):
    p, q = logits.log_softmax(dim=-1), read.log_softmax(dim=-1)
    return (p.exp() * (p - q)).sum(dim=-1).mean()


def train_lens(model, streams, logits, steps=200):
    A, b = torch.zeros(64, 64, requires_grad=True), torch.zeros(64, requires_grad=True)
    optimizer = torch.optim.Adam([A, b], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        measure_kl(model.unembed(streams + streams @ A + b), logits).backward()
        optimizer.step()
    return A.detach(), b.detach()


reviews = toys.load("style_grammar")
trained = reviews.model.requires_grad_(False)
old, new = (reviews.task.draw(128, seed=seed).clean for seed in (1, 2))


def measure_lenses(model, site):
    """Measure the KL to the model's answers on fresh prompts: logit lens, tuned lens."""
    logits, cache = model.run_with_cache(old)
    A, b = train_lens(model, cache[site], logits)
    logits, cache = model.run_with_cache(new)
    return [
        measure_kl(model.unembed(x), logits).item()
        for x in (cache[site], cache[site] + cache[site] @ A + b)
    ]


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
package = methods.fit_tuned_lens(trained, old, steps=200)
theirs = methods.measure_divergence(methods.apply_tuned_lens(trained, new, package))
assert abs(theirs[1].item() - found["after attention 0"][1]) < 0.05  # it trains on random rows

# %% [markdown]
# ## A trap: a lens that knows more than the stream
#
# After attention 0 the tuned lens is nearly perfect. But look at the embedding: *no layer has run*,
# and still the tuned lens is four times closer than the logit lens. Is the answer in the embedding?
# Compare a table which gives, for each token, the model's average distribution after it.

# %%
after = trained(old).softmax(dim=-1)
table = torch.stack([after[old == token].mean(dim=0) for token in range(24)])
by_table = measure_kl(table[new].log(), trained(new)).item()
print(
    f"a table of what follows each token: {by_table:.2f}, "
    f"tuned lens on the embedding: {found['embedding'][1]:.2f}"
)
copier = toys.load("induction").model
repeats = toys.load("induction").task.draw(128, seed=1).clean
# Even on the prompts that it was trained on:
lens = methods.fit_tuned_lens(copier, repeats, steps=100)
left = methods.measure_divergence(methods.apply_tuned_lens(copier, repeats, lens))[1]
print(f"induction, after layer 0: tuned lens {left:.1f}")

# %% tags=["check"]
assert by_table < found["embedding"][1] < found["embedding"][0] / 4
removed = {name: 1 - tuned_lens / logit_lens for name, (logit_lens, tuned_lens) in found.items()}
assert min(share for name, share in removed.items() if name != "embedding") > 0.9
assert left > 2

# %% [markdown]
# No better than the table: the lens has *learned* what usually follows, it does not read it. And in
# untrained models, which know nothing, it removes more than 90% of the distance, too. So compare
# a tuned lens with one on an earlier stream, and never with the logit lens alone. What attention
# has yet to fetch from another position no translator finds: in the trained `induction`, after
# layer 0, the tuned lens stays more than 2 nats away.
#
# ### Exercise 5.3: train_translator
# Train a translator for streams that tell only half of what the model will say. `minilab grade 05`
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
        "the same with the embedding", lambda: measure_reading(stranger, 0), high=0.2
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
# A model of facts that you have never seen, with more layers: in which streams does the answer lie,
# in whichever code? One layer to put things into is not enough. `minilab grade 05`
#
# ## On real models
#
# The logit lens was found on GPT-2. It is brittle elsewhere: the tuned lens was made because of
# that, and predicts better in models of up to 20 billion parameters
# ([Belrose et al. 2023](https://arxiv.org/abs/2303.08112)). Facts of GPT-2 XL and GPT-J are
# gathered much as in our toy: early MLPs enrich the last token of the subject, later heads fetch
# the attribute from there ([Geva et al. 2023](https://arxiv.org/abs/2304.14767)). Direct
# attribution has been caught out: in a four-layer model heads write what later heads erase, and
# both get a large push though together they do nothing
# ([Janiak et al. 2023](https://arxiv.org/abs/2310.07325)).
#
# Next: lesson 06, where parts are taken away.
