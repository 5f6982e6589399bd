# %% [markdown]
# # 6 · Ablation
#
# After this lesson you can take heads, neurons and directions out of a model in three ways, and you
# know what each of the three is blind to.
#
# ## Idea
#
# To find out what a part is for, take it out and see what the model can no longer do. That is
# **ablation**. In lesson 02 you silenced heads; now look closer at "take out". The rest of the
# model still reads from the place where the part wrote, and something always stands there. You
# choose what:
#
# | ablation | in place of what the part hands on | asks |
# |---|---|---|
# | **zero** | 0 | must *anything* be there? |
# | **mean** | its average over other prompts, by position | must it *differ* between prompts? |
# | **resample** | what it hands on in another prompt | must it be *this prompt's* value? |
#
# The three often disagree; [Li and Janson 2024](https://arxiv.org/abs/2409.09951) compare them, and
# others. None is the right one: they are different questions, and this lesson is about which one
# you have asked.
#
# The toy is one of four layers with two heads each. Of three names, two are the same; it says the
# other one, as GPT-2 does after "When Mary and John went to the store, John gave a drink to"
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). Every prompt comes with a **reference**
# prompt that calls for another answer.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement

torch.set_grad_enabled(False)  # nothing is trained here
toy = toys.load("backup_head")
batch = toy.task.draw(256, seed=1)
# The package calls the reference prompts `corrupt`.
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

logits, cache = toy.model.run_with_cache(tokens)
direction = (toy.model.W_U[:, batch.answer] - toy.model.W_U[:, batch.wrong]).T  # 256 d
parts = toy.model.decompose(cache)
pushes = {label: (part[:, -1] * direction).sum(-1).mean().item() for label, part in parts.items()}
print("pushes:", *(f"{label} {push:.0f}" for label, push in pushes.items() if abs(push) > 0.5))

# %% tags=["check"]
assert round(pushes["a2.h0"], 2) == 40
assert max(abs(push) for label, push in pushes.items() if label != "a2.h0") < 0.01

# %% [markdown]
# ## Build: a head, three ways
#
# One hook on `z`, what the head hands on before `W_O`. It is the package's `methods.ablate`, here
# and in a random model.


# %%
def ablate_head(model, tokens, layer, head, ablation, reference):
    """Return the logits without one head."""
    _, cache = model.run_with_cache(reference)
    z = cache["z", layer][:, :, head]  # batch, position, d_head
    new = {"zero": torch.zeros_like(z), "mean": z.mean(dim=0), "resample": z}[ablation]

    def replace(z, hook):
        z[:, :, head] = new

    return model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), replace)])


ABLATIONS = ("zero", "mean", "resample")
HEADS = [f"a{layer}.h{head}" for layer in range(4) for head in range(2)]

# %% tags=["check"]
for ablation in ABLATIONS:
    for model in (toy.model, Transformer(toy.model.config, seed=0)):
        mine = ablate_head(model, tokens, 2, 0, ablation, reference)
        torch.testing.assert_close(
            mine, methods.ablate(model, tokens, ["a2.h0"], ablation, reference)
        )

# %% [markdown]
# ### Exercise 6.1: ablate_heads
# The same for several heads at once, called by their names. Stubs are in
# `exercises/ex06_ablation.py`; `minilab grade 06` checks them, `minilab hint 06` helps.
#
# ## Look
#
# On the left every head alone, a column per ablation; a dark cell is a head without which answers
# are lost. After your prediction, expect `a2.h0` to be dark, and heads that do nothing to be white.
# On the right two heads at a time, with zeros. If no two heads had to do with each other, a cell
# would be dark only where one of its two heads is dark alone.


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
# The other half is the same.
half = pairs.masked_fill(torch.ones(8, 8).triu(1).bool(), float("nan"))
plots.draw_matrix(
    half, HEADS, HEADS, axes[1], "without two heads (with zeros in place)", 1.0, numbers=True
)
for text in axes[1].texts:
    text.set_visible(text.get_text() != "nan")
axes[0].set(xlabel="replaced by", ylabel="without this head")
axes[1].set(xlabel="and this one (on the diagonal: alone)", ylabel="without this head")
fig.colorbar(axes[0].images[0], ax=axes, label="share of answers lost").ax.set_ylim(0, 1)
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
spared = [i for i, head in enumerate(HEADS) if loss[head][0] == 0]
assert pairs[spared][:, spared].sum() == 2 * pairs[HEADS.index("a2.h0"), HEADS.index("a3.h0")] == 2
assert (said == toy.task.token_names.index("C")).all()
assert (batch.answer == said).sum() == 50

# %% [markdown]
# The head that writes *all* of the answer can be replaced by zeros, and *not one* answer is lost.
# Its mean loses 80%: the toy then says `C` in all 256 prompts, which is right in 50. Another
# prompt's value loses everything.
#
# `a0.h0` marks the second of the two equal names, `a1.h0` carries "not this name" to the `?`. With
# zeros both lose all; another prompt's mark is now and then the right one (81% lost), and an
# average holds a little of every mark (66% and 65%).
#
# And one cell is dark that should not be: `a2.h0` and `a3.h0`, harmless one by one, lose everything
# together.
#
# ## Trap 1: a silence that never occurs
#
# `a3.h0` is a **backup**: it would do the same job, but looks away once it sees a name written.
# Watch where it looks from the last position while `a2.h0` is replaced. At the start token `|` it
# finds nothing to copy.


# %%
z_there = toy.model.run_with_cache(reference)[1]["z", 2][:, :, 0]
replacements = {
    "itself": cache["z", 2][:, :, 0],
    "zero": 0 * z_there,
    "mean": z_there.mean(dim=0),
    "resample": z_there,
}
seen = {}  # of a3.h0, from the last position to the start
for what, new in replacements.items():

    def replace(z, hook, new=new):
        z[:, :, 0] = new

    with toy.model.hooks([(("z", 2), replace)]):
        pattern = toy.model.run_with_cache(tokens)[1]["pattern", 3]
    seen[what] = pattern[:, 0, -1, 0]
    paid = seen[what].mean()
    print(f"a2.h0 replaced by {what:9} a3.h0 pays {paid:.0%} of its attention to the start")

# %% tags=["check"]
assert (seen.pop("zero") < 0.01).all()
assert min(each.min() for each in seen.values()) > 0.99
written = cache["z", 2][:, -1, 0] @ toy.model.W_O[2, 0]
assert (written.norm(dim=-1) > 0.99).all()  # some name, at the last position of every prompt

# %% [markdown]
# At the `?`, `a2.h0` writes some name in all 256 prompts; silence never occurs. A zero there is
# **off distribution**: a value that the rest of the model never meets when it runs by itself, and
# what it does then need not be what it does otherwise. A mean or another prompt's value still says
# "there is a name": the backup stays away, and what is said is wrong unless it is right by luck
# (the mean's `C`).
#
# So an ablation without effect does not prove that a part does nothing. Ablate pairs, or use
# another ablation.
#
# ### Exercise 6.2: find_needed_sets
# In models that you have never seen: which heads are needed, and which pairs stand in for each
# other? `minilab grade 06`
#
# ## Trap 2: what the mean keeps
#
# Somebody cares about prompts with the answer `A` only, takes the mean of `a2.h0` over these, and
# puts it in place. Which share stays right? With the mean over the reference prompts it is none:
# the toy says `C`.

# %%
says_a = tokens[batch.answer == 0]
for name, others in {"that call for A": says_a, "of the reference": reference}.items():
    said = methods.ablate(toy.model, says_a, ["a2.h0"], "mean", others)[:, -1].argmax(dim=-1)
    print(f"mean over the prompts {name}: {(said == 0).float().mean():.0%} right")

# %% tags=["check"]
for others, right in ((says_a, 1), (reference, 0)):
    said = methods.ablate(toy.model, says_a, ["a2.h0"], "mean", others)[:, -1].argmax(dim=-1)
    assert (said == 0).float().mean() == right

# %% [markdown]
# All right: the mean over prompts that call for `A` *says A*. A mean takes away only what varies
# among the prompts it was taken over. Whatever they share, it keeps: a common answer, and, as it is
# taken per position, everything about positions.
#
# ## Build: a direction, a neuron
#
# Heads come with the architecture; what a model computes need not keep to them. The smallest thing
# that can be taken out is one **direction**: from the stream `x`, the part along a unit vector `d`.
# A **neuron** is one of the hidden numbers of an MLP (lesson 01); after the ReLU they are the
# activation `("post", layer)`, and a neuron is a direction of it, a row of the identity.


# %%
def ablate_direction(model, tokens, name, direction, ablation, reference):
    """Return the logits when the activation `name` loses its part along one direction."""
    d = direction / direction.norm()
    along = model.run_with_cache(reference)[1][name] @ d  # batch, position
    new = {"zero": 0 * along, "mean": along.mean(dim=0), "resample": along}[ablation]

    def replace(x, hook):
        return x + (new - x @ d).unsqueeze(-1) * d

    return model.run_with_hooks(tokens, fwd_hooks=[(name, replace)])


# x y . . . =  ->  x OR y, by two heads that fetch the bits and an MLP of two neurons.
gate = toys.load("boolean_or")
# `everything()`: four prompts, each with each of the other three as its reference, 12 runs.
bits = gate.task.everything()
for row in range(0, 12, 3):
    print(gate.task.read(bits.clean[row]), "->", bits.answer[row].item())

# %% tags=["check"]
some = torch.randn(gate.model.config.d_model, generator=torch.Generator().manual_seed(0))
for ablation in ABLATIONS:
    run = (gate.model, bits.clean)
    neuron = ablate_direction(*run, ("post", 0), torch.eye(2)[1], ablation, bits.corrupt)
    torch.testing.assert_close(neuron, methods.ablate(*run, ["m0.n1"], ablation, bits.corrupt))
    mine = ablate_direction(*run, ("resid_mid", 0), some, ablation, bits.corrupt)
    theirs = methods.ablate_directions(
        *run, some.unsqueeze(0), ablation, ("resid_mid", 0), bits.corrupt
    )
    torch.testing.assert_close(mine, theirs)

# %% [markdown]
# A direction can be far more selective than a head. In the first toy `a1.h0` writes "not this name"
# for five names, along five directions. Take out the one for `D`: expect wrong answers where `D` is
# the name that occurs twice, and only there.
#
# **Control.** Perhaps `D` is easily upset, whatever is taken out. So try random directions, where
# `D` occurs twice.


# %%
d = toy.task.token_names.index("D")
# The toy's truth: its value in every prompt, its five directions.
variable = toy.truth.variables["repeated name"]
twice_d = variable.compute(tokens) == d


def measure_right(direction):
    """Measure the right answers without this direction: where D occurs twice, and elsewhere."""
    logits = ablate_direction(toy.model, tokens, ("resid_post", 1), direction, "zero", reference)
    right = batch.correct(logits).float()
    return right[twice_d].mean().item(), right[~twice_d].mean().item()


generator = torch.Generator().manual_seed(0)
random_directions = torch.randn(100, toy.model.config.d_model, generator=generator)
by_chance = [measure_right(direction)[0] for direction in random_directions]
not_d = measure_right(variable.subspace[d])
print(f"without 'not D': {not_d[0]:.0%} right where D occurs twice, {not_d[1]:.0%} elsewhere")
print(
    f"100 random directions: {sum(by_chance) / 100:.1%} right there on average, "
    f"{min(by_chance):.0%} at worst"
)

# %% tags=["check"]
assert not_d == (0, 1)
assert round(sum(by_chance) / 100, 3) == 0.997
assert round(min(by_chance), 2) == 0.88

# %% [markdown]
# One direction of one head, and exactly one name is no longer excluded. Random directions cost
# little (99.7% right; 88% the worst).
#
# ### Exercise 6.3: ablate_subspace
# Take out several directions at once, of any length and at any angle. `minilab grade 06`
#
# ## Trap 3: what your prompts share
#
# Now the second toy, `x OR y`. `x` and `y` are 0 or 1; its neurons are `relu(x + y)`, added, and
# `relu(x + y - 1)`, subtracted. Take out each of them, the direction of the bit x, and that of `=`,
# where the answer is said. Which ablations hurt for `=`?

# %%
my_ablations = "zero mean resample"  # your guess: delete those that do no harm

at = ("resid_mid", 0)  # the stream after the heads, before the MLP
parts = {"neuron 0": (("post", 0), torch.eye(2)[0]), "neuron 1": (("post", 0), torch.eye(2)[1])}
equals = gate.model.W_E[gate.task.token_names.index("=")]
parts |= {"bit x": (at, gate.truth.variables["x"].subspace[0]), "token =": (at, equals)}
table = {}
for label, part in parts.items():
    runs = [
        ablate_direction(gate.model, bits.clean, *part, ablation, bits.corrupt)
        for ablation in ABLATIONS
    ]
    table[label] = [round(bits.correct(logits).float().mean().item(), 2) for logits in runs]
    pairs = zip(ABLATIONS, table[label], strict=True)
    print(f"{label:10}", "  ".join(f"{ablation} {right:4.0%}" for ablation, right in pairs))
print("you, for the token =:", my_ablations)

# %% tags=["check"]
assert list(table.values()) == [[0.25, 0.5, 0.33], [1, 1, 0.83], [0.75, 0.75, 0.67], [0, 1, 1]]

# %% [markdown]
# Neuron 0 and the bit x hurt, whatever the ablation. Zeros for `=` lose *every* answer; mean and
# resample lose none: the last position holds `=` in every prompt, so others have nothing else to
# offer. Yet the model rests on it, as the constant that the sum of the bits is compared with. Both
# find what differs *between your prompts*, and are blind to the rest.
#
# Neuron 1 is the opposite. Nobody stands in for it: it only cuts 2 down to 1, and 2 is above the
# threshold as well. But if it wrongly fires it takes away a 1 that was needed. What you have seen,
# ablation by ablation:
#
# | ablation | blind to | invents |
# |---|---|---|
# | **zero** | parts that others make good for | harm from a missing constant |
# | **mean** | what your prompts share | a mixture that no prompt holds |
# | **resample** | what your prompts share | harm from a wrong value of a part that can be spared |
#
# **Limits.** Each experiment tells what happens with *this* in place, on *these* prompts. One part
# at a time misses backups; pairs of n parts take about n²/2 runs, and three that cover each other
# need triples. And "needed" is not "computes it": without its constant the OR fails, but `=` knows
# nothing about x or y.
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
# In models that you have never seen, say of every head what it is for: does it carry information or
# hold a constant, is it covered, the backup, one of twins, or idle? One ablation does not tell them
# apart. `minilab grade 06`
#
# ## On real models
#
# Of BERT and of a translation model most heads can be set to zero, one at a time, without a loss
# that matters ([Michel et al. 2019](https://arxiv.org/abs/1905.10650)). You know now why that does
# not show that they do nothing. Backups are real: GPT-2 has them for the task of our toy
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)), and in larger models a later attention
# layer makes good for one that is taken out, even without dropout in training
# ([McGrath et al. 2023](https://arxiv.org/abs/2307.15771)). On ordinary text this **self-repair**
# is partial and changes from prompt to prompt; some of it is only the final norm, which scales up
# what is left ([Rushing and Nanda 2024](https://arxiv.org/abs/2402.15390)).
#
# Next: lesson 07, where the value that you put in place is chosen so that it differs in one thing
# only.
