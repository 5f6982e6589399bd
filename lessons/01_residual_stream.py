# %% [markdown]
# # 1 · The residual stream
#
# After this lesson you can write a transformer, and split any of its predictions into what each of
# its parts wrote.
#
# ## Idea
#
# A **transformer** reads a row of **tokens** (numbers that stand for letters or words). At every
# position it gives each token of its vocabulary a score, the **logit**, for being the next one. A
# softmax turns logits into probabilities.
#
# In between, every position owns one vector of `d_model` numbers: its **residual stream**. Nothing
# in it is ever overwritten. The parts of the model only *read* from it (by a matrix product) and
# *add* to it:
#
# - the **embedding** starts it: one vector for the token, plus one for the position;
# - **attention heads**, in layers, add what they found at other positions;
# - the **unembedding** `W_U` reads the logits off the final sum.
#
# So the final stream is a sum with one term per **writer**. `W_U` is linear, so the logits are a
# sum with the same terms, and how much each writer adds to an answer can be read off exactly. This
# is **direct logit attribution**. (The view is that of
# [Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html).)
#
# We practise on a toy whose weights were all set by hand. Its prompts repeat a block of distinct
# letters after a start token `|`; it says which letter comes next. To continue a repetition like
# this is called **induction**.

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
# Heads are the only parts that carry information *between* positions. From the stream at each
# position a head computes three short vectors of `d_head` numbers: a **query** (what am I looking
# for?), a **key** (what do I offer?) and a **value** (what do I pass on?).
#
# The **score** of a query for a key is their dot product, divided by a constant (usually the square
# root of `d_head`). Scores for *later* positions become minus infinity, or the model could look at
# the token that it should predict. This is the **causal mask**. A softmax makes each query's scores
# positive with sum 1: the **attention pattern**, row = query, column = key. The head takes the
# average of the values with these weights, and `W_O` writes it into the stream.


# %%
def write_head(stream, W_Q, W_K, W_V, W_O, scale):
    """Return what one head adds to the stream (t, d) of one prompt."""
    q, k, v = stream @ W_Q, stream @ W_K, stream @ W_V  # t h
    scores = q @ k.T / scale  # row = query, column = key
    future = torch.ones_like(scores).triu(1).bool()
    pattern = scores.masked_fill(future, float("-inf")).softmax(dim=-1)  # each row sums to 1
    return pattern @ v @ W_O  # t d


# %% [markdown]
# ### Exercise 1.1: attention_pattern
# Write the pattern for all prompts and all heads at once, without a loop. Stubs are in
# `exercises/ex01_residual_stream.py`; `minilab grade 01` checks them, `minilab hint 01` helps.
#
# ## Build: the whole model
#
# Keep what every writer adds under its label; `a1.h0` is head 0 of layer 1, both counted from 0.
# The stream is the sum so far. That is a complete transformer, and its numbers are those of the
# package's. `run_with_cache` is the package's own run: it returns the logits, and a **cache** of
# all that was computed on the way. It takes whole batches, so the prompt gets a batch axis.


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
            written[label] = wrote * (label not in silent)
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
# Write the forward pass from a dict of weights, for whole batches, with one more writer in every
# layer: an **MLP**, two matrices with a ReLU in between, which works at each position by itself.
# `minilab grade 01`
#
# ## Predict
#
# The toy has six writers: `embed`, `pos_embed`, and two heads in each of two layers. Two facts: at
# every position but the first, `a0.h0` *and* `a0.h1` put more than 99% of their attention on the
# previous token; and the toy answers every prompt correctly.
#
# Which of the six writes the answer, and which share of its logit does it write? Commit before you
# run on.

# %%
my_writer = "a0.h0"  # your guess
my_share = 0.5  # your guess, 0 to 1

# %% tags=["check"]
_, cache = toy.model.run_with_cache(batch.clean)
attention = cache["pattern", 0].diagonal(offset=-1, dim1=-2, dim2=-1)
assert attention.min() > 0.99  # both heads of layer 0, all prompts, all positions but the first
assert batch.accuracy(toy.model) == 1.0

# %% [markdown]
# ## Look
#
# Split the logits at the last position: one row per writer, one column per token. Expect *one*
# strong cell on the left, in the column of the answer. The row under the line, the model's own
# logits, is the sum of the rows above it.
#
# On the right is a **control**: an untrained model of the same shape, the same prompt. If one cell
# stood out there too, the picture would tell us about the method and not about the toy. Expect
# colour everywhere, on a much smaller scale.


# %%
def split_logits(model, tokens):
    """Split the logits at the last position into one row per writer."""
    return {label: part[-1] @ model.W_U for label, part in collect_writers(model, tokens).items()}


untrained = Transformer(toy.model.config, seed=0)
fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True, layout="constrained")
names = toy.task.token_names
for ax, model, title in zip(
    axes, (toy.model, untrained), ("set by hand", "control: untrained"), strict=True
):
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
share = rows["a1.h0"][batch.answer[0]] / sum(rows.values())[batch.answer[0]]
print(f"a1.h0 wrote {share:.0%} of the answer's logit; you said {my_writer}, {my_share:.0%}")
to_answer = {label: row[batch.answer[0]].item() for label, row in rows.items()}
draw_stream(toy.model, to_answer, title="what each writer adds to the logit of the answer")
plt.show()

# %% tags=["check"]
assert share > 0.999
assert max(row.abs().max() for row in split_logits(untrained, prompt).values()) < 1

# %% [markdown]
# One head wrote all of it. And where did *that head* get it? What a head writes is again a sum,
# over the positions that it attends to: the same question, one step further back.
#
# ### Exercise 1.3: split_head_by_source
# Split what one head adds to the logits by the position that it read. (A model may answer with
# other tokens than it reads; `W_U` has a column for each answer.) `minilab grade 01`
#
# ## Control
#
# One prompt is an anecdote, and a logit alone means little: 5 added to *all* of them changes no
# probability. So look at many prompts, and compare the answer with one wrong token: the **logit
# difference** is the logit of the answer minus that of the wrong token. A writer's **push** is what
# it adds to this difference. Controls: the answer of another prompt, and five untrained models.


# %%
def measure_pushes(model, answer):
    """Measure what each writer adds to logit(answer) - logit(wrong) at the last position.

    There is one number for each of the 256 prompts.
    """
    splits = [split_logits(model, tokens) for tokens in batch.clean]
    row = torch.arange(len(splits))
    # One tensor (256, v) per writer.
    logits = {label: torch.stack([split[label] for split in splits]) for label in splits[0]}
    return {label: part[row, answer] - part[row, batch.wrong] for label, part in logits.items()}


pushes = measure_pushes(toy.model, batch.answer)
other = measure_pushes(toy.model, batch.answer.roll(1))  # the next prompt's answer
untrained_models = [Transformer(toy.model.config, seed=seed) for seed in range(5)]
chance = [measure_pushes(model, batch.answer) for model in untrained_models]
print(f"{'':10}{'push':>8}{'to another answer':>20}{'untrained, for the answer':>28}")
for label in pushes:
    for_answer = [(each[label] > 0).float().mean().item() for each in chance]
    spread = f"{min(for_answer):.0%} to {max(for_answer):.0%}"
    print(f"{label:10}{pushes[label].mean():8.2f}{other[label].mean():20.2f}{spread:>28}")

# %% tags=["check"]
torch.testing.assert_close((logits + 5).softmax(-1), logits.softmax(-1))
assert ((pushes["a1.h0"] - 20).abs() < 0.01).all()
assert other["a1.h0"].mean() < 2  # above 0, since it is the same letter now and then
assert all(0.4 < (push > 0).float().mean() < 0.6 for each in chance for push in each.values())

# %% [markdown]
# `a1.h0` pushes by 20 towards the right answer on every prompt, and on average by less than 2
# towards that of another prompt. Each writer of the untrained models is for the answer in 40% to
# 60% of the prompts: a coin.
#
# ## What attribution does not see
#
# `a0.h0` has no push. Can the toy do without it? Two ways of taking a writer away: *unread*, it is
# left out of the sum that the unembedding reads, but later heads still read it; *silent*, it adds
# nothing at all.


# %%
def measure_accuracy(silent=(), unread=()):
    """Measure the share of right answers without some writers.

    `silent` writers add nothing; `unread` ones are left out of the sum that the unembedding reads.
    """
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

# %% [markdown]
# Unread, `a0.h0` is not missed; silent, it takes every answer with it. It writes nothing for the
# unembedding but something that `a1.h0` reads: attribution shows only the last step. What `a0.h0`
# writes, you will set yourself in lesson 03.
#
# ## Claim card
#
# A claim ends as a card: narrow, with a control and with what would refute it. `check` runs the
# experiment again.

# %%
others = ("embed", "pos_embed", "a0.h0", "a0.h1", "a1.h1")
card = ClaimCard(
    claim="The unembedding reads the answer from what a1.h0 wrote, and from nothing else.",
    model="induction_by_hand, 2 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts, seed 1",
    components="a1.h0",
    intervention="the unembedding reads only some of the writers; "
    "the rest of the model runs as it is",
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
# In a model that you have never seen, which writers push the answer, and which push against it? Not
# every loud writer does, and one prompt can mislead. `minilab grade 01`
#
# ## On real models
#
# Attribution is often the first step. In GPT-2 small it led to the heads that write the right name
# after "John gave a drink to", and to heads that write *against* it
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Three things are harder there. A **norm**
# divides the stream by its size before it is read: the split is exact only with that number held
# fixed. A later part can *erase* what an earlier one wrote: two large numbers that cancel
# ([Janiak et al. 2023](https://arxiv.org/abs/2310.07325), in a model of four layers). And when a
# part with a large number is taken away, later ones may step in
# ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771); lesson 06).
#
# Next: lesson 02, where hooks let you look into a forward pass that is not your own, and change it.
