# %% [markdown]
# # 6 · Ablation
#
# After this lesson you can take heads, neurons and directions out of a model in three ways, and you
# know what each of the three is blind to.
# ## Idea
#
# To find out what a part is for, take it out and see what the model can no longer do: **ablation**.
# The rest of the model still reads from the place where the part wrote, and something always stands
# there. You choose what:
#
# | ablation | in place of what the part hands on | asks |
# |---|---|---|
# | **zero** | 0 | must *anything* be there? |
# | **mean** | its average over other prompts, by position | must it *differ* between prompts? |
# | **resample** | what it hands on in another prompt | must it be *this prompt's* value? |
#
# The three often disagree ([Li and Janson 2024](https://arxiv.org/abs/2409.09951) compare these and
# other ablations). None is the right one: they are different questions, and this lesson is about
# which one you have asked.
#
# The toy is one of four layers with two heads each. Of three names, two are the same; it says the
# other one, as GPT-2 does after "When Mary and John went to the store, John gave a drink to"
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Means and other prompts' values come from
# **reference** prompts. Each prompt has one, with another answer; lesson 07 calls it `corrupt`.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.play import embed

torch.set_grad_enabled(False)  # nothing is trained here
toy = toys.load("backup_head")
batch = toy.task.draw(256, seed=1)
tokens, reference = batch.clean, batch.corrupt
for row in range(3):
    name = toy.task.token_names[batch.answer[row]]
    print(f"{toy.task.read(tokens[row])} -> {name}     reference: {toy.task.read(reference[row])}")

# %% tags=["check"]
assert batch.accuracy(toy.model) == 1.0

# %% [markdown]
# ## Predict
#
# Who writes the answer? Attribution (lesson 01) is clear: `a2.h0` pushes by 40, and no other writer
# pushes at all. What share of the answers will be right if what `a2.h0` hands on is replaced by
# zeros? And by its mean over the reference prompts?

# %%
my_zero = 0.0  # your guess, 0 to 1
my_mean = 0.0  # your guess, 0 to 1

_, cache = toy.model.run_with_cache(tokens)
pushes = methods.attribute_logits(toy.model, cache, batch.answer, batch.wrong)
print(f"a2.h0 pushes {pushes.pop('a2.h0').mean():.0f}")

# %% tags=["check"]
assert max(push.mean().abs() for push in pushes.values()) < 0.01

# %% [markdown]
# ## Build: a head, three ways
#
# One hook on `z`, what the head hands on before `W_O`. The package has it as `methods.ablate`.


# %%
def ablate_head(model, tokens, layer, head, ablation, reference):
    """Return the logits without one head."""
    _, cache = model.run_with_cache(reference)
    other = cache["z", layer][:, :, head]  # batch, position, d_head
    new = {"zero": 0 * other, "mean": other.mean(dim=0), "resample": other}[ablation]

    def replace(z, hook):
        z[:, :, head] = new

    return model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), replace)])


ABLATIONS = ("zero", "mean", "resample")
HEADS = [f"a{layer}.h{head}" for layer in range(4) for head in range(2)]

# %% tags=["check"]
random = Transformer(toy.model.config, seed=0)
for ablation in ABLATIONS:
    mine = ablate_head(random, tokens, 2, 0, ablation, reference)
    theirs = methods.ablate(random, tokens, ["a2.h0"], ablation, reference)
    torch.testing.assert_close(mine, theirs)

# %% [markdown]
# ### Exercise 6.1: ablate_heads
# The same for several heads at once, called by their names. Stubs are in
# `exercises/ex06_ablation.py`; `minilab grade 06` checks them, `minilab hint 06` helps.
#
# ## Look
#
# On the left every head alone, a column per ablation; a dark cell is a head without which answers
# are lost. If you predicted 0, you expect `a2.h0` to be dark. On the right two heads at a time,
# with zeros. If no two heads had to do with each other, a cell would be dark only where one of its
# two heads is dark alone.


# %%
def measure_loss(*heads, ablation="zero"):
    """Measure the share of the answers that are lost without these heads."""
    right = batch.correct(methods.ablate(toy.model, tokens, heads, ablation, reference))
    return 1 - right.float().mean().item()


alone = torch.tensor(
    [[measure_loss(head, ablation=ablation) for ablation in ABLATIONS] for head in HEADS]
)
pairs = torch.tensor([[measure_loss(first, second) for second in HEADS] for first in HEADS])
fig, axes = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[3, 8], layout="constrained")
plots.draw_matrix(alone, HEADS, ABLATIONS, axes[0], "without one head", 1.0, numbers=True)
plots.draw_matrix(pairs, HEADS, HEADS, axes[1], "without two heads, by zeros", 1.0, numbers=True)
axes[0].set(xlabel="replaced by", ylabel="without this head")
axes[1].set(xlabel="and this one (on the diagonal: alone)", ylabel="without this head")
fig.suptitle("share of answers lost")
plt.show()

# %%
loss = dict(zip(HEADS, alone.tolist(), strict=True))
print(f"right without a2.h0: {1 - loss['a2.h0'][0]:.0%} (you: {my_zero:.0%}) with zeros, ", end="")
print(f"{1 - loss['a2.h0'][1]:.0%} (you: {my_mean:.0%}) with its mean")
said = methods.ablate(toy.model, tokens, ["a2.h0"], "mean", reference)[:, -1].argmax(dim=-1)
print("with its mean it says", {toy.task.token_names[token] for token in said})

# %% tags=["check"]
three = [[round(share, 2) for share in loss[head]] for head in ("a0.h0", "a1.h0", "a2.h0")]
assert three == [[1, 0.66, 0.81], [1, 0.65, 0.81], [0, 0.8, 1]]
assert pairs[[0, 2]].min() == 1  # a0.h0 and a1.h0, with whomever
spared = [head for head in HEADS if loss[head][0] == 0]
together = [{one, two} for one in spared for two in spared if one < two and measure_loss(one, two)]
assert together == [{"a2.h0", "a3.h0"}]
assert methods.ablate(toy.model, tokens, together[0], "zero")[:, -1].abs().max() == 0
assert toy.model(reference)[:, -1].argmax(dim=-1).bincount().argmax() == said[0]
for head in ("a0.h0", "a1.h0"):
    says = methods.ablate(toy.model, tokens, [head], "zero")[:, -1].argmax(dim=-1)
    assert (says == toy.truth.variables["repeated name"].compute(tokens)).all()
assert (said == toy.task.token_names.index("C")).all()
assert (batch.answer == said).sum() == 50

# %% [markdown]
# The head that writes *all* of the answer can be replaced by zeros, and *not one* answer is lost.
# Its mean loses 80%: in all 256 prompts the toy then says `C`, the most frequent answer of the
# reference prompts, which is right in 50. Another prompt's value loses everything.
#
# `a0.h0` marks the second of the two equal names, `a1.h0` carries "not this name" to the `?`. With
# zeros both lose all: the toy says the name that stands there twice. Another prompt's mark is now
# and then the right one (81% lost), and an average holds a little of every mark (66% and 65%).
#
# And one pair is dark that should not be. `a2.h0` and `a3.h0` are harmless one by one; without both
# all logits are 0, and a tie counts as wrong.
#
# **Touch it.** Do it by hand: click a head, switch it off in one of three ways, and read who says
# the answer now.

# %%
embed(toy, scene="ablation", height=1150)

# %% [markdown]
# ## Trap 1: a silence that never occurs
#
# `a3.h0` is a **backup**: it would do the same job, but looks away once it sees a name written.
# Watch where it looks from the last position while `a2.h0` is replaced. At the start token `|` it
# finds nothing to copy. (`with model.hooks(...)` runs the hooks in every run of its block.)


# %%
z_there = toy.model.run_with_cache(reference)[1]["z", 2][:, :, 0]
replacements = {
    "itself": cache["z", 2][:, :, 0],
    "zero": 0 * z_there,
    "mean": z_there.mean(dim=0),
    "resample": z_there,
}


def watch_backup(new):
    """Return a3.h0's attention from the last position to the start, with `new` for a2.h0."""

    def replace(z, hook):
        z[:, :, 0] = new

    with toy.model.hooks([(("z", 2), replace)]):
        pattern = toy.model.run_with_cache(tokens)[1]["pattern", 3]
    return pattern[:, 0, -1, 0]  # batch, head, query, key


seen = {what: watch_backup(new) for what, new in replacements.items()}
for what, attention in seen.items():
    print(f"a2.h0 replaced by {what:9} a3.h0 pays {attention.mean():.0%} to the start")

# %% tags=["check"]
assert (seen.pop("zero") < 0.01).all()
assert min(each.min() for each in seen.values()) > 0.99
written = cache["z", 2][:, -1, 0] @ toy.model.W_O[2, 0]
assert (written.norm(dim=-1) > 0.99).all()  # some name, at the last position of every prompt

# %% [markdown]
# At the `?`, `a2.h0` writes some name in all 256 prompts; silence never occurs. A zero there is
# **off distribution**: a value that the rest of the model never meets when it runs by itself. (A
# mean is off distribution, too, but still looks like a name.) With a mean or another prompt's value
# the backup stays away, and what is said is wrong, unless by luck (the mean's `C`). So an ablation
# without effect does not prove that a part does nothing. Ablate pairs, too, and in another way.
#
# ### Exercise 6.2: find_needed_sets
# In unknown models: which heads are needed, and which pairs stand in for each other?
# `minilab grade 06`
#
# ## Trap 2: what the mean keeps
#
# Somebody cares about prompts with the answer `A` only, and replaces `a2.h0` by its mean over
# these. Which share stays right? With the mean over the reference prompts it is none: all say `C`.

# %%
says_a = tokens[batch.answer == 0]
said = methods.ablate(toy.model, says_a, ["a2.h0"], "mean", says_a)[:, -1].argmax(dim=-1)
print(f"mean over the prompts that call for A: {(said == 0).float().mean():.0%} right")

# %% tags=["check"]
assert (said == 0).all()

# %% [markdown]
# All right: the mean over prompts that call for `A` *says A*. A mean takes away only what varies
# among the prompts it was taken over. Whatever they share, it keeps: a common answer, and, as it is
# taken per position, everything about positions.
#
# ## Build: a direction, a neuron
#
# Heads come with the architecture; what a model computes need not keep to them. The smallest thing
# that can be taken out is one **direction**: from the stream `x`, the part along a unit vector `d`.
# A **neuron** is one of the hidden numbers of an MLP. After the ReLU they are the activation
# `("post", layer)`, and a neuron is a direction of it, a row of the identity.


# %%
def ablate_direction(model, tokens, name, direction, ablation, reference):
    """Return the logits when the activation `name` loses its part along one direction."""
    d = direction / direction.norm()
    along = model.run_with_cache(reference)[1][name] @ d  # batch, position
    new = {"zero": 0 * along, "mean": along.mean(dim=0), "resample": along}[ablation]

    def replace(x, hook):
        return x + (new - x @ d).unsqueeze(-1) * d

    return model.run_with_hooks(tokens, fwd_hooks=[(name, replace)])


# %% tags=["check"]
some = torch.randn(toy.model.config.d_model, generator=torch.Generator().manual_seed(0))
for ablation in ABLATIONS:
    mine = ablate_direction(toy.model, tokens, ("resid_post", 1), some, ablation, reference)
    theirs = methods.ablate_directions(
        toy.model, tokens, some.unsqueeze(0), ablation, ("resid_post", 1), reference
    )
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-4)

# %% [markdown]
# A direction can be far more selective than a head. `a1.h0` writes "not this name" for five names,
# along five directions. The toy's answer key, `toy.truth`, lists them; in a real model you would
# have to find them. Take out the one for `D` where layer 2 reads it, from the stream that leaves
# layer 1. Expect wrong answers where `D` is the name that occurs twice, and only there.
#
# **Control.** Perhaps `D` is easily upset. So take out each of the other four directions, where `D`
# occurs twice.


# %%
variable = toy.truth.variables["repeated name"]
not_a, not_b, not_c, not_d, not_e = variable.subspace
twice_d = variable.compute(tokens) == toy.task.token_names.index("D")


def measure_right(direction):
    """Measure the right answers without this direction: where D occurs twice, and elsewhere."""
    logits = ablate_direction(toy.model, tokens, ("resid_post", 1), direction, "zero", reference)
    right = batch.correct(logits).float()
    return right[twice_d].mean().item(), right[~twice_d].mean().item()


there, elsewhere = measure_right(not_d)
print(f"without 'not D': {there:.0%} right where D occurs twice, {elsewhere:.0%} elsewhere")
controls = [measure_right(direction)[0] for direction in (not_a, not_b, not_c, not_e)]
print(f"without another: {min(controls):.0%} right there at least")

# %% tags=["check"]
assert (there, elsewhere, min(controls)) == (0, 1, 1)

# %% [markdown]
# One direction of one head, and exactly one name is no longer excluded.
#
# ### Exercise 6.3: ablate_subspace
# Take out several directions at once, of any length and at any angle. `minilab grade 06`
#
# ## Trap 3: what your prompts share
#
# Now a second toy: `x y . . . =` is followed by x OR y (0 or 1; the dots mean nothing). Two heads
# fetch the bits to `=`, and two neurons compute `relu(x + y)` and `relu(x + y - 1)`. The toy says 1
# if the first minus the second is above .7. `everything()` gives each of the four prompts each of
# the other three as its reference, so 12 runs.
#
# Take out each neuron, the direction of the bit x, and that of `=`. Which of the three ablations of
# `=` lose answers?

# %%
my_ablations = "zero mean resample"  # your guess: delete those that lose none

gate = toys.load("boolean_or")
bits = gate.task.everything()
neuron_0, neuron_1 = torch.eye(2)
equals = gate.model.W_E[gate.task.token_names.index("=")]
before_mlp = ("resid_mid", 0)  # the stream after the heads
parts = {
    "neuron 0": (("post", 0), neuron_0),
    "neuron 1": (("post", 0), neuron_1),
    "bit x": (before_mlp, gate.truth.variables["x"].subspace[0]),
    "token =": (before_mlp, equals),
}
table = {}
for label, part in parts.items():
    runs = [
        ablate_direction(gate.model, bits.clean, *part, ablation, bits.corrupt)
        for ablation in ABLATIONS
    ]
    table[label] = [round(bits.correct(logits).float().mean().item(), 2) for logits in runs]
    print(f"{label:10}", "  ".join(f"{right:4.0%}" for right in table[label]))
print("columns: zero, mean, resample; you, for the token =:", my_ablations)

# %% tags=["check"]
assert list(table.values()) == [[0.25, 0.5, 0.33], [1, 1, 0.83], [0.75, 0.75, 0.67], [0, 1, 1]]
mine = ablate_direction(gate.model, bits.clean, before_mlp, equals, "zero", bits.corrupt)
assert mine[:, -1].abs().max() == 0
assert bits.clean.shape[0] == 12

# %% [markdown]
# Neuron 0 and the bit x hurt, whatever the ablation. Zeros for `=` lose *every* answer. The toy
# uses `=` as its constant 1: the 1 in `x + y - 1` and the .7 come from it. Without it the two
# neurons are equal and cancel, all logits are 0, and a tie counts as wrong. Mean and resample lose
# nothing: `=` stands there in every prompt. They find what differs *between your prompts*, and are
# blind to the rest.
#
# Neuron 1 is the opposite. Nobody stands in for it: it only cuts 2 down to 1, and 2 is above .7 as
# well. But if it wrongly fires it takes away a 1 that was needed. What you have seen:
#
# | ablation | blind to | invents |
# |---|---|---|
# | **zero** | parts that others replace | harm from a missing constant |
# | **mean** | what your prompts share | a mixture that no prompt holds |
# | **resample** | what your prompts share | harm from a wrong value of a part that can be spared |
#
# **Limits.** Each experiment tells what happens with *this* in place, on *these* prompts. One part
# at a time misses backups; pairs of n parts take about n²/2 runs, and three that cover each other
# need triples. And "needed" is not "computes it": `=` knows nothing about x or y.
#
# ## Claim card

# %%
bystanders = [head for head in HEADS if not any(loss[head]) and head != "a3.h0"]
card = ClaimCard(
    claim="Either of a2.h0 and a3.h0 is enough to name the answer; without both there is none.",
    model="backup_head, 4 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts, seed 1",
    components="a2.h0, a3.h0",
    intervention="both hand on zeros, at all positions",
    effect=Measurement(
        "answers lost without both", lambda: measure_loss("a2.h0", "a3.h0"), low=0.99
    ),
    control=Measurement(
        "answers lost without one of them and any bystander, at most",
        lambda: max(measure_loss(one, head) for one in ("a2.h0", "a3.h0") for head in bystanders),
        high=0.01,
    ),
    refuted_by="right answers without both, or answers lost without one of them and a bystander",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 6.4: tell_heads_apart
# In unknown models, say which of six roles each head has. The stub says what each role means; one
# ablation does not tell them apart. `minilab grade 06`
#
# ## On real models
#
# Of BERT and of a translation model most heads can be set to zero, one at a time, without a loss
# that matters ([Michel et al. 2019](https://arxiv.org/abs/1905.10650)). You know now why that does
# not show that they do nothing. Backups are real: GPT-2 has them for the task of our toy (Wang et
# al.), and in larger models a later attention layer replaces one that is taken out, even without
# dropout in training ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771)). On ordinary text
# this **self-repair** is partial and changes from prompt to prompt; some of it is only the final
# norm, which scales up what is left ([Rushing and Nanda 2024](https://arxiv.org/abs/2402.15390)).
#
# Next: lesson 07, where the value that you put in place is chosen so that it differs in one thing
# only.
