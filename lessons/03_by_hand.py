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
# The embedding fills `token` and `position`, the first head `previous`, and the second `following`,
# which the unembedding reads. (`spare` is for a decoy of the package's model.)
#
# ## Predict
#
# A head chooses by scores, and a softmax turns them into attention. Say the right key has score `s`
# and 15 others have 0. How much attention does the right key get when `s` is 2? And which `s` gives
# it 99%?

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
# Only a third, since the others are many; but the exponential soon wins. We use a **strength** of
# 20.
#
# ## Build: the previous-token head
#
# A score is the dot product of query and key, a sum over the head's own dimensions. Reserve
# dimension `i - 1` of the head for one pair of positions: the query at `i` and the key at `i - 1`.
# `W_V` and `W_O` decide what is moved.


# %%
def set_previous_token_head(attn, strength, head=0):
    """Let one head of a layer note which token stands one position back."""
    for i in range(1, n_ctx):
        attn.W_Q[head, position[i], i - 1] = strength  # a query at i looks for i - 1 ...
        attn.W_K[head, position[i - 1], i - 1] = 1.0  # ... and the key at i - 1 answers
    for t in range(n_tokens):
        attn.W_V[head, token[t], t] = 1.0  # the token that stands there ...
        attn.W_O[head, t, previous[t]] = 1.0  # ... becomes "before me stands t"


# Scores are divided by attn_scale.
config = Config(n_tokens, n_ctx, d_model, n_layers=2, n_heads=2, d_head=24, attn_scale=1.0)
model = Transformer(config).requires_grad_(False)  # no gradients, so that weights can be set
for weight in model.parameters():
    weight.zero_()
set_previous_token_head(model.blocks[0].attn, strength=20.0)

# %% [markdown]
# Here every direction is an axis, one coordinate each. In trained models directions point anywhere,
# and weights are **dense**: hardly an entry is 0. The exercises therefore give you directions as
# the rows of a matrix: mostly orthonormal (of length 1, at right angles to each other), seldom
# axes.
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
    """Let one head of a layer copy what followed the query's token before."""
    for t in range(n_tokens):
        attn.W_Q[head, token[t], t] = strength  # "I am t": a query looks for ...
        attn.W_K[head, previous[t], t] = 1.0  # ... keys that say "before me stands t"
        attn.W_V[head, token[t], t] = 1.0  # the token that stands there ...
        attn.W_O[head, t, following[t]] = 1.0  # ... becomes "next comes t"


set_matching_head(model.blocks[1].attn, strength=20.0)
for t in range(n_tokens):
    model.W_E[t, token[t]] = 1.0
    model.W_U[following[t], t] = 20.0
for i in range(n_ctx):
    model.W_pos[i, position[i]] = 1.0

# %% tags=["check"]
for name in ("W_Q", "W_K", "W_V", "W_O"):  # head 0 of both layers
    assert torch.equal(getattr(model, name)[:, 0], getattr(toy.model, name)[:, 0])
for name in ("W_E", "W_pos", "W_U"):
    assert torch.equal(getattr(model, name), getattr(toy.model, name))

# %% [markdown]
# ### Exercise 3.3: match_qk
# A first head is given, with dense weights. Where it attends to token `t` it writes
# `W_E[t] @ W_V @ W_O`. Set `W_Q` and `W_K` of a second head that finds this vector.
# `minilab grade 03`
#
# ## Predict
#
# With strength 2 in both heads a right key gets a third of the attention, or less. What share of
# the answers is right?

# %%
my_accuracy_at_2 = 0.3  # your guess

# %% [markdown]
# ## Look
#
# Expect on the left one line just below the diagonal; only the start token `|` has nothing before
# it. In the middle expect an even spread over the past as long as no token has returned, then a
# line that starts at `c`, after the first `m`. On the right the strength of both heads grows:
# expect attention to rise slowly. And the answers?

# %%
logits, cache = model.run_with_cache(batch.clean)
difference = (logits - toy.model(batch.clean)).abs().max()
print(f"largest difference from the package's model: {difference}")


def set_strength(strength):
    set_previous_token_head(model.blocks[0].attn, strength)
    set_matching_head(model.blocks[1].attn, strength)


# Where the last position should look: right after the first occurrence of its token.
source = (batch.clean == batch.clean[:, -1:]).int().argmax(dim=1) + 1
strengths = [step / 4 for step in range(41)]
attention, accuracy = [], []
for strength in strengths:
    set_strength(strength)
    weak_logits, weak_cache = model.run_with_cache(batch.clean)
    # Axes of the pattern: prompt, head, query, key.
    attention.append(weak_cache["pattern", 1][range(256), 0, -1, source].mean().item())
    accuracy.append(batch.correct(weak_logits).float().mean().item())
set_strength(20.0)  # as it was

fig, axes = plt.subplots(1, 3, figsize=(13, 4.3), layout="constrained")
letters = [toy.task.token_names[t] for t in batch.clean[0]]
plot_attention(cache["pattern", 0][0, 0], letters, axes[0], "a0.h0: the previous position")
plot_attention(cache["pattern", 1][0, 0], letters, axes[1], "a1.h0: after the first occurrence")
curves = {"right answers": accuracy, "attention to the right position": attention}
plot_curves(strengths, curves, axes[2], "weak attention is enough")
axes[2].set(xlabel="strength of both heads", ylabel="share")
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
# token only has to collect more attention than any other. So good answers need not mean sharp
# heads.
#
# (It is 17% and not a third because the first head is blurred, too: its notes are faint, and the
# right key scores less than 2. At strength 0 a letter that stands twice wins, as in lesson 01.)
#
# ### Exercise 3.4: induction_weights
# Set the whole model, for any vocabulary and any context. (At position 0 the first head can only
# look at itself and note `|`. That is harmless: `|` never returns.) `minilab grade 03`
#
# ## Control: same attention, no effect
#
# The package's model has two more heads, **decoys**. `a0.h1` has exactly the attention of `a0.h0`,
# and neither its `W_V` nor its `W_O` is zero. Look at their product, which is all that reaches the
# stream.

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
# `W_V` fills dimensions 0 to 15 of the head, and `W_O` reads 16 to 23: they miss each other. A
# pattern shows where a head looks, not whether anything comes of it.
#
# `a0.h0` does write, and `a1.h0` has three inputs that could read it: query, key and value. Each is
# an **edge** from a writer to a reader; the one to the key is called `a0.h0->a1.h0<k>`. Cut one at
# a time: `result` holds what each head wrote, and `q_input`, `k_input` and `v_input` hold a copy of
# the stream for each head that reads it. A hook takes what `a0.h0` wrote out of one copy. To put
# zeros in the place of what was written is called **zero ablation**.
#
# The package's `run_edges` does the same. Its **mask** has a number per edge, 1 for on and 0 for
# off, and `write_outputs` says what an edge carries when it is off, here zeros.
#
# Which cuts hurt? Commit first.

# %%
my_edges = "qkv"  # your guess: delete the letters that do not matter


# %%
def cut(part, writer=0):
    """Return the logits if a1.h0's `part` (q, k or v) does not see what a0.h{writer} wrote."""
    _, cache = toy.model.run_with_cache(batch.clean, names_filter=[("result", 0)])
    reader = 0

    def remove(stream, hook):  # both (batch, position, head, d_model)
        stream[:, :, reader] -= cache["result", 0][:, :, writer]

    return toy.model.run_with_hooks(batch.clean, fwd_hooks=[((f"{part}_input", 1), remove)])


def measure_accuracy(logits):
    return batch.correct(logits).float().mean().item()


for part in "qkv":
    print(f"a0.h0->a1.h0<{part}> cut: {measure_accuracy(cut(part)):.0%} right")
print("you:", my_edges)

# The package's way: every edge on, one off. It takes a stack of masks, one run for each.
nothing = write_outputs(toy.model, batch.clean, "zero")
mask = 1 - mask_of(toy.model, ["a0.h0->a1.h0<k>"])
logits = run_edges(toy.model, batch.clean, mask.unsqueeze(0), nothing)[0]
print(f"by run_edges: {measure_accuracy(logits):.0%} right")

# %% tags=["check"]
assert [measure_accuracy(cut(part)) for part in "qkv"] == [1, 0, 1]
torch.testing.assert_close(cut("k"), logits)

# %% [markdown]
# Only the key. The query and the value see "before me stands t", too, but their weights do not read
# it.
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
    effect=Measurement("accuracy without that edge", lambda: measure_accuracy(cut("k")), high=0.01),
    control=Measurement(
        "accuracy without the decoy's edge", lambda: measure_accuracy(cut("k", writer=1)), low=0.99
    ),
    refuted_by="right answers without the edge, or wrong ones without the decoy's",
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
# ([Tracr, Lindner et al. 2023](https://arxiv.org/abs/2301.05062)), tidier than trained ones: each
# variable has a direction of its own. In language models of many sizes heads attend like these two
# ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895)). That they let a model learn from its
# prompt was shown causally for small models without MLPs, for larger ones only by correlation. In
# twelve models, learning from examples depended more on *function-vector heads*, which pass on what
# the task is; many of them began as induction heads in training
# ([Yin and Steinhardt 2025](https://arxiv.org/abs/2502.14010)).
#
# Next: lesson 04, where such heads form by training.
