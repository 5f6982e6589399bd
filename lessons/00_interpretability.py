# %% [markdown]
# # 0 · What this course is about
#
# After this page you know what interpretability asks, what makes an answer *mechanistic*, how much
# of that is known, and why we practise on toys. There is nothing to solve here.
#
# ## The question
#
# Nobody writes a neural network's program. Training adjusts millions of numbers, the **weights**,
# until the answers are good. We can read every weight, and yet not say *why* the model answers as
# it does. **Interpretability** is the work of finding out.
#
# What for? To predict what a model does on inputs that nobody has tried; to find what tests did not
# show, such as a hidden trigger; to repair one thing without breaking others; and to learn how it
# can be done at all what such models do.
#
# There are several kinds of answer:
#
# | kind | says | does not say |
# |---|---|---|
# | behaviour (tests, benchmarks) | *what* the model does on these inputs | what it does elsewhere |
# | attribution (saliency) | *which inputs* an answer depends on | what is done with them |
# | probing | *what can be read* off the model inside | whether the model uses it |
# | mechanism | *which parts compute what, and who reads it* | more than was tested |
#
# An explanation is **mechanistic** if it names parts inside the model, says what each computes and
# passes on, and is tested by *changing* these parts, not only by watching them. The parts and
# connections that do one job together are a **circuit**
# ([Olah et al. 2020](https://distill.pub/2020/circuits/zoom-in/)). Not everybody uses the word so
# strictly: [Saphra and Wiegreffe 2024](https://arxiv.org/abs/2410.09087) tell its history.
#
# ## From outside
#
# Here is a small model, and what it answers.

# %%
import matplotlib.pyplot as plt
import torch

from mini_transformer import toys
from mini_transformer.diagrams import draw_circuit
from mini_transformer.methods import ablate

torch.set_grad_enabled(False)
toy = toys.load("induction_by_hand")
batch = toy.task.draw(256, seed=0)
for prompt, answer in zip(batch.clean[:3], batch.answer[:3], strict=True):
    print(toy.task.read(prompt), "->", toy.task.token_names[answer])
print(f"right answers: {batch.accuracy(toy.model):.0%}")

# %% tags=["check"]
assert batch.accuracy(toy.model) == 1

# %% [markdown]
# You see the rule: the prompt began to repeat itself, and the model goes on. It could be done in
# many ways: counting back, a table of pairs, looking up what followed last time. More prompts would
# exclude some of them. None would say which *parts* do it.
#
# ## From inside
#
# First drawing: a mechanism. The model has four **attention heads**, parts that carry information
# from one place in the prompt to another, in two layers: `a0.h1` is head 1 of layer 0, counted from
# 0. The claim: `a0.h0` looks one place back and notes which letter stands there. `a1.h0` looks for
# the place whose note is the present letter, and copies what it finds there. The letters q, k and v
# say by which of its three inputs a head reads; you will learn in lesson 01 what they do. The other
# two heads do nothing.

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
draw_circuit(toy.model, circuit, roles, title="who reads what from whom")
plt.show()

# %% [markdown]
# Second drawing: the same mechanism at work on one prompt. Each arc leads from the place that a
# head looks at to the place where it writes.

# %%
_, cache = toy.model.run_with_cache(batch.clean[:1])
letters = toy.task.read(batch.clean[0]).split()
last = len(letters) - 1
copied = cache["pattern", 1][0, 0, last].argmax().item()  # where a1.h0 looks from the last place

fig, ax = plt.subplots(figsize=(9, 1.9), layout="constrained")
arcs = [("a0.h0 notes", copied - 1, copied, "#d9660a"), ("a1.h0 copies", copied, last, "#2166ac")]
for label, start, end, colour in arcs:
    bend = {"arrowstyle": "-|>", "color": colour, "connectionstyle": f"arc3,rad={-3 / (end + 1)}"}
    ax.annotate("", (end, 0.15), (start, 0.15), arrowprops=bend | {"linewidth": 2})
    ax.plot([], [], color=colour, label=label)
for place, letter in enumerate(letters):
    ax.text(place, 0, letter, ha="center", va="center", fontsize=13)
ax.text(last + 1, 0, f"-> {toy.task.token_names[batch.answer[0]]}", va="center", fontsize=13)
ax.set(xlim=(-1, last + 2), ylim=(-0.4, 1.3))
ax.legend(frameon=False, loc="upper left")
ax.set_axis_off()
plt.show()

# %% tags=["check"]
assert letters[copied - 1] == letters[last]
assert letters[copied] == toy.task.token_names[batch.answer[0]]

# %% [markdown]
# A drawing proves nothing. So change the parts: silence one head at a time. If the drawing is
# right, two heads are needed and two are not.

# %%
right = {}
for head in ("a0.h0", "a0.h1", "a1.h0", "a1.h1"):
    logits = ablate(toy.model, batch.clean, [head], "zero")  # the head writes zeros instead
    right[head] = batch.correct(logits).float().mean().item()
    print(f"{head} silent: {right[head]:.0%} right")

# %% tags=["check"]
assert [right["a0.h1"], right["a1.h1"]] == [1, 1]
assert max(right["a0.h0"], right["a1.h0"]) < 0.1

# %% [markdown]
# That is the form of every claim in this course: parts, what they do, an intervention, and a
# **control** that could have gone wrong. (`a0.h1` *looks* exactly where `a0.h0` does. A picture of
# attention would have named it, too.)
#
# ## What is known, and what is not
#
# **Known.** Two heads that work like this pair were found in language models of many sizes
# ([Olsson et al. 2022](https://arxiv.org/abs/2209.11895); lesson 04). A circuit of 26 heads by
# which GPT-2 small names the right person was taken apart
# ([Wang et al. 2022](https://arxiv.org/abs/2211.00593)); its authors say that gaps remain. A small
# network that adds modulo a prime was understood down to its weights
# ([Nanda et al. 2023](https://arxiv.org/abs/2301.05217); lesson 17). Many concepts stand in models
# as directions, which can be found, read and pushed (lessons 10 to 15).
#
# **Not known.** Which unit is the right one: neuron, head, direction or something else. How much of
# a large model can be explained:
# [Lindsey et al. 2025](https://transformer-circuits.pub/2025/attribution-graphs/biology.html) call
# the insight that their graphs gave satisfying for about a quarter of the prompts tried. Whether an
# explanation for some prompts holds for others. Whether two explanations that pass the same tests
# can both be right (lesson 09). Failures are on record, too: knowing where a fact sits in a model
# did not tell where to edit it ([Hase et al. 2023](https://arxiv.org/abs/2301.04213)), and an
# intervention can have the expected effect through a path that the model itself does not use
# ([Makelov et al. 2023](https://arxiv.org/abs/2311.17030); lesson 16). A list of open problems is
# in [Sharkey et al. 2025](https://arxiv.org/abs/2501.16496).
#
# ## Why toys
#
# On a language model nobody can tell you whether your explanation is right. On a toy whose weights
# were set by hand, or compiled from a program
# ([Lindner et al. 2023](https://arxiv.org/abs/2301.05062)), somebody can. So here a method can be
# *shown* to be wrong, and so can you, within seconds and on a laptop.
#
# | carries over to a language model | does not |
# |---|---|
# | the parts (stream, heads, MLPs) and their algebra | one clean job per head |
# | the interventions, and their mistakes | a handful of parts, all runs at no cost |
# | heads that stand in for others, suppress, look busy | a list of all that is in the circuit |
# | the duty to run a control and to say what would refute you | the answer at the end of the book |
#
# A method that fails on toys will not be saved by a larger model. A method that works on toys has
# passed a first test, no more. Each lesson ends with what became of its method on real models.
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
# | 11 | sparse autoencoders | can they be taken apart again? |
# | 12 | describing features | what does a feature mean, and how do I test my description? |
# | 13 | probing | what can be read off, and is it used? |
# | 14 | erasure | what happens when a concept is removed? |
# | 15 | steering | what happens when a direction is pushed? |
# | 16 | causal abstraction | does the model compute *this* algorithm? |
# | 17 | modular arithmetic | one model, understood from weights to behaviour |
# | 18 | auditing | what is hidden in a model, and what can an audit not show? |
# | 19 | capstone | a claim of yours about a model that nobody has seen |
#
# Code cells that only check what the text says are folded. Open one when you doubt a sentence.
#
# Next: lesson 01, where you write a transformer.
