# %% [markdown]
# # 0 · What this course is about
#
# After this page you know what interpretability asks, what makes an answer *mechanistic*, how much
# of that is known, and why we practise on toys. There is nothing to solve. Code cells that only
# check what the text says are folded: open one when you doubt a sentence.
#
# ## The question
#
# Nobody writes a neural network's program. Training adjusts millions of numbers, the **weights**,
# until the answers are good. We can read every weight, and yet not say *why* the model answers as
# it does. **Interpretability** is the work of finding out.
#
# What for? To predict what a model does on inputs that nobody has tried; to find what tests did not
# show, such as a hidden trigger; to repair one thing without breaking others; and to learn which
# algorithms are behind what models do.
#
# There are several kinds of answer:
#
# | kind | says | does not say |
# |---|---|---|
# | behaviour (tests, benchmarks) | *what* the model does on these inputs | what it does elsewhere |
# | attribution (saliency) | *which inputs* an answer depends on | what is done with them |
# | probing | *what can be read* off the model inside | whether the model uses it |
# | mechanism | *which parts compute what, and who reads it* | what happens on other inputs |
#
# An explanation is **mechanistic** if it names parts inside the model, says what each computes and
# passes on, and is tested by *changing* these parts, not only by watching them. (Not everybody uses
# "mechanistic" so strictly: [Saphra and Wiegreffe 2024](https://arxiv.org/abs/2410.09087) tell the
# word's history.) Parts and connections that do one job together are a **circuit**
# ([Olah et al. 2020](https://distill.pub/2020/circuits/zoom-in/)).
#
# ## From outside
#
# Here is a small model, and what it answers.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import toys
from mini_transformer.diagrams import draw_arcs
from mini_transformer.methods import ablate
from mini_transformer.plots import plot_circuit

torch.set_grad_enabled(False)
toy = toys.load("induction_by_hand")
batch = toy.task.draw(256, seed=0)  # `clean` are the prompts; lesson 07 compares them with others
for prompt, answer in zip(batch.clean[:3], batch.answer[:3], strict=True):
    print(toy.task.read(prompt), "->", toy.task.token_names[answer])
print(f"right answers: {batch.accuracy(toy.model):.0%}")

# %% tags=["check"]
assert batch.accuracy(toy.model) == 1

# %% [markdown]
# You see the rule: the prompt began to repeat itself, and the model goes on. It could be done by
# counting back, by a table of pairs, or by looking up what followed last time. More prompts would
# exclude some of these ways. None would say which *parts* do it.
#
# ## From inside
#
# First drawing: a mechanism. The model has four **attention heads**, parts that carry information
# from one place in the prompt to another, in two layers: `a0.h1` is head 1 of layer 0, counted from
# 0. The claim: `a0.h0` looks one place back and notes which letter stands there. `a1.h0` looks for
# the place whose note is the present letter, and copies what it finds there. The other two heads do
# not matter to the answer.
#
# In the drawing, `input` is the prompt, and `logits` are the scores by which the model answers. A
# head reads in three ways, q, k and v; lesson 01 explains them.

# %%
circuit = [
    "input->a0.h0<q>",
    "input->a0.h0<k>",
    "input->a0.h0<v>",
    "a0.h0->a1.h0<k>",
    "input->a1.h0<q>",
    "input->a1.h0<v>",
    "a1.h0->logits",
]
roles = {"a0.h0": "notes the letter before", "a1.h0": "finds the note, copies"}
plot_circuit(toy.model, circuit, roles=roles, title="who reads what from whom")
plt.show()

# %% [markdown]
# Second drawing: the same mechanism at work on one prompt. Each arc leads from the place that a
# head looks at to the place where it writes.

# %%
_, cache = toy.model.run_with_cache(batch.clean)  # the cache holds all that is computed on the way
letters = toy.task.read(batch.clean[0]).split()
last = len(letters) - 1
# The pattern of layer 1; axes: prompt, head, from where, where to.
attention = cache["pattern", 1][0, 0, last]
copied = attention.argmax().item()
arcs = {"a0.h0 notes": (copied - 1, copied), "a1.h0 copies": (copied, last)}
draw_arcs([*letters, f"-> {toy.task.token_names[batch.answer[0]]}"], arcs)
plt.show()

# %% tags=["check"]
assert letters[copied - 1] == letters[last]
assert letters[copied] == toy.task.token_names[batch.answer[0]]

# %% [markdown]
# A drawing proves nothing. So silence one head at a time. If the drawing is right, two heads are
# needed and two are not.

# %%
right = {}
for head in ("a0.h0", "a0.h1", "a1.h0", "a1.h1"):
    logits = ablate(toy.model, batch.clean, [head], "zero")  # the head writes zeros instead
    right[head] = batch.correct(logits).float().mean().item()
    print(f"{head} silent: {right[head]:.0%} right")

# %% tags=["check"]
assert [right["a0.h1"], right["a1.h1"]] == [1, 1]
assert [right["a0.h0"], right["a1.h0"]] == [0, 0]
assert (ablate(toy.model, batch.clean, ["a1.h0"], "zero")[:, -1] == 0).all()  # all tie
assert torch.equal(cache["pattern", 0][:, 0], cache["pattern", 0][:, 1])  # they look alike

# %% [markdown]
# (Why 0%, and no lucky guesses? Without `a1.h0` all letters score 0, and **a tie counts as wrong**.
# For `a0.h0` see lesson 01.)
#
# That is the form of every claim in this course: parts, what they do, an intervention, and a
# **control**, a change that should do nothing and might have (here: silencing the other two heads).
# `a0.h1` *looks* exactly where `a0.h0` does. By a picture of attention alone you would have named
# both.
#
# ## What is known, and what is not
#
# **Known.** Two heads that work like this pair were found in language models of many sizes
# ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895); lesson 04). In GPT-2 small, a circuit of
# 26 heads continues "When Mary and John went to the store, John gave a drink to" with "Mary"
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)); its authors say that gaps remain. A small
# network that adds modulo a prime was understood down to its weights
# ([Nanda et al. 2023](https://arxiv.org/abs/2301.05217)). Many concepts stand in models as
# directions that can be found, read and pushed.
#
# **Not known.** Which unit is the right one: neuron, head, direction or something else. How much of
# a large model can be explained:
# [Lindsey et al. 2025](https://transformer-circuits.pub/2025/attribution-graphs/biology.html) say
# that their graphs gave satisfying insight for about a quarter of the prompts they tried. Whether
# an explanation for some prompts holds for others. Whether two explanations that pass the same
# tests can both be right (lesson 09). Failures are on record, too: knowing where a fact sits in a
# model did not tell where to edit it ([Hase et al. 2023](https://arxiv.org/abs/2301.04213)), and an
# intervention can work by switching on something that is idle when the model runs by itself
# ([Makelov et al. 2023](https://arxiv.org/abs/2311.17030)). A list of open problems is in
# [Sharkey et al. 2025](https://arxiv.org/abs/2501.16496).
#
# ## Why toys
#
# On a language model nobody can tell you whether your explanation is right. On a toy whose weights
# were set by hand, or compiled from a program
# ([Lindner et al. 2023](https://arxiv.org/abs/2301.05062)), somebody can. (Of toys that were
# trained, we claim only what we measured, in several training runs.) So here a method can be
# *shown* to be wrong, and so can you, within seconds and on a laptop.
#
# | carries over to a language model | does not |
# |---|---|
# | the parts (stream, heads, MLPs) and their algebra | one clean job per head |
# | the interventions, and their mistakes | a handful of parts, all runs at no cost |
# | heads that back up or oppose others, or only look busy | a list of all that is in the circuit |
# | the duty to run a control and to say what would refute you | the answer at the end of the book |
#
# Each lesson ends with what became of its method on real models.
#
# ## The map
#
# | | lesson | question |
# |---|---|---|
# | 01 | residual stream | what did each part write? |
# | 02 | hooks | how do I look inside a running model, and change it? |
# | 03 | by hand | can I build such a circuit myself? |
# | 04 | attention heads | which heads do the job in a trained model? |
# | 05 | lenses | what does the model "think" half-way? |
# | 06 | ablation | what is lost without a part? |
# | 07 | activation patching | which part carries the difference between two prompts? |
# | 08 | path patching | along which path? |
# | 09 | circuits | can a circuit be found and verified automatically? |
# | 10 | superposition | how do more features than dimensions fit in? |
# | 11 | sparse autoencoders | can features be found without knowing them? |
# | 12 | describing features | what does a unit stand for, in words that predict? |
# | 13 | probing | what can be read off a site, and is it used there? |
# | 14 | erasure | is a concept gone, and was it used? |
# | 15 | steering | how is behaviour moved by an edit, and what else moves? |
# | 16 | causal abstraction | does the model compute what my algorithm computes? |
# | 17 | modular arithmetic | how does a trained model add, from weights to logits? |
# | 18 | auditing | what is planted in this model, and what can an audit not show? |
# | 19 | capstone | what can I claim about a model that nobody has seen? |
#
# Next: lesson 01, where you write a transformer.
