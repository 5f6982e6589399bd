# %% [markdown]
# # 3 · An induction head by hand
#
# After this lesson you can set a two-layer circuit weight by weight, and show which of its
# connections carry the answer.
#
# ## Idea
#
# The toy of lesson 01 reads `| m c d n o e k l i m c d n o e` and says `k`, because `k` followed
# the first `e`. The next prompt holds another block, so no table of pairs can know this: the model
# must look it up *in the prompt*. How?
#
# One head is not enough. Its query can say "I am an `e`" and find the first `e`; but the answer
# stands one position later, where nothing says `e`. So two heads share the work:
#
# 1. The **previous-token head** (`a0.h0`, layer 0) attends one position back and writes which token
#    stands there.
# 2. The **matching head** (`a1.h0`, layer 1) attends to the position that says "before me stands
#    `e`", and copies the token from there.
#
# Together they are a **circuit**. The second head is called an **induction head**
# ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)). Its keys read
# what the first head wrote: this is **K-composition**.
#
# To set the weights by hand, give each piece of information its own coordinates of the residual
# stream, and its name:

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Config, Transformer, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.edges import mask_of, run_edges, write_outputs
from mini_transformer.plots import plot_attention, plot_curves

toy = toys.load("induction_by_hand")
batch = toy.task.draw(256, seed=0)
print(toy.task.read(batch.clean[0]), "->", toy.task.token_names[batch.answer[0]])

n_tokens, n_ctx, d_model = 16, 24, 88
token, position, previous, following, spare = torch.arange(d_model).split([16, 24, 16, 16, 16])
print("coordinate", token[3].item(), "of the stream: 'here stands token 3'")
print("coordinate", previous[3].item(), "of the stream: 'before me stands token 3'")

# %% tags=["check"]
assert toy.task.read(batch.clean[0]) == "| m c d n o e k l i m c d n o e"
assert toy.task.token_names[batch.answer[0]] == "k"

# %% [markdown]
# `token` and `position` are filled by the embedding, `previous` by the first head, `following` by
# the second, and the unembedding reads `following`. Nobody uses `spare` yet.
#
# ## Predict
#
# A head chooses by scores, and a softmax turns them into attention. Say the right key has score `s`
# and 15 others have 0. How much attention does the right key get when `s` is 2? And which `s` gives
# it 99%? Write down two numbers.

# %%
my_attention = 0.5  # your guess for s = 2
my_strength = 3.0  # your guess for 99%

# %%
at_2 = torch.tensor([2.0] + [0.0] * 15).softmax(dim=0)[0].item()  # e^2 / (e^2 + 15)
needed = torch.tensor(0.99 / 0.01 * 15).log().item()  # solve e^s / (e^s + 15) = .99
print(
    f"s = 2 gives {at_2:.0%} (you: {my_attention:.0%}); "
    f"99% needs s = {needed:.1f} (you: {my_strength})"
)

# %% tags=["check"]
assert round(at_2, 2) == 0.33
assert round(needed, 1) == 7.3

# %% [markdown]
# Only a third, since the others are many; but the exponential soon wins. We shall use a
# **strength** of 20.
#
# ## Build: the previous-token head
#
# A score is the dot product of query and key, a sum over the head's own dimensions. Reserve
# dimension `i - 1` of the head for one pair of positions: the query at `i` and the key at `i - 1`.
# What moves then is a matter of `W_V` and `W_O`.


# %%
def set_previous_token_head(attn, strength, head=0):
    for i in range(1, n_ctx):
        attn.W_Q[head, position[i], i - 1] = strength  # a query at i looks for i - 1 ...
        attn.W_K[head, position[i - 1], i - 1] = 1.0  # ... and the key at i - 1 answers
    for t in range(n_tokens):
        attn.W_V[head, token[t], t] = 1.0  # the token that stands there ...
        attn.W_O[head, t, previous[t]] = 1.0  # ... becomes "before me stands t"


# Scores are divided by 1.
config = Config(n_tokens, n_ctx, d_model, n_layers=2, n_heads=2, d_head=24, attn_scale=1.0)
model = Transformer(config).requires_grad_(False)  # no gradients, so that weights can be set
for weight in model.parameters():
    weight.zero_()
set_previous_token_head(model.blocks[0].attn, strength=20.0)

# %% tags=["check"]
for name in ("W_Q", "W_K", "W_V", "W_O"):  # [layer, head]
    assert torch.equal(getattr(model, name)[0, 0], getattr(toy.model, name)[0, 0])

# %% [markdown]
# The same weights as the package's. Here every direction was an axis, one coordinate each. In
# trained models directions point anywhere, and weights are **dense**: hardly an entry is 0. So the
# exercises give you rows of numbers instead: all that you need is that they are orthogonal.
#
# ### Exercise 3.1: previous_token_qk
# Set `W_Q` and `W_K` for positions along any directions, any strength and any scale.
# `minilab grade 03`
#
# ### Exercise 3.2: copy_ov
# Set `W_V` and `W_O` that read along some directions and write along others. `minilab grade 03`
#
# ## Build: the matching head
#
# Its query reads `token`, its key reads `previous`, and where the two agree the score is 20. No
# weight mentions the other head: the two meet only because one reads the coordinates that the other
# writes.


# %%
def set_matching_head(attn, strength, head=0):
    for t in range(n_tokens):
        attn.W_Q[head, token[t], t] = strength  # "I am t": a query looks for ...
        attn.W_K[head, previous[t], t] = 1.0  # ... keys that say "before me stands t"
        attn.W_V[head, token[t], t] = 1.0  # the token that stands there ...
        attn.W_O[head, t, following[t]] = 1.0  # ... becomes "next comes t"


def set_ends(model):
    model.W_E[range(n_tokens), token] = 1.0
    model.W_pos[range(n_ctx), position] = 1.0
    model.W_U[following, range(n_tokens)] = 20.0


set_matching_head(model.blocks[1].attn, strength=20.0)
set_ends(model)

# %% tags=["check"]
for name in ("W_Q", "W_K", "W_V", "W_O"):
    assert torch.equal(getattr(model, name)[1, 0], getattr(toy.model, name)[1, 0])
for name in ("W_E", "W_pos", "W_U"):
    assert torch.equal(getattr(model, name), getattr(toy.model, name))

# %% [markdown]
# ### Exercise 3.3: match_qk
# A first head is given, with dense weights. Set `W_Q` and `W_K` of a second one that matches what
# it writes. For a token that it attends to, that is `W_E @ W_V @ W_O`, provided that its `W_V`
# reads the embedding and nothing else of the stream. `minilab grade 03`
#
# ## Predict
#
# Two heads of our model are set, two are still zero. Does it continue prompts as the package's
# model does? And with strength 2 in both heads, where a right key gets a third of the attention or
# less: what share of the answers is right?

# %%
my_accuracy_at_2 = 0.3  # your guess

# %% [markdown]
# ## Look
#
# Expect on the left, for the previous-token head, one line just below the diagonal; only the start
# token `|` has nothing before it, and looks at itself. In the middle, for the matching head, an
# even spread over the past as long as no token has returned, then a line that starts at `c`, the
# token after the first `m`. On the right the strength of both heads grows: expect attention to rise
# slowly, as you computed. And the answers?

# %%
logits, cache = model.run_with_cache(batch.clean)
# The package's model has two more heads.
print("largest difference:", (logits - toy.model(batch.clean)).abs().max().item())


def run_at(strength):
    """Return attention to the right position, and accuracy, with both heads at this strength."""
    for block, set_head in zip(
        model.blocks, (set_previous_token_head, set_matching_head), strict=True
    ):
        set_head(block.attn, strength)
    logits, cache = model.run_with_cache(batch.clean)
    # The right position is the one after the first occurrence.
    source = (batch.clean == batch.clean[:, -1:]).int().argmax(dim=1) + 1
    attention = cache["pattern", 1][range(len(source)), 0, -1, source].mean()
    return attention.item(), batch.correct(logits).float().mean().item()


strengths = [step / 4 for step in range(41)]
attention, accuracy = zip(*map(run_at, strengths), strict=True)
run_at(20.0)  # as it was

fig, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
letters = [toy.task.token_names[t] for t in batch.clean[0]]
plot_attention(cache["pattern", 0][0, 0], letters, axes[0], "a0.h0 looks at the previous position")
plot_attention(
    cache["pattern", 1][0, 0], letters, axes[1], "a1.h0 looks right after the first occurrence"
)
curves = {"right answers": accuracy, "attention to the right position": attention}
plot_curves(strengths, curves, axes[2], "weak attention is enough").set(
    xlabel="strength of both heads", ylabel="share"
)
plt.show()

# %%
at = strengths.index(2.0)
print(
    f"strength 2: attention {attention[at]:.0%}, right answers {accuracy[at]:.0%} "
    f"(you: {my_accuracy_at_2:.0%})"
)

# %% tags=["check"]
assert cache["pattern", 0][:, 0].diagonal(-1, 1, 2).min() > 0.99
# The m at 10 looks at c, and so on.
assert cache["pattern", 1][0, 0, 10:].argmax(dim=-1).tolist() == [2, 3, 4, 5, 6, 7]
assert (accuracy[0], accuracy[-1]) == (0, 1)
assert accuracy[at] == 1
assert round(attention[at], 2) == 0.17

# %% [markdown]
# With strength 2 the right position gets 17% of the attention, and *all* answers are right: its
# token only has to collect more attention than any other token. So good answers need not mean sharp
# heads, and a blurred head may do all the work.
#
# ### Exercise 3.4: induction_weights
# Set the whole model, for any vocabulary and any context. Prompts keep their start token: at
# position 0 the first head can only look at itself, so it writes "before me stands `|`", which is
# harmless because `|` never returns. `minilab grade 03`
#
# ## Control: same attention, no effect
#
# The package's model has two more heads, **decoys**. `a0.h1` has exactly the attention of `a0.h0`,
# and neither its `W_V` nor its `W_O` is zero. Does it do anything? Look at the product, which is
# all that reaches the stream.

# %%
attn = toy.model.blocks[0].attn
product = attn.W_V[1] @ attn.W_O[1]
for name, weight in {"W_V": attn.W_V[1], "W_O": attn.W_O[1], "W_V @ W_O": product}.items():
    print(f"{name} of a0.h1 has {weight.count_nonzero()} entries that are not 0")

# %% tags=["check"]
torch.testing.assert_close(logits, toy.model(batch.clean))
assert torch.equal(toy.model.QK(0, 1), toy.model.QK(0, 0))
assert attn.W_V[1].count_nonzero() == 16
assert attn.W_O[1].count_nonzero() == 8
assert product.count_nonzero() == 0

# %% [markdown]
# Values fill dimensions 0 to 15 of the head, the output reads 16 to 23: they miss each other. A
# pattern shows where a head looks, not whether anything comes of it.
#
# `a0.h0` does write, and `a1.h0` has three inputs that could read it: query, key and value. Each is
# an **edge** from a writer to a reader; the one to the key is called `a0.h0->a1.h0<k>`. Cut one at
# a time, with a hook that takes what `a0.h0` wrote out of one input of `a1.h0`. (`result` is what
# each head wrote, `q_input`, `k_input` and `v_input` what it reads.) To put zeros in the place of
# what was written is called **zero ablation**.
#
# The package does the same with `run_edges` and a **mask**, a number per edge: 1 for on, 0 for off.
# `mask_of` puts 1 at the edges that you name, and `write_outputs` says what an edge carries when it
# is off, here zeros.
#
# Which cuts hurt? Commit first.

# %%
my_edges = "qkv"  # your guess: delete the letters that do not matter


# %%
def cut(part, head=0):
    """Return the logits if a1.h0's `part` (q, k or v) does not see what a0.h{head} wrote."""
    _, cache = toy.model.run_with_cache(batch.clean, names_filter=("result", 0))

    # `value` (batch, pos, head, d_model) is one copy of the stream per head of layer 1.
    def remove(value, hook):
        value[:, :, 0] -= cache["result", 0][:, :, head]

    return toy.model.run_with_hooks(batch.clean, fwd_hooks=[((f"{part}_input", 1), remove)])


def measure_accuracy(logits):
    return batch.correct(logits).float().mean().item()


for part in "qkv":
    print(f"a0.h0->a1.h0<{part}> cut: {measure_accuracy(cut(part)):.0%} right")
print("you:", my_edges)

# The package's way: every edge on, one off.
nothing = write_outputs(toy.model, batch.clean, "zero")
mask = 1 - mask_of(toy.model, ["a0.h0->a1.h0<k>"])
logits = run_edges(toy.model, batch.clean, mask.unsqueeze(0), nothing)[0]  # one mask, one run
print(f"by run_edges: {measure_accuracy(logits):.0%} right")

# %% tags=["check"]
assert [measure_accuracy(cut(part)) for part in "qkv"] == [1, 0, 1]
for part in "qkv":
    mask = 1 - mask_of(toy.model, [f"a0.h0->a1.h0<{part}>"])
    theirs = run_edges(toy.model, batch.clean, mask.unsqueeze(0), nothing)[0]
    torch.testing.assert_close(cut(part), theirs)

# %% [markdown]
# Only the key. The stream carries "before me stands t" to the query and the value as well, but
# their weights do not read it.
#
# ## Claim card

# %%
card = ClaimCard(
    claim="a0.h0 serves the answer through the keys of a1.h0.",
    model="induction_by_hand, 2 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts, seed 0",
    components="the edge a0.h0->a1.h0<k>",
    intervention="the keys of a1.h0 do not see what a0.h0 wrote (zero ablation)",
    effect=Measurement(
        "accuracy without that edge", lambda: measure_accuracy(cut("k")), high=2 / 15
    ),
    control=Measurement(
        "accuracy without the decoy's edge", lambda: measure_accuracy(cut("k", head=1)), low=0.99
    ),
    refuted_by="right answers without the edge, or wrong ones without the edge of a head that "
    "attends alike",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 3.5: find_roles
# A model with eight heads, all weights dense and rotated: which two do the work? Some others attend
# alike, write more, or move the logits. `minilab grade 03`
#
# ## On real models
#
# Whole programs can be compiled into weights
# ([Tracr, Lindner et al. 2023](https://arxiv.org/abs/2301.05062)); such models are tidier than
# trained ones: a direction for each variable, none shared. In language models of many sizes heads
# attend like these two ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895)). That they let a
# model learn from its prompt was shown causally for small models without MLPs, and by correlation
# above; [Yin and Steinhardt 2025](https://arxiv.org/abs/2502.14010) found, in twelve models, that
# learning from examples hangs more on other heads, above all in large models.
#
# Next: lesson 04, where such heads form by training.
