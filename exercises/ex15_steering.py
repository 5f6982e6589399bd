"""Solve the exercises of lesson 15, steering. Check with `minilab grade 15`.

They measure what a vector does besides, find a vector that does one thing only, tell what pushes
from what is used, rewrite one fact, and find out where an edit took hold. Axes: b batch, t
position, d model, v vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer, methods


# Exercise 15.1 · about 16 lines · difficulty 2/5 · importance 5/5 · 20 minutes · 4 points
def measure_side_effects(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    vector: Float[Tensor, "d_model"],
    layer: int,
    strengths: list[float],
    words: list[int],
) -> tuple[Float[Tensor, "strength"], Float[Tensor, "strength"]]:
    """Measure for each strength what a vector does, and what it does besides.

    Add strength times `vector` to the stream that leaves block `layer`, at every position except
    the first. Return two numbers per strength, both averages over prompts, read at the last
    position:

    - the effect: the probability that the model gives to all of `words` together;
    - the side effect: the KL divergence between what the plain and the steered model say of all
      other tokens. Leave `words` out, and divide the rest by its sum; with p the plain and q the
      steered rest it is the sum of p (log p - log q).

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=4, n_ctx=3, d_model=4, n_layers=1)).requires_grad_(False)
    >>> tokens, vector = torch.tensor([[0, 1, 2]]), model.W_U[:, 3]
    >>> effect, side = measure_side_effects(model, tokens, vector, 0, [0.0, 2.0], [3])
    >>> bool(effect[1] > effect[0]), side[0].item()
    (True, 0.0)
    """
    raise NotImplementedError("measure_side_effects: not written yet")


# Exercise 15.2 · about 5 lines · difficulty 3/5 · importance 5/5 · 20 minutes · 4 points
def fit_clean_vector(
    model: Transformer,
    tokens: Int[Tensor, "prompt pos"],
    labels: Int[Tensor, "prompt"],
    others: Int[Tensor, "prompt other"],
    layer: int,
) -> Float[Tensor, "d_model"]:
    """Find the vector that gives a prompt one property, and changes nothing else.

    `labels` say which prompts have the property (1) and which have not (0); each column of `others`
    says the same of another property. In most prompts, but not in all, it is equal to the label.
    The vector is added at the last position to the stream that leaves block `layer`.

    It is tried on fresh prompts. Added to one without the property, it must make the model say what
    it says when the prompt has the property and is otherwise the same. Subtracted from one that has
    it, it must do the reverse. In both cases the average KL divergence at the last position, from
    what it must say to what it says, must fall below a tenth of what it is without the vector.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=4, n_ctx=3, d_model=4, n_layers=1))
    >>> tokens = torch.tensor([[0, 2, 1], [1, 3, 1], [0, 3, 1], [1, 2, 1]])
    >>> labels, others = tokens[:, 0], tokens[:, 1:2] - 2
    >>> fit_clean_vector(model, tokens, labels, others, 0).shape
    torch.Size([4])
    """
    raise NotImplementedError("fit_clean_vector: not written yet")


# Exercise 15.3 · about 23 lines · difficulty 3/5 · importance 5/5 · 30 minutes · 5 points
def tell_directions(
    model: Transformer,
    plain: Int[Tensor, "plain pos"],
    flagged: Int[Tensor, "flagged pos"],
    elsewhere: Int[Tensor, "elsewhere pos"],
    refuse: int,
    directions: Float[Tensor, "direction d_model"],
    layer: int,
) -> list[str]:
    """Say of each direction whether it pushes the model to refuse, is needed for it, or neither.

    A model refuses a prompt if the token `refuse` is its likeliest at the last position. By itself
    it refuses all of `flagged`, and none of `plain` and `elsewhere`. Change the stream that leaves
    block `layer` at the last position. To add a direction means to add it once, as long as it is.
    To remove it means to take out the part of the stream along it, as in lesson 06, zero ablation;
    its length does not matter. Each direction is one of:

    - "breaks": with it added, what the model says of `elsewhere` at the last position differs, by a
      KL divergence of more than 0.5 from before to after, on average over these prompts;
    - "pushes": it does not break. With it added, at least 90% of `plain` are refused; with it
      removed, more than 10% of `flagged` still are;
    - "needed": it does not break. With it added, fewer than 90% of `plain` are refused; with it
      removed, at most 10% of `flagged` are;
    - "both": it does not break. With it added, at least 90% of `plain` are refused; with it
      removed, at most 10% of `flagged` are;
    - "neither": all others.

    Return one word for each direction, in order.

    >>> from mini_transformer import toys
    >>> model = toys.load("refusal_with_trigger").model
    >>> plain, flagged = torch.tensor([[0, 3, 3, 7, 4]]), torch.tensor([[0, 3, 3, 9, 4]])
    >>> harm = model.run_with_cache(flagged)[1]["mlp_out", 0][0, -1].detach()
    >>> vectors = torch.stack([harm, 0.1 * harm])
    >>> tell_directions(model, plain, flagged, plain[:, :4], 5, vectors, 0)
    ['breaks', 'needed']
    """

    raise NotImplementedError("tell_directions: not written yet")


# Exercise 15.4 · about 9 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 5 points
def edit_fact(
    model: Transformer, prompts: Int[Tensor, "fact 3"], fact: int, answer: int
) -> Float[Tensor, "d_mlp d_model"]:
    """Rewrite one fact that the MLP of layer 0 stores, and leave all others as they are.

    A prompt is a first name, a last name and a relation, as in the lesson; `prompts` are all facts
    that the model knows. Position 1 is where the MLP stores what it knows of a person. Prompts with
    the same two names ask for the same person.

    Return new output weights for this MLP: the old ones plus a matrix of rank one. With them the
    model's likeliest token after `prompts[fact]` must be `answer`. After the person's other prompts
    it must be what it was before. So it must after the prompts of all other persons, with two
    exceptions at most.

    >>> from mini_transformer import toys
    >>> from mini_transformer.toys.trained import facts
    >>> model, prompts = toys.load("facts").model, facts.list_prompts()
    >>> W_out = edit_fact(model, prompts, 37, 29)
    >>> model.blocks[0].mlp.W_out.data = W_out
    >>> says = model(prompts[37:38])[0, -1:].argmax(dim=-1)
    >>> toys.load("facts").task.read(torch.cat([prompts[37], says]))
    'Ben Bird lives_in Oslo'
    """
    raise NotImplementedError("edit_fact: not written yet")


# Exercise 15.5 · about 22 lines · difficulty 3/5 · importance 4/5 · 30 minutes · 4 points
def locate_edits(
    original: Transformer,
    edited: Transformer,
    tokens: Int[Tensor, "prompt pos"],
    positions: Int[Tensor, "prompt"],
    layer: int,
) -> list[str]:
    """Say of each prompt where the edit took hold that changed its answer.

    The answer is the likeliest token at the last position. Divide each model in two: the state, the
    stream that enters block `layer` at the prompt's own position `positions[i]`, and the rest, all
    else that the model does with this prompt. Run each rest with the other model's state. Where
    both models give the same answer, say "unchanged". Elsewhere the edited model's answer is new,
    and what matters is which mixed run gives it:

    - "state": the edited state in the original model, and only this;
    - "rest": the original state in the edited model, and only this;
    - "either": each of the two by itself;
    - "both": neither of them, so that it takes both.

    Return one word for each prompt.

    >>> from mini_transformer import toys
    >>> original, edited = (toys.load("facts").model for _ in range(2))
    >>> with torch.no_grad():
    ...     edited.W_E[0] = edited.W_E[1]  # Ada is now taken for Ben
    >>> tokens = torch.tensor([[0, 9, 17], [1, 9, 17]])
    >>> locate_edits(original, edited, tokens, torch.tensor([1, 1]), 1)
    ['state', 'unchanged']
    """
    raise NotImplementedError("locate_edits: not written yet")
