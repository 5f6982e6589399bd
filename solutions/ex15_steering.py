"""Solve the exercises of lesson 15, steering. Check with `minilab grade 15`.

They measure what a vector does besides, find a vector that does one thing only, tell what pushes
from what is used, rewrite one fact, and find out where an edit took hold. Axes: b batch, t
position, d model, v vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer, methods


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
    # ANSWER
    others = torch.ones(model.config.d_vocab_out).bool()
    others[words] = False

    def run(strength):
        def add(x, hook):
            x[:, 1:] += strength * vector

        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), add)])
        return logits[:, -1]

    plain = run(0.0)[:, others].log_softmax(dim=-1)
    effects, sides = [], []
    for strength in strengths:
        logits = run(strength)
        effects.append(logits.softmax(dim=-1)[:, words].sum(dim=-1).mean())
        rest = logits[:, others].log_softmax(dim=-1)
        sides.append((plain.exp() * (plain - rest)).sum(dim=-1).mean())
    return torch.stack(effects), torch.stack(sides)
    # END ANSWER


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
    # ANSWER
    with torch.no_grad():
        stream = model(tokens, stop_at_layer=layer + 1)[:, -1]
    columns = [labels[:, None], others, torch.ones(len(tokens), 1)]
    design = torch.cat(columns, dim=1).to(stream.dtype)
    return torch.linalg.lstsq(design, stream).solution[0]
    # END ANSWER


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

    # ANSWER
    def run(tokens, change):
        def edit(x, hook):
            x[:, -1] = change(x[:, -1])

        with torch.no_grad():
            return model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), edit)])[:, -1]

    def measure_refused(logits):
        return (logits.argmax(dim=-1) == refuse).float().mean()

    before = run(elsewhere, lambda x: x).log_softmax(dim=-1)
    words = []
    for d in directions:
        unit = d / d.norm()
        after = run(elsewhere, lambda x, d=d: x + d).log_softmax(dim=-1)
        if (before.exp() * (before - after)).sum(dim=-1).mean() > 0.5:
            words.append("breaks")
            continue
        pushes = measure_refused(run(plain, lambda x, d=d: x + d)) >= 0.9
        without = run(flagged, lambda x, unit=unit: x - (x @ unit)[:, None] * unit)
        needed = measure_refused(without) <= 0.1
        if pushes:
            words.append("both" if needed else "pushes")
        else:
            words.append("needed" if needed else "neither")
    return words
    # END ANSWER


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
    # ANSWER
    with torch.no_grad():
        logits, cache = model.run_with_cache(prompts, names_filter=("post", 0))
    wanted = logits[:, -1].argmax(dim=-1)
    wanted[fact] = answer
    same = (prompts[:, :2] == prompts[fact, :2]).all(dim=1)
    value = methods.fit_value(model, prompts[same], wanted[same], layer=0, position=1)
    keys = cache["post", 0]
    edited = methods.edit_rank_one(model, 0, keys[fact, 1], value, keys.flatten(0, 1))
    return edited.blocks[0].mlp.W_out.detach()
    # END ANSWER


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
    # ANSWER
    rows = torch.arange(len(tokens))
    models = {"original": original, "edited": edited}
    with torch.no_grad():
        streams = {name: model(tokens, stop_at_layer=layer) for name, model in models.items()}

        def answer(state, rest):
            stream = streams[rest].clone()
            stream[rows, positions] = streams[state][rows, positions]
            return models[rest](resid=stream, start_at_layer=layer)[:, -1].argmax(dim=-1)

        old = answer("original", "original")
        new = answer("edited", "edited")
        by_state = answer("edited", "original") == new
        by_rest = answer("original", "edited") == new
    names = {
        (True, False): "state",
        (False, True): "rest",
        (True, True): "either",
        (False, False): "both",
    }
    return [
        "unchanged" if old[i] == new[i] else names[bool(by_state[i]), bool(by_rest[i])]
        for i in rows.tolist()
    ]
    # END ANSWER
