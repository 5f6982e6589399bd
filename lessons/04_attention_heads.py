# %% [markdown]
# # 4 · Attention heads
#
# After this lesson you can find the heads that do a job in a trained model, read off their weights
# what they do, and tell heads that look busy from heads that work.
#
# ## Idea
#
# In lesson 03 you set an induction head by hand. Here training makes one, and nobody tells you
# where. Of any head you can ask three questions:
#
# | question | where the answer stands |
# |---|---|
# | *Where does it look?* | its attention patterns, or the **QK circuit** `W_Q W_K^T` behind them |
# | *What does it move?* | the **OV circuit** `W_V W_O`, which turns what it reads into its output |
# | *Who reads that?* | the match of its OV with the circuits of later heads: **composition** |
#
# Each answer is a number, and each can be high for a head that does not matter. So a fourth
# question is always left: *does it matter?* Only an intervention tells.
#
# The task is the same as before, with 32 tokens, prompts of 40, and blocks of 6 to 20 tokens,
# except 9, 13 and 17, which are kept for testing. The toy `induction` was trained on it for 400
# steps. (`induction.train_induction(seed=7).model` trains another in seconds. Look for the same
# roles in it.)

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import Transformer, methods, plots, toys
from mini_transformer.claims import ClaimCard, Measurement
from mini_transformer.diagrams import draw_head
from mini_transformer.edges import mask_of, run_edges, write_outputs
from mini_transformer.play import embed
from mini_transformer.toys.trained import induction

torch.set_grad_enabled(False)
toy = toys.load("induction")
model = toy.model
untrained = [Transformer(model.config, seed=seed) for seed in range(5)]  # the controls

# From the second block's first token on, in 256 prompts each.
seen = induction.measure_copying(toy, induction.SEEN)
unseen = induction.measure_copying(toy, induction.UNSEEN)
print(f"right answers: {seen:.0%} with the lengths of training, {unseen:.0%} with 9, 13 and 17")

# %% tags=["check"]
assert min(seen, unseen) > 0.95

# %% [markdown]
# It answers at lengths that it never met, so it has learned more than distances. In one point it
# differs from lesson 01: the stream starts with the token alone, and the position is added where a
# head reads for its queries and keys ([Press et al. 2020](https://arxiv.org/abs/2012.15832)). So a
# head can use positions to choose where it looks, but cannot copy one: all that heads move comes
# from tokens.
#
# ## Build: attention scores
#
# Say where a head of some kind *would* look: a mask of target keys for each query. The head's score
# is the attention that it pays to the targets, averaged over the queries that have any.
#
# For a **previous-token score** the target of every query is the position before it. For a
# **prefix-matching score** ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895)) the targets are
# the positions right after earlier occurrences of the query's token; a query whose token is new has
# none, and does not count.


# %%
def draw_blocks(lengths):
    """Draw 256 prompts of 40 tokens; also return the length of the block in each."""
    generator = torch.Generator().manual_seed(1)
    prompts, lengths = induction.draw_prompts(256, 40, generator, lengths)
    return prompts[:, :-1], lengths  # without the token that comes next


def score_attention(pattern, targets):
    """Score each head: attention (batch, head, query, key) to the targets (query, key)."""
    counted = targets.any(dim=1)
    return (pattern * targets).sum(dim=-1)[:, :, counted].mean(dim=(0, 2))


def mark_matches(prompt):
    """Mark the targets of prefix matching in one prompt."""
    targets = torch.zeros(len(prompt), len(prompt), dtype=torch.bool)
    for query, token in enumerate(prompt):
        for key in range(query):
            if prompt[key] == token:
                targets[query, key + 1] = True  # right after it
    return targets


tokens, lengths = draw_blocks(induction.SEEN)
_, cache = model.run_with_cache(tokens)
looks_back = methods.score_previous_token(model, tokens)  # (layer, head)
matching = methods.score_induction(model, tokens)  # the prefix-matching score

# %% tags=["check"]
before = torch.ones(40, 40, dtype=torch.bool).tril(-1).triu(-1)  # one place below the diagonal
torch.testing.assert_close(score_attention(cache["pattern", 0], before), looks_back[0])
# The first prompt alone.
first = score_attention(cache["pattern", 1][:1], mark_matches(tokens[0].tolist()))
torch.testing.assert_close(first, methods.score_induction(model, tokens[:1])[1])

# %% [markdown]
# ### Exercise 4.1: prefix_matching_scores
# Here `mark_matches` loops over one prompt. Write the score for a batch, in which each prompt has
# its own targets. Stubs are in `exercises/ex04_attention_heads.py`; `minilab grade 04` checks them,
# `minilab hint 04` helps.
#
# ## Predict, and look
#
# One of the four heads, `a0.h1`, became a previous-token head, and the answers rest on it. How much
# of its attention goes to the previous position, on average over whole prompts?
#
# The first two pictures have a square for each head. Expect one head of layer 0 that looks back,
# and heads of layer 1 that match. The third shows `a0.h1`, position by position. Is it a flat line
# at your guess?

# %%
my_attention = 0.95  # your guess, 0 to 1

# %%
# One value for each of the positions 1 to 39.
by_position = cache["pattern", 0][:, 1].diagonal(offset=-1, dim1=1, dim2=2).mean(dim=0)
curves = {"a0.h1": by_position, "your guess": torch.full((39,), my_attention)}
fig, axes = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=[1, 1, 2], layout="constrained")
plots.plot_heads(looks_back, axes[0], "attention to the previous position", limit=1.0)
plots.plot_heads(matching, axes[1], "prefix matching", limit=1.0)
plots.plot_curves(range(1, 40), curves, axes[2], "attention to the previous position")
axes[2].set(xlabel="position of the query", ylabel="attention", ylim=(0, 1.05))
plt.show()
average, early, late = by_position.mean(), by_position[:20].mean(), by_position[20:].mean()
print(f"a0.h1: {average:.2f} on average (you: {my_attention})")
print(f"up to position 20: {early:.3f}, after it: {late:.2f}")

# %% tags=["check"]
assert f"{average:.2f} {early:.3f} {late:.2f}" == "0.52 0.996 0.02"
assert matching[1].min() > 0.99
for each in untrained:
    assert methods.score_previous_token(each, tokens, slice(21)).max() < 0.135
    assert methods.score_induction(each, tokens).max() < 0.135

# %% [markdown]
# The control: in five untrained models no head has more than .13.
#
# **Trap 1: the average.** "Half a previous-token head"? It is a whole one up to position 20, and
# none after it: blocks have at most 20 tokens, so each token's first copy lies within the first 20
# positions, and matching heads need notes only there. Measure a head where its job is.
#
# **Trap 2: one block length.** A head that always looks nine positions back knows nothing of
# tokens. What is its prefix-matching score with blocks of 10, and of 7?

# %%
my_scores = {10: 0.5, 7: 0.5}  # your guesses

# %%
nine_back = torch.eye(40).roll(-9, dims=1).tril()[None, None]  # batch, head, query, key
fixed_scores = {}
for length in (10, 7):
    prompt = draw_blocks([length])[0][0]
    fixed_scores[length] = score_attention(nine_back, mark_matches(prompt.tolist())).item()
    print(f"blocks of {length}: {fixed_scores[length]} (you: {my_scores[length]})")

# %% tags=["check"]
assert fixed_scores == {10: 1, 7: 0}

# %% [markdown]
# With blocks of 10 "right after the latest occurrence" *is* "nine positions back". Vary what should
# not matter.
#
# **Touch it.** Choose other tokens, and watch where all four heads look.

# %%
embed(toy, scene="patterns", height=520)

# %% [markdown]
# ## Build: what a head moves
#
# QK gives one number, the attention; OV says what is moved. Here are both for `a1.h1`, at the first
# repeated token of a prompt and the key that it attends to most.

# %%
letters = [toy.task.token_names[token] for token in tokens[0]]
query = 1 + lengths[0].item()  # the first token of the second block
attention = cache["pattern", 1][0, 1, query]
key = attention.argmax().item()
found = f"{letters[key]}, which follows {letters[key - 1]}"
draw_head(model, 1, 1, key=found, query=letters[query], attention=attention[key].item())
plt.show()

# %% [markdown]
# `W_E @ OV @ W_U` is a table over tokens: what the head adds to each logit (column) when it attends
# to each token (row). Copying shows on its diagonal.
#
# As one number ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)):
# some mixtures of tokens go into the table and come out as a multiple of themselves. They are its
# *eigenvectors*, and the multiple is the *eigenvalue*: above 0 the head says what it read, below 0
# it speaks against it. The sum of the eigenvalues is that of the diagonal. Divided by the sum of
# their sizes, so that large entries do not count more, it is the **copying score**: 1 if all are
# above 0, -1 if all are below.
#
# QK makes a table, too, of tokens or positions: the score of each query (row) for each key
# (column). That of `a0.h1` says "look back" without any prompt.


# %%
def read_ov(model, layer, head):
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U


def score_copying(model, layer, head):
    eigenvalues = torch.linalg.eigvals(read_ov(model, layer, head).double())
    return (eigenvalues.sum().real / eigenvalues.abs().sum()).item()


copying = torch.tensor([[score_copying(model, layer, head) for head in (0, 1)] for layer in (0, 1)])
untrained_copying = torch.stack([methods.score_copying(each) for each in untrained])
print("copying scores, a row per layer:", copying)
print(f"in five untrained models: {untrained_copying.min():.2f} to {untrained_copying.max():.2f}")
looks_for = model.W_pos @ model.QK(0, 1) @ model.W_pos.T / model.config.attn_scale
print("position 10 looks for position", looks_for[10, :11].argmax().item())

# %% tags=["check"]
torch.testing.assert_close(copying, methods.score_copying(model))
torch.testing.assert_close(read_ov(model, 1, 1), methods.read_ov(model, "a1.h1"))
torch.testing.assert_close(
    looks_for, methods.read_qk(model, "a0.h1", query="position", key="position")
)
assert all(looks_for[query, : query + 1].argmax() == query - 1 for query in range(1, 21))
assert copying[1].min() > 0.99
assert round(copying[0, 1].item(), 2) == 0.84
assert -0.25 < untrained_copying.min() < untrained_copying.max() < 0.12
table = read_ov(model, 1, 1).double()
torch.testing.assert_close(torch.linalg.eigvals(table).sum().real, table.trace())

# %% [markdown]
# **Trap 3: copies, says nothing.** The matching heads copy, as they should. But `a0.h1` has .84,
# too. Does it also say tokens? Commit: which share of the answers is lost when the unembedding no
# longer reads what `a0.h1` writes?

# %%
my_loss = 0.5  # your guess

# %%
batch = toy.task.draw(256, seed=1)  # as in lesson 01: 24 tokens, one answer after the last


def measure_without(edges, toy=toy, batch=batch):
    """Measure the share of right answers when these edges are cut (lesson 03)."""
    mask = 1 - mask_of(toy.model, edges)
    nothing = write_outputs(toy.model, batch.clean, "zero")
    right = batch.correct(run_edges(toy.model, batch.clean, mask.unsqueeze(0), nothing)[0])
    return right.float().mean().item()


print(f"a0.h1->logits cut: {1 - measure_without(['a0.h1->logits']):.0%} lost (you: {my_loss:.0%})")

# %% tags=["check"]
assert measure_without(["a0.h1->logits"]) == 1

# %% [markdown]
# None. The score does not say how large the eigenvalues are, or who uses the copy.
#
# ### Exercise 4.2: match_table
# The keys of a later head read what an earlier head wrote. Make the table of scores: the query's
# token against the token that the earlier head wrote about. `minilab grade 04`
#
# ## Look: both circuits of a1.h1
#
# On the left is what it moves. In the middle is what it looks for: the table of exercise 4.2 with
# `a0.h1` as the writer. Expect a diagonal in both, except for the start token `|`, which never
# returns. The control, on a scale of its own, is the middle one in an untrained model.

# %%
names = toy.task.token_names[:16]  # half of the tokens: the others look alike
moved = methods.read_ov(model, "a1.h1")
sought = methods.read_qk(model, "a1.h1", key="a0.h1")
control = methods.read_qk(untrained[0], "a1.h1", key="a0.h1")
tables = {"what a1.h1 moves": moved, "what it looks for": sought, "control: untrained": control}
fig, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
for ax, (title, table) in zip(axes, tables.items(), strict=True):
    shown = table[:16, :16]
    plots.draw_matrix(shown, names, names, ax, f"{title} (darkest {shown.abs().max():.2g})")
    ax.set(xlabel="this token stands before the key", ylabel="token at the query")
axes[0].set(xlabel="adds to the logit of this token", ylabel="attends to this token")
plt.show()

# %% tags=["check"]
for table in (moved, sought):  # all tokens but the start token
    assert (table.argmax(dim=1) == torch.arange(32))[1:].all()
assert (control.argmax(dim=1) == torch.arange(32)).float().mean() < 0.2

# %% [markdown]
# ## Build: who reads whom
#
# The **composition score** puts that table into one number, without tokens: the size of a product,
# over the sizes of its two factors (size: the Frobenius norm, the root of the sum of squares).
#
# Which product? What a writer adds is some stream times its `OV`. With the stream `x` at the query
# and `y` at the key, a reader's score is `x @ QK @ y`, but for the scale. So its query multiplies
# what it reads by `QK`, and its key by `QK.T`. K-composition is the second case:


# %%
def score_key_composition(model, writer, reader):
    """Score how well keys of `reader` in layer 1 read what `writer` in layer 0 writes."""
    OV = model.OV(0, writer)
    R = model.QK(1, reader).T
    return ((OV @ R).norm() / (OV.norm() * R.norm())).item()


scores = torch.tensor([[score_key_composition(model, i, j) for j in (0, 1)] for i in (0, 1)])
at_random = methods.score_random_composition(model)  # expected of random weights
print("a0.h0 and a0.h1 (rows) with the keys of a1.h0 and a1.h1:", scores)
print(f"random weights: {at_random:.3f}")

# %% tags=["check"]
# Axes of the package's scores: writer's layer, writer, reader's layer, reader.
torch.testing.assert_close(scores, methods.score_composition(model, "k")[0, :, 1])
drawn = torch.stack([methods.score_composition(each, "k")[0, :, 1] for each in untrained])
assert 0.9 * at_random < drawn.min() < drawn.max() < 1.25 * at_random
assert scores[0].max() < 1.25 * at_random < 2 * at_random < scores[1].min()
assert round(at_random, 3) == 1 / model.config.d_model**0.5 == 0.125

# %% [markdown]
# Zero means nothing fits. But random directions overlap by 1 / d_model of their squared length, on
# average, so random heads score about 1 / sqrt(d_model), here .125. `a0.h1` has more than twice
# that with both matching heads; `a0.h0` stays near it.
#
# ### Exercise 4.3: composition_scores
# The same for queries and values, and for all heads of two layers. `minilab grade 04`
#
# **Trap 4: looks back, composes, does nothing.** `induction_rotated` is the toy of lesson 03,
# turned, so that all weights are dense. Its decoy `a0.h1` looks back like the real head, and its
# K-composition with the matching head is well above chance. Predict what cutting it costs.

# %%
my_cost = 0.3  # your guess, share of answers lost

# %%
rotated = toys.load("induction_rotated")
rotated_batch = rotated.task.draw(256, seed=1)
# Axes: writer's layer, writer, reader's layer, reader.
composition = methods.score_composition(rotated.model, "k")[0, 1, 1, 0]
ratio = composition / methods.score_random_composition(rotated.model)
without_decoy = measure_without(["a0.h1->a1.h0<k>"], rotated, rotated_batch)
without_real = measure_without(["a0.h0->a1.h0<k>"], rotated, rotated_batch)
print(f"the decoy composes {ratio:.1f} times as well as chance")
print(f"cut: {1 - without_decoy:.0%} of the answers lost (you: {my_cost:.0%})")

# %% tags=["check"]
# Both look back.
assert methods.score_previous_token(rotated.model, rotated_batch.clean)[0].min() > 0.99
assert ratio > 1.5
assert (without_decoy, without_real) == (1, 0)
# This is the table of exercise 4.2.
assert methods.read_qk(rotated.model, "a1.h0", key="a0.h1").abs().max() < 1e-3

# %% [markdown]
# Nothing; without the real head's edge every answer is wrong. The decoy would pass on directions in
# which nobody ever writes, and a composition score counts all directions alike. The table of
# exercise 4.2 asks about tokens, and is empty here.
#
# ## Trap 5: a place to rest
#
# Attention sums to 1 also where a head has nothing to find. Many trained models then look at the
# first token, an **attention sink** ([Xiao et al. 2023](https://arxiv.org/abs/2309.17453)). Give
# the matching head of lesson 03 one: every token asks for `|` with half the strength of a match,
# and there is nothing to copy at `|`. Now `|` gets 73% of its attention. What is lost when `|` no
# longer answers?

# %%
my_loss = 0.7  # your guess, share of answers lost

# %%
hand = toys.load("induction_by_hand")
hand_batch = hand.task.draw(256, seed=1)
attn = hand.model.blocks[1].attn
start = 0  # the coordinate of | in the stream; those of all tokens are 0 to 15
free = 16  # the head matches in its dimensions 0 to 15
attn.W_Q[0, :16, free] = 10.0  # every token asks ...
attn.W_K[0, start, free] = 1.0  # ... and | answers; a match has 20
attn.W_V[0, start] = 0.0  # nothing to copy at |
sink = methods.score_sink(hand.model, hand_batch.clean)[1, 0].item()
with_sink = hand.model(hand_batch.clean)
attn.W_K[0, start, free] = 0.0  # | no longer answers
without_sink = hand.model(hand_batch.clean)
print(f"{sink:.0%} of the attention goes to |")
print(f"{1 - hand_batch.correct(without_sink).float().mean():.0%} lost (you: {my_loss:.0%})")
for name, logits in {"with the sink": with_sink, "without it": without_sink}.items():
    print(f"largest logit before any token returns, {name}: {logits[:, 1:8].max():.0f}")

# %% tags=["check"]
assert round(sink, 2) == 0.73
assert hand_batch.correct(with_sink).all()
assert hand_batch.correct(without_sink).all()
assert with_sink[:, 1:8].max() < 0.01
assert round(without_sink[:, 1:8].max().item()) == 10

# %% [markdown]
# Nothing. But as long as there is nothing to match, the head now looks at all keys alike, and says
# what it sees, with logits up to 10 (a right answer has 20). Here the sink is how the head keeps
# silent.
#
# ## Limits
#
# Patterns belong to the prompts they were taken on; weights know no prompts, and leave out what the
# rest of the stream adds. Only a cut shows which heads the answers rest on. And even a cut can
# mislead:

# %%
for edges in (["a1.h0->logits"], ["a1.h1->logits"], ["a1.h0->logits", "a1.h1->logits"]):
    print(f"{' and '.join(edges)} cut: {measure_without(edges):.0%} right")

# %% tags=["check"]
assert measure_without(["a1.h0->logits"]) == measure_without(["a1.h1->logits"]) == 1
assert measure_without(["a1.h0->logits", "a1.h1->logits"]) < 0.05

# %% [markdown]
# Either matching head may go, since the other says the same. *What is lost without this?* and *what
# is enough by itself?* are two questions.
#
# ## Claim card

# %%
keys_of = {head: [f"{head}->a1.h{reader}<k>" for reader in (0, 1)] for head in ("a0.h0", "a0.h1")}
card = ClaimCard(
    claim="The matching heads find the answer by keys that read what a0.h1 wrote.",
    model="induction, seed 0: 2 layers of 2 heads",
    task=toy.task.description,
    data="256 prompts of 24 tokens, seed 1",
    components="the edges a0.h1->a1.h0<k> and a0.h1->a1.h1<k>",
    intervention="both edges are cut (zero ablation)",
    effect=Measurement(
        "accuracy without them", lambda: measure_without(keys_of["a0.h1"]), high=0.1
    ),
    control=Measurement(
        "accuracy without those of a0.h0", lambda: measure_without(keys_of["a0.h0"]), low=0.99
    ),
    refuted_by="right answers without these edges, or wrong ones without those of a0.h0",
)
verdict = card.check()
print(verdict)

# %% tags=["check"]
assert verdict

# %% [markdown]
# ### Exercise 4.4: find_induction_pairs
# In models that you have never seen: which heads of layer 0 work with which of layer 1? Some decoys
# look right, some compose, some copy, and one pair may cover for another. `minilab grade 04`
#
# ## On real models
#
# In language models of many sizes ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895)), heads
# that match prefixes and copy appear early in training, in a short phase in which the model begins
# to use its context. The traps are real, too. Sinks stand in large and small models
# ([Gu et al. 2024](https://arxiv.org/abs/2410.10781)). When the heads that write the answer were
# silenced in GPT-2 small, other heads took over
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)). And heads there talk in one or two
# directions, which a score over all directions drowns: composition showed when each matrix was
# first split into its directions ([Merullo et al. 2024](https://arxiv.org/abs/2406.09519)).
#
# Next: lesson 05, where you read the stream between the layers.
