# %% [markdown]
# # 2 · Hooks
#
# After this lesson you can read every value inside a forward pass and put another in its place, and
# you know five ways in which hooks mislead.
#
# ## Idea
#
# `model(x)` gives you the end of a long computation. The values on the way, the **activations**,
# are thrown away. A **hook** is a function of yours that is called in the middle of the forward
# pass with the activation that has just been computed. It may *look* (copy it somewhere) or
# *change* it (return another that takes its place).
#
# Looking tells you what a model computes. Changing tells you what it *uses*. Almost every technique
# of this course is one of the two, so we start with what PyTorch itself offers.

# %%
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from torch import nn

from mini_transformer import plots, toys
from mini_transformer.claims import ClaimCard, Measurement

torch.manual_seed(0)
tiny = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
x = torch.randn(5, 3)
seen = {}


def look(module, inputs, output):
    seen["hidden"] = output  # returns None: the value goes on as it is


def double(module, inputs, output):
    return 2 * output  # takes the output's place


handle = tiny[1].register_forward_hook(look)  # from now on, after every call of tiny[1]
tiny(x)
handle.remove()  # until here
print("the hook kept", tuple(seen["hidden"].shape))

# %% tags=["check"]
assert torch.equal(seen["hidden"], tiny[0](x).relu())

# %% [markdown]
# ## Predict
#
# 1. In a notebook, a cell hangs `double` on the last layer and does not remove it. You run that
#    cell three times. By which factor is the layer's output multiplied in the end?
# 2. Now `look` hangs on the *first* layer, before the ReLU. Does the tensor in `seen` hold negative
#    numbers?

# %%
my_factor = 2  # your guess
my_negatives = True  # your guess

# %%
before = tiny(x)
handles = [tiny[2].register_forward_hook(double) for _ in range(3)]  # the cell, run three times
after = tiny(x)
for handle in handles:
    handle.remove()

handle = tiny[0].register_forward_hook(look)
tiny(x)
handle.remove()
factor = (after / before).mean()
print(f"the factor is {factor:.0f}, you said {my_factor}")
print(f"negative numbers kept: {(seen['hidden'] < 0).any()}, you said {my_negatives}")
print(f"negative numbers that the layer puts out: {(tiny[0](x) < 0).any()}")

# %% tags=["check"]
assert torch.allclose(after, 8 * before)
assert tiny[0](x).min() < 0  # what the layer puts out
assert seen["hidden"].min() == 0  # what the hook kept

# %% [markdown]
# Hooks pile up: each run of the cell adds one, and 2 x 2 x 2 = 8. And a hook keeps *the* tensor,
# not a copy: this ReLU works in place, so it overwrote what you had kept. Neither gave an error.
#
# ### Exercise 2.1: cache_outputs
# Catch the outputs of several parts of a transformer in one run. (Mind functions that are made in a
# loop.) Stubs are in `exercises/ex02_hooks.py`; `minilab grade 02` checks them, `minilab hint 02`
# helps.
#
# ## Build: a hook that goes away
#
# Tie each hook to a block of code, and none stays. `finally` runs however the block ends, also by
# an error.


# %%
@contextmanager
def hooked(module, fn):
    """Let `fn(output)` replace what the module puts out; None leaves it as it is."""

    def hook(_module, _inputs, output):
        return fn(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


with hooked(tiny[2], lambda output: 2 * output):
    doubled = tiny(x)
print("inside, doubled:", torch.allclose(doubled, 2 * before))
print("outside, as it was:", torch.equal(tiny(x), before))

# %% tags=["check"]
assert torch.allclose(doubled, 2 * before)
assert torch.equal(tiny(x), before)

# %% [markdown]
# ### Exercise 2.2: scale_and_clean_up
# Turn one module up or down over many batches, some of which make the model fail.
# `minilab grade 02`
#
# ## Build: hook points
#
# PyTorch's hooks see what a *module* puts out. An attention pattern, say, is no module's output.
# The trick: pass every value of interest through a module that does nothing, and hook that one.
# Here is attention (lesson 01) with two such places: the pattern, and **z**, each head's average of
# values, before `W_O`.


# %%
class Attention(nn.Module):
    """Compute all heads of one layer, with the weights of `attn`.

    Axes: b batch, t position, d d_model, n head, h d_head.
    """

    def __init__(self, attn):
        super().__init__()
        self.attn = attn
        self.hook_pattern = nn.Identity()
        self.hook_z = nn.Identity()

    def forward(self, stream):
        q, k, v = (
            torch.einsum("btd,ndh->bnth", stream, W)
            for W in (self.attn.W_Q, self.attn.W_K, self.attn.W_V)  # no layer axis: n d h
        )
        future = torch.ones(stream.shape[1], stream.shape[1]).triu(1).bool()
        scores = (q @ k.mT / self.attn.scale).masked_fill(future, float("-inf"))
        pattern = self.hook_pattern(scores.softmax(dim=-1))  # batch, head, query, key
        z = self.hook_z((pattern @ v).transpose(1, 2))  # b t n h
        return torch.einsum("btnh,nhd->btd", z, self.attn.W_O)


toy = toys.load("induction_by_hand")
batch = toy.task.draw(256, seed=1)  # the prompts of lesson 01
mine = Attention(toy.model.blocks[0].attn)
kept = {}


def keep_pattern(pattern):
    kept["pattern"] = pattern


stream = toy.model(batch.clean, stop_at_layer=0)  # stops early: returns what would enter layer 0
with hooked(mine.hook_pattern, keep_pattern):
    mine(stream)
with hooked(mine.hook_z, torch.zeros_like):
    silenced = stream + mine(stream)
silenced_logits = toy.model(resid=silenced, start_at_layer=1)  # goes on from this stream

# %% [markdown]
# The package's models have such a place, a **hook point**, for every activation. `run_with_hooks`
# calls `fn(value, hook)` at those that you name, where `fn` may edit `value` in place or return
# another. Names are long (`blocks.0.attn.hook_pattern`) or short (`("pattern", 0)`, 0 being the
# layer). `run_with_cache` keeps them all (`print(cache)` lists them), except four large ones: what
# each head reads (`q_input`, `k_input`, `v_input`) and writes (`result`). To keep these, or only a
# few others, name them in `names_filter=`.

# %%
logits, cache = toy.model.run_with_cache(batch.clean)
print(cache)
theirs = toy.model.run_with_hooks(
    batch.clean, fwd_hooks=[(("z", 0), lambda z, hook: torch.zeros_like(z))]
)

# %% tags=["check"]
torch.testing.assert_close(kept["pattern"], cache["pattern", 0])
torch.testing.assert_close(silenced_logits, theirs)

# %% [markdown]
# ### Exercise 2.3: add_direction
# Push the stream in a direction, at one layer and position, as strongly as asked.
# `minilab grade 02`
#
# ## Five ways in which hooks mislead
#
# | | a PyTorch hook | a hook point of this package |
# |---|---|---|
# | **left behind** | acts on every later run | gone after the run, also after an error |
# | **same memory** | what you kept can be overwritten | you edit a copy |
# | **wrong shape** | often fits by broadcasting | an error |
# | **never reached** | silence | an error |
# | **graph cut** | no gradients after `detach()` or in `no_grad()` | the same |
#
# The first two you have seen. Here are the others, with PyTorch's hooks.

# %%
# Wrong shape: the first prompt's output is silently used for all 256.
with hooked(toy.model.blocks[0].attn, lambda out: out[:1]):
    broadcast = toy.model(batch.clean)

# Never reached: hooks belong to the call tiny[0](x), and tiny[0].forward(x) passes them by.
with hooked(tiny[0], lambda out: 100 * out):
    unchanged = tiny[0].forward(x)

# Graph cut: the slope of one logit, for every number in z; and a copy that has none.
slope = torch.autograd.grad(logits[0, -1, batch.answer[0]], cache["z", 1])[0]
cut_off = cache["z", 1].detach()

# %% tags=["check"]
assert broadcast.shape == logits.shape
assert torch.equal(unchanged, tiny[0](x))
assert slope.abs().max() > 0
assert not cut_off.requires_grad

# %% [markdown]
# ## Look
#
# Hooks make a dial for each head: multiply its `z` by a **volume**, 0 for silent and 1 for as it
# is. We turn the dials of the toy's four heads one by one and watch the logit of the right answer.
#
# From lesson 01: `a1.h0` writes the answer, and the unembedding is linear, so expect a straight
# line. `a0.h0` tells `a1.h0` where to look; without it every answer is wrong.
#
# Predict: how much of the answer's logit is left at *half* the volume of `a0.h0`?

# %%
my_half = 0.5  # your guess: 0 is nothing, 1 all of it


# %%
def turn_head(layer, head, volume):
    """Return the logits (batch, pos, token) when one head is turned to `volume`."""

    def turn(z, hook):
        dial = torch.ones(z.shape[2], 1)
        dial[head] = volume
        return dial * z

    return toy.model.run_with_hooks(batch.clean, fwd_hooks=[(("z", layer), turn)])


def answer_logit(logits):
    """Return the logit of the right answer, the mean over the prompts."""
    return batch.at_answer(logits).gather(1, batch.answer.unsqueeze(1)).mean()


volumes = torch.linspace(0, 1.5, 31)
heads = {"a0.h0": (0, 0), "a1.h0": (1, 0), "a0.h1": (0, 1), "a1.h1": (1, 1)}
with torch.no_grad():
    curves = {
        name: torch.stack([answer_logit(turn_head(*head, volume)) for volume in volumes])
        for name, head in heads.items()
    }

shown = {
    "a0.h1 and a1.h1, the controls": curves["a0.h1"],  # their lines are the same
    "a1.h0": curves["a1.h0"],
    "a0.h0": curves["a0.h0"],
}
ax = plots.plot_curves(volumes, shown)
ax.set(xlabel="volume (0 = silent, 1 = as it is)", ylabel="logit of the right answer, mean")
plt.show()

# %%
half = (curves["a0.h0"][volumes == 0.5] / curves["a0.h0"][volumes == 1]).item()
print(f"left at half the volume: {half:.1%}, you said {my_half:.0%}")

# %% tags=["check"]
assert round(half, 3) == 0.999
assert abs(curves["a0.h0"][0] - 20 / 16) < 0.001
torch.testing.assert_close(curves["a1.h0"], 20 * volumes, rtol=1e-3, atol=1e-3)

# %% [markdown]
# Nearly all of it (99.9%). `a0.h0` speaks through a softmax: as soon as the right position has
# clearly the highest score it gets all the attention, and more volume adds nothing. (At 0 the
# answer keeps 1.25, less than a letter that stands twice: lesson 01.)
#
# ## Control
#
# `a0.h1` attends exactly as `a0.h0` does, and its line is flat: it writes zeros (lesson 03 says
# how). The line of `a1.h1` is flat, too: it writes, but in directions that `W_U` does not read. If
# their lines bent, turning any head would do it, and we would know nothing about `a0.h0`.
#
# **A limit.** Gradients are the fast way to ask what matters: one run gives the slopes of all these
# lines at volume 1. Look at that of `a0.h0` before you trust them.

# %%
slopes = {}
for name, head in heads.items():
    volume = torch.tensor(1.0, requires_grad=True)
    logit = answer_logit(turn_head(*head, volume))
    slopes[name] = abs(torch.autograd.grad(logit, volume)[0].item())
print(*(f"{name}: {slope:.3f}  " for name, slope in slopes.items()))

# %% tags=["check"]
assert torch.equal(cache["pattern", 0][:, 0], cache["pattern", 0][:, 1])
writes = {name: part.abs().max() for name, part in toy.model.decompose(cache).items()}
assert writes["a0.h1"] == 0 < writes["a1.h1"]
for name in ("a0.h1", "a1.h1"):
    torch.testing.assert_close(
        curves[name], torch.full_like(curves[name], 20), rtol=1e-3, atol=1e-3
    )
assert abs(slopes.pop("a1.h0") - 20) < 0.01
assert max(slopes.values()) < 0.001

# %% [markdown]
# Below 0.001, like those of the two controls: the gradient cannot tell a head on which every answer
# hangs from an idle one. It speaks of small changes, and silencing is not small.
#
# ### Exercise 2.4: logit_gradient
# The slope of each prompt's answer logit with respect to any activation. `minilab grade 02`
#
# ## Claim card


# %%
@torch.no_grad()
def measure_gain(layer, head):
    """Return accuracy at a quarter of the head's volume, minus accuracy when it is silent."""
    low, high = (
        batch.correct(turn_head(layer, head, volume)).float().mean() for volume in (0.0, 0.25)
    )
    return (high - low).item()


card = ClaimCard(
    claim="a0.h0 works like a switch: no answer is right without it, "
    "and all are right at a quarter of its volume.",
    model="induction_by_hand, 2 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts, seed 1",
    components="a0.h0",
    intervention="the head's z, at all positions, is multiplied by 0 and by 1/4",
    effect=Measurement("accuracy at 1/4 minus accuracy at 0", lambda: measure_gain(0, 0), low=0.99),
    control=Measurement(
        "the same for a0.h1, which attends alike", lambda: measure_gain(0, 1), high=0.01
    ),
    refuted_by="right answers at 0, wrong ones at 1/4, or a difference for a0.h1",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 2.5: find_needed_heads
# In models that you have never seen: which heads, silenced alone, change the answers?
# `minilab grade 02`
#
# ## On real models
#
# [TransformerLens](https://github.com/TransformerLensOrg/TransformerLens) gives many language
# models such hook points (this package borrows its names),
# [nnsight](https://arxiv.org/abs/2407.14561) and [pyvene](https://arxiv.org/abs/2403.07809) do so
# without rewriting the model. Two things fail there. What was never computed cannot be hooked: fast
# attention ([Dao et al. 2022](https://arxiv.org/abs/2205.14135)) never stores the pattern, so a
# slower version must be chosen to see it. And slopes are silent about heads like `a0.h0`:
# [Kramár et al. 2024](https://arxiv.org/abs/2403.00745) name a saturated softmax as one of two
# reasons why estimates by gradient miss parts that matter in language models (lesson 08).
#
# Next: lesson 03, where you set every weight of this toy yourself.
