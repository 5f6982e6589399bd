"""Solve the exercises of lesson 12, describing features. Check with `minilab grade 12`.

They look behind the examples at the top, score descriptions on new inputs, write the prompts that
excite neurons most, and tell which tokens are needed or enough, and which models are sums. Axes: b
batch, t position, n inputs.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mini_transformer import Transformer


# Exercise 12.1 · about 11 lines · difficulty 2/5 · importance 5/5 · 20 minutes · 4 points
def find_illusions(
    model: Transformer, tokens: Int[Tensor, "batch pos"], topics: Int[Tensor, "vocab"]
) -> list[int]:
    """Find the neurons whose most active places give a wrong picture of them.

    A place is one position of one prompt; a neuron's activation there is `("post", 0)`, and all
    positions of all prompts count. The topic of a place is that of the token there,
    `topics[token]`.

    A neuron shows a picture if its 10 most active places all have one topic. The picture is wrong
    if fewer than half of the places where the neuron is active at all (above 0) have this topic. A
    neuron that is never active has no picture.

    Return the numbers of the neurons with a wrong picture, in any order.

    >>> from mini_transformer import toys
    >>> model = toys.load("boolean_or").model  # its neuron 0 is active if one of two bits is 1
    >>> tokens = torch.tensor([[1, 0, 2, 2, 2, 3]] * 10)
    >>> find_illusions(model, tokens, topics=torch.tensor([0, 0, 0, 1]))
    []
    """
    raise NotImplementedError("find_illusions: not written yet")


# Exercise 12.2 · about 16 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def choose_descriptions(
    activations: Float[Tensor, "n unit"], says: Bool[Tensor, "n description"]
) -> list[int]:
    """Choose for each unit the description that predicts it best on new inputs.

    Row i belongs to input i: what each unit's activation is, and whether each description holds.
    The first half of the rows are old inputs, the second half new ones.

    A description predicts a unit's mean where it holds, and its mean where it does not, both taken
    over old inputs. If it holds in all old inputs or in none, it predicts the mean of all of them
    everywhere. Its score is the share of the unit's variance in new inputs that it explains: 1
    minus the mean squared error divided by the variance.

    Return for each unit the number of the description with the highest score, or -1 if no score is
    at least 0.2.

    >>> says = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1]] * 2) > 0
    >>> unit = torch.tensor([5.0, 0.0, 5.1, 0.1, 4.9, 0.0, 5.0, 0.2])
    >>> choose_descriptions(torch.stack([unit, -unit], dim=1), says)
    [0, 0]
    """
    raise NotImplementedError("choose_descriptions: not written yet")


# Exercise 12.3 · about 21 lines · difficulty 4/5 · importance 3/5 · 35 minutes · 5 points
def excite_neurons(model: Transformer, allowed: list[int]) -> Int[Tensor, "neuron pos"]:
    """Write for each neuron a prompt that excites it nearly as much as any prompt can.

    A prompt has `model.config.n_ctx` tokens. The last is always `model.config.d_vocab - 1`, a `?`;
    all others may be any of `allowed`, also the same one again. What excites a neuron is its
    activation at the last position in the second layer, `("post", 1)`.

    Row i of what you return is a prompt in which neuron i reaches at least 0.95 of what it reaches
    in the best prompt. For some neurons two tokens do nothing unless both are in their places, so a
    better prompt may differ in two places at once. There are too many prompts to try them all.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(9, n_ctx=4, d_model=8, n_layers=2, d_mlp=3), seed=0)
    >>> prompts = excite_neurons(model, allowed=[0, 2, 3])
    >>> tuple(prompts.shape), prompts[:, 3].tolist(), bool((prompts[:, :3] <= 3).all())
    ((3, 4), [8, 8, 8], True)
    """

    raise NotImplementedError("excite_neurons: not written yet")


# Exercise 12.4 · about 12 lines · difficulty 3/5 · importance 5/5 · 25 minutes · 5 points
def tell_gates(model: Transformer, prompt: Int[Tensor, "pos"], baseline: int) -> list[str]:
    """Tell what each token of a prompt does for the output.

    The output is the logit of token 0 at the last position. A token is taken away by putting the
    token `baseline` in its place. The last token always stays.

    A token is *lost* if the output changes by at least 0.5, up or down, when it alone is taken away
    from the prompt. It is *gained* if the output changes by at least 0.5 when it alone is put back
    after all have been taken away. Call it "alone" if it is lost and gained, "and" if it is only
    lost, "or" if it is only gained, and "idle" if it is neither.

    Return the words of all tokens but the last, in order. All depends on the baseline, so another
    one may give other words.

    >>> from mini_transformer import toys
    >>> for gate in ("and", "or"):  # what they say is in logit 1, but against a constant
    ...     model = toys.load(f"boolean_{gate}").model
    ...     model.W_U.data = model.W_U.data.flip(1)[:, 2:]
    ...     tell_gates(model, torch.tensor([1, 1, 2, 2, 2, 3]), baseline=0)
    ['and', 'and', 'idle', 'idle', 'idle']
    ['or', 'or', 'idle', 'idle', 'idle']
    """
    raise NotImplementedError("tell_gates: not written yet")


# Exercise 12.5 · about 13 lines · difficulty 3/5 · importance 4/5 · 25 minutes · 4 points
def find_additive(models: list[Transformer], tokens: Int[Tensor, "batch pos"]) -> list[int]:
    """Find the models whose output is a sum of one score per place and token.

    The output is the logit of token 0 at the last position, for prompts like those in `tokens`: as
    long, with the same last token, and any tokens of smaller number in the other places. All models
    are equally large.

    A model is additive if one table of scores gives the output of *every* such prompt to within
    0.05: a constant, plus the score of each token in its place. The prompts in `tokens` do not tell
    them apart: there a table can be found for each model.

    Return the numbers of the additive models, in any order.

    >>> from mini_transformer import Config
    >>> config = Config(3, n_ctx=3, d_model=4, n_layers=1, d_mlp=4, positions="none")
    >>> models = [Transformer(config, seed=seed) for seed in range(2)]
    >>> models[1].blocks[0].mlp.W_in.data *= 0
    >>> models[1].blocks[0].attn.W_Q.data *= 0  # an even attention adds values up
    >>> find_additive(models, torch.tensor([[0, 0, 2], [1, 1, 2]]))
    [1]
    """
    raise NotImplementedError("find_additive: not written yet")
