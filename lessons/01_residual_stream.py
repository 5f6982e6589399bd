# %% [markdown]
# # 1 · The residual stream
#
# After this lesson you can write a transformer, and split any of its predictions into what each of
# its parts wrote.
#
# ## Idea
#
# A **transformer** reads a row of **tokens** (numbers that stand for letters or words). At every
# position it gives each token of its vocabulary a number, the **logit**, for being the next one. A
# softmax turns logits into probabilities.
#
# In between, every position owns one vector of `d_model` numbers: its **residual stream**. Nothing
# in it is ever overwritten. The parts of the model only *read* from it (by a matrix product) and
# *add* to it:
#
# - the **embedding** starts it: one vector for the token, plus one for the position;
# - **attention heads**, in layers, add what they found at other positions;
# - **MLPs**, in layers, too, add what they compute at one position (this toy has none);
# - the **unembedding** `W_U` reads the logits off the final sum.
#
# So the final stream is a sum with one term per **writer**. `W_U` is linear, so the logits are a
# sum of as many terms, and what each writer adds to an answer can be read off exactly. This is
# **direct logit attribution**
# ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)).
#
# We practise on the toy of lesson 00. Its weights were all set by hand. Its prompts repeat a block
# of distinct letters after a start token `|`; to go on as before is called **induction**.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Config, Transformer, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.diagrams import draw_stream

torch.set_grad_enabled(False)  # nothing is trained here
toy = toys.load("induction_by_hand")
batch = toy.task.draw(256, seed=1)
for prompt, answer in zip(batch.clean[:3], batch.answer[:3], strict=True):
    print(toy.task.read(prompt), "->", toy.task.token_names[answer])
draw_stream(toy.model, title="one position: thin arrows read from the stream, thick ones add to it")
plt.show()

# %% [markdown]
# ## Build: one attention head
#
# Heads alone carry information *between* positions. From the stream at each position a head
# computes three short vectors of `d_head` numbers: a **query** (what am I looking for?), a **key**
# (what do I offer?) and a **value** (what do I pass on?).
#
# The **score** of a query for a key is their dot product, divided by a constant: usually the square
# root of `d_head`, in this toy 1. Scores for *later* positions become minus infinity, or the model
# could look at the token that it should predict. This is the **causal mask**. A softmax makes each
# query's scores positive with sum 1: the **attention pattern**, row = query, column = key. The head
# averages the values with these weights, and `W_O` writes the average into the stream.


# %%
def write_head(stream, W_Q, W_K, W_V, W_O, scale):
    """Return what one head adds to the stream (position, d_model) of one prompt."""
    q, k, v = stream @ W_Q, stream @ W_K, stream @ W_V  # each (position, d_head)
    scores = q @ k.T / scale  # row = query, column = key
    future = torch.ones_like(scores).triu(1).bool()
    pattern = scores.masked_fill(future, float("-inf")).softmax(dim=-1)  # each row sums to 1
    return pattern @ v @ W_O  # (position, d_model)


# %% [markdown]
# ### Exercise 1.1: attention_pattern
# Write the pattern for all prompts and all heads at once, without a loop. Your stubs are in
# `exercises/ex01_residual_stream.py`, in the folder that `minilab init` made; `minilab grade 01`
# checks them, `minilab hint 01` helps.
#
# ## Build: the whole model
#
# Keep what every writer adds under its label. The stream is the sum so far. That is a complete
# transformer, with the same numbers as the package's own run: `run_with_cache` returns the logits,
# and a **cache** of what was computed on the way. It takes a batch of prompts.


# %%
def collect_writers(model, tokens, silent=()):
    """Return what each writer adds to one prompt's stream; those in `silent` add nothing."""
    written = {"embed": model.W_E[tokens], "pos_embed": model.W_pos[: len(tokens)]}
    for layer in range(model.config.n_layers):
        stream = sum(written.values())  # all heads of a layer read the same stream
        for head in range(model.config.n_heads):
            weights = [W[layer, head] for W in (model.W_Q, model.W_K, model.W_V, model.W_O)]
            label = f"a{layer}.h{head}"
            wrote = write_head(stream, *weights, model.config.attn_scale)
            written[label] = torch.zeros_like(wrote) if label in silent else wrote
    return written


prompt = batch.clean[0]
logits = sum(collect_writers(toy.model, prompt).values()) @ toy.model.W_U
theirs, cache = toy.model.run_with_cache(prompt.unsqueeze(0))
print("largest difference between our logits and the package's:", (logits - theirs[0]).abs().max())
# The axes of layer 0's pattern are batch, head, query, key.
print("one pattern per prompt and head:", tuple(cache["pattern", 0].shape))

# %% tags=["check"]
# The same in a random model of other sizes, writer by writer.
random_model = Transformer(Config(d_vocab=16, n_ctx=16, d_model=20, n_layers=3, n_heads=5), seed=0)
for model in (random_model, toy.model):
    written = collect_writers(model, prompt)
    theirs, their_cache = model.run_with_cache(prompt.unsqueeze(0))
    torch.testing.assert_close(sum(written.values()) @ model.W_U, theirs[0])
    for label, part in model.decompose(their_cache).items():
        torch.testing.assert_close(written[label], part[0])

# %% [markdown]
# ### Exercise 1.2: run_transformer
# Write the forward pass from a dict of weights, for whole batches, with an MLP in every layer: two
# matrices with a ReLU in between. `minilab grade 01`
#
# ## Predict
#
# In lesson 00 every answer was wrong without `a0.h0`, and without `a1.h0`. Which share of the
# answer's logit does each of these two write? Commit before you run on.

# %%
my_shares = {"a0.h0": 0.5, "a1.h0": 0.5}  # your guesses, 0 to 1

# %% [markdown]
# ## Look
#
# Split the logits at the last position: one row per writer, one column per token. On the left,
# expect strong cells only in the column of the answer. The row under the line, the model's own
# logits, is the sum of the rows above it.
#
# On the right is a **control**: an untrained model of the same shape. If one cell stood out there
# too, the picture would tell us about the method and not about the toy. Expect colour everywhere,
# on a much smaller scale.


# %%
def split_logits(model, tokens):
    """Split the logits at the last position into one row per writer."""
    return {label: part[-1] @ model.W_U for label, part in collect_writers(model, tokens).items()}


untrained = Transformer(toy.model.config, seed=0)
fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True, layout="constrained")
names = toy.task.token_names
models = {"set by hand": toy.model, "control: untrained": untrained}
for ax, (title, model) in zip(axes, models.items(), strict=True):
    rows = split_logits(model, prompt)
    rows["sum = logits"] = sum(rows.values())
    picture = torch.stack(list(rows.values()))
    title = f"{title}: right answer {names[batch.answer[0]]}, darkest is {picture.abs().max():.2f}"
    plots.draw_matrix(picture, list(rows), names, ax, title)
    ax.axhline(len(rows) - 1.5, color="black")
axes[0].set_ylabel("writer")
fig.supxlabel("adds to the logit of this token (blue) or takes from it (orange)", fontsize=10)
plt.show()

# %%
rows = split_logits(toy.model, prompt)
wrote = {label: row[batch.answer[0]] for label, row in rows.items()}
answer_logit = sum(wrote.values())
for label, guess in my_shares.items():
    print(
        f"{label} wrote {wrote[label] / answer_logit:.0%} of the answer's logit (you: {guess:.0%})"
    )

# %% tags=["check"]
assert wrote["a1.h0"] / answer_logit > 0.999
assert wrote["a0.h0"] == 0
assert max(row.abs().max() for row in split_logits(untrained, prompt).values()) < 1

# %% [markdown]
# One head wrote all of it. And where did *that head* get it? What a head writes is again a sum,
# over the positions that it attends to.
#
# ### Exercise 1.3: split_head_by_source
# Split what one head adds to the logits by the position that it read. (A model may have more or
# fewer logits than tokens to read: `W_U` has a column for each.) `minilab grade 01`
#
# ## Control
#
# One prompt is an anecdote, and a logit alone means little: 5 added to *all* of them changes no
# probability. So look at many prompts, and compare the answer with one wrong token, `batch.wrong`:
# here a letter that the prompt does not hold. The **logit difference** is the logit of the answer
# minus that of the wrong token. A writer's **push** is what it adds to this difference. The
# control: five untrained models.


# %%
def measure_pushes(model):
    """Measure each writer's push at the last position, one number per prompt."""
    splits = [split_logits(model, tokens) for tokens in batch.clean]
    row = torch.arange(len(splits))
    # One tensor (prompt, token) per writer.
    logits = {label: torch.stack([split[label] for split in splits]) for label in splits[0]}
    return {
        label: part[row, batch.answer] - part[row, batch.wrong] for label, part in logits.items()
    }


pushes = measure_pushes(toy.model)
untrained_pushes = [measure_pushes(Transformer(toy.model.config, seed=seed)) for seed in range(5)]
print("          mean push | in untrained models: share of prompts with a push above 0")
for label in pushes:
    share_above_zero = [(each[label] > 0).float().mean().item() for each in untrained_pushes]
    spread = f"{min(share_above_zero):.0%} to {max(share_above_zero):.0%}"
    print(f"{label:10}{pushes[label].mean():9.2f} | {spread}")

# %% tags=["check"]
torch.testing.assert_close((logits + 5).softmax(-1), logits.softmax(-1))
assert not (batch.clean == batch.wrong.unsqueeze(1)).any()
assert ((pushes["a1.h0"] - 20).abs() < 0.01).all()
for each in untrained_pushes:
    assert all(0.4 < (push > 0).float().mean() < 0.6 for push in each.values())

# %% [markdown]
# `a1.h0` pushes by 20 towards the right answer on every prompt. Each writer of the untrained models
# pushes towards the answer in about half of the prompts.
#
# ## What attribution does not see
#
# `a0.h0` has no push, and yet the toy cannot do without it. Take writers away in two ways: an
# *unread* one is left out of the sum that the unembedding reads, but later heads still read it; a
# *silent* one adds nothing at all.


# %%
def measure_accuracy(silent=(), unread=()):
    """Measure the share of right answers without some writers. A tie counts as wrong."""
    logits = torch.zeros(*batch.clean.shape, toy.model.config.d_vocab)
    for i, tokens in enumerate(batch.clean):
        written = collect_writers(toy.model, tokens, silent)
        read = sum(part for label, part in written.items() if label not in unread)
        logits[i] = read @ toy.model.W_U
    return batch.correct(logits).float().mean().item()


for label in ("a0.h0", "a0.h1", "a1.h0", "a1.h1"):
    unread = measure_accuracy(unread=(label,))
    silent = measure_accuracy(silent=(label,))
    print(f"{label} unread: {unread:.0%} right, silent: {silent:.0%} right")

# %% tags=["check"]
assert measure_accuracy(unread=("a0.h0",)) == 1
assert measure_accuracy(silent=("a0.h0",)) == 0
for tokens, answer in zip(batch.clean, batch.answer, strict=True):
    logits = sum(collect_writers(toy.model, tokens, ["a0.h0"]).values())[-1] @ toy.model.W_U
    torch.testing.assert_close(logits, 20 / 16 * tokens.bincount(minlength=16))
    assert logits.max() == 2 * logits[answer]

# %% [markdown]
# Unread, `a0.h0` is not missed. Silence it, and every answer is wrong: it writes nothing for the
# unembedding, but something that `a1.h0` reads. Attribution shows only the last step.
#
# Why is *every* answer wrong? Without `a0.h0`, `a1.h0` looks evenly at all 16 positions, and each
# letter gets 20 / 16 = 1.25 for each time that it stands there. The answer stands there once, and
# at least one wrong letter twice. Without `a1.h0` all logits are 0, and a tie counts as wrong.
#
# ## Claim card
#
# A claim ends as a card, with a control and with what would refute it. `low` and `high` are the
# bounds within which it holds; `check` runs the experiment again.

# %%
others = ("embed", "pos_embed", "a0.h0", "a0.h1", "a1.h1")
card = ClaimCard(
    claim="The unembedding reads the answer from what a1.h0 wrote, and from nothing else.",
    model="induction_by_hand, 2 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts, seed 1",
    components="a1.h0",
    intervention="the unembedding reads only some of the writers",
    effect=Measurement(
        "accuracy when a1.h0 is all it reads", lambda: measure_accuracy(unread=others), low=0.99
    ),
    control=Measurement(
        "accuracy when a1.h0 is all it misses",
        lambda: measure_accuracy(unread=("a1.h0",)),
        high=0.01,
    ),
    refuted_by="wrong answers from a1.h0 by itself, or right answers from the five others together",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 1.4: find_deciders
# In a model that you have never seen, which writers push the answer, and which push against it? A
# writer with large logits need not push either way; one prompt can mislead. `minilab grade 01`
#
# ## On real models
#
# Attribution is often the first step. In GPT-2 small it led to the heads that write "Mary" after
# "When Mary and John went to the store, John gave a drink to", and to heads that write *against* it
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Three things are harder there. Real models
# divide the stream by its size before it is read (a **norm**): the split is exact only if you treat
# this size as a constant. A later part can *erase* what an earlier one wrote: two large numbers
# that cancel ([Janiak et al. 2023](https://arxiv.org/abs/2310.07325), in a model of four layers).
# And when a part with a large number is taken away, later ones may step in
# ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771); lesson 06).
#
# Next: lesson 02, where hooks let you look into a forward pass that is not your own, and change it.
