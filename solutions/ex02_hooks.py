"""Solve the exercises of lesson 02, hooks. Check with `minilab grade 02`.

The first two use PyTorch's own hooks (`module.register_forward_hook`), the others this package's
hook points.
"""

from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mini_transformer import Transformer


def cache_outputs(
    model: Transformer, tokens: Int[Tensor, "batch pos"], names: list[str]
) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """Run `model(tokens)` once and return what each of the named modules put out.

    Catch it by PyTorch's own hooks. `names` are spelled as `model.get_submodule(name)` wants them:
    "blocks.0.attn", "blocks.1.mlp", or "blocks.1" for a whole block. Return a dict with one entry
    per name: the tensor (batch, pos, d_model) that this module returned during the run, as it was
    then. (No part of these models works in place, so you need not copy it; you may.) Take your
    hooks off again before you return.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> tokens = torch.tensor([[1, 2, 3]])
    >>> outputs = cache_outputs(model, tokens, ["blocks.1", "blocks.0.attn"])
    >>> sorted(outputs), tuple(outputs["blocks.1"].shape)
    (['blocks.0.attn', 'blocks.1'], (1, 3, 8))
    >>> torch.allclose(model.unembed(outputs["blocks.1"]), model(tokens))
    True
    """
    # ANSWER
    outputs = {}
    handles = []
    for name in names:
        # `name=name` keeps the name of now, not of the end of the loop.
        def keep(module, inputs, output, name=name):
            outputs[name] = output.clone()

        handles.append(model.get_submodule(name).register_forward_hook(keep))
    model(tokens)
    for handle in handles:
        handle.remove()
    return outputs
    # END ANSWER


def scale_and_clean_up(
    model: Transformer, batches: list[Int[Tensor, "batch pos"]], name: str, factor: float
) -> dict[str, Tensor | list[Tensor | None]]:
    """Run every batch with one module's output times `factor`, and leave no hook behind.

    Hook the submodule `name` (for example "blocks.0.attn") with PyTorch's own hooks and run
    `model(batch)` for each of `batches`, in order. Some batches hold a token outside the
    vocabulary: the model raises ValueError, you note None and go on with the next. Any other error
    is to reach the caller, and leaves no hook behind either. Then, without any hook, run
    `batches[0]` (never a bad one) once more. Return a dict:

    - "scaled": a list with one entry per batch, the logits (batch, pos, d_vocab) with the hook in
      place, or None;
    - "after": the logits of `batches[0]` without the hook.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=1))
    >>> good, bad = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 9]])
    >>> runs = scale_and_clean_up(model, [good, bad, good], "blocks.0", 2.0)
    >>> torch.allclose(runs["scaled"][2], 2 * model(good))  # W_U alone reads block 0: logits double
    True
    >>> runs["scaled"][1] is None, torch.allclose(runs["after"], model(good))
    (True, True)
    """
    # ANSWER
    target = model.get_submodule(name)
    handle = target.register_forward_hook(lambda module, inputs, output: factor * output)
    scaled: list[Tensor | None] = []
    try:
        for batch in batches:
            try:
                scaled.append(model(batch))
            except ValueError:
                scaled.append(None)
    finally:
        handle.remove()
    return {"scaled": scaled, "after": model(batches[0])}
    # END ANSWER


def add_direction(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    layer: int,
    direction: Float[Tensor, "d_model"],
    strength: float,
    position: int,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits with `strength * direction` added to the stream that leaves `layer`.

    The stream leaving a block is the activation `("resid_post", layer)`, shape (batch, pos,
    d_model). Add at `position` only (a negative one counts from the end), in every prompt.
    `direction` is used as it is, whatever its length.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> tokens, direction = torch.tensor([[1, 2, 3]]), torch.ones(8)
    >>> change = add_direction(model, tokens, 1, direction, 0.5, -1) - model(tokens)
    >>> torch.allclose(change[0, -1], 0.5 * direction @ model.W_U, atol=1e-5)  # only W_U reads it
    True
    """

    # ANSWER
    def add(stream, hook):
        stream[:, position] += strength * direction

    return model.run_with_hooks(tokens, fwd_hooks=[(("resid_post", layer), add)])
    # END ANSWER


def logit_gradient(
    model: Transformer, tokens: Int[Tensor, "batch pos"], answers: Int[Tensor, "batch"], name: str
) -> Tensor:
    """Return the gradient of each prompt's answer logit with respect to one activation.

    The logit is that at the last position. `answers[b]` is the token whose logit counts in prompt
    b. `name` is a full hook name like "blocks.0.attn.hook_z". The result has the activation's own
    shape; its row b says how the answer logit of prompt b moves when the activation of prompt b
    does. (Prompts do not influence each other.)

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=5, n_ctx=4, d_model=8, n_layers=2, n_heads=2))
    >>> tokens, answers = torch.tensor([[1, 2, 3], [4, 4, 0]]), torch.tensor([4, 2])
    >>> gradient = logit_gradient(model, tokens, answers, "blocks.1.hook_resid_post")
    >>> torch.allclose(gradient[1, -1], model.W_U[:, 2]), bool((gradient[1, :-1] == 0).all())
    (True, True)
    """
    # ANSWER
    logits, cache = model.run_with_cache(tokens, names_filter=[name])
    answer_logits = logits[torch.arange(len(tokens)), -1, answers]
    (gradient,) = torch.autograd.grad(answer_logits.sum(), cache[name])
    return gradient
    # END ANSWER


def find_needed_heads(
    model: Transformer, tokens: Int[Tensor, "batch pos"], share: float
) -> list[tuple[int, int]]:
    """List the heads that the model needs for its answers, as pairs (layer, head).

    A prompt's answer is the token with the highest logit at the last position. Silence one head at
    a time: set what it hands on, `("z", layer)[:, :, head]`, to zero at every position. A head is
    needed if silencing it alone changes the answer of at least `share` (between 0 and 1) of the
    prompts. Any order will do.

    Of several highest logits the first counts, as in `argmax`. Your answers on models that you have
    not seen are checked for needed heads that you missed, for heads that you named wrongly, and on
    models whose circuit is known.

    >>> from mini_transformer import toys
    >>> case = toys.load("induction_by_hand")
    >>> find_needed_heads(case.model, case.task.draw(20).clean, share=0.5)
    [(0, 0), (1, 0)]
    """
    # ANSWER
    own = model(tokens)[:, -1].argmax(dim=-1)
    needed = []
    for layer, head in product(range(model.config.n_layers), range(model.config.n_heads)):

        def silence(z, hook, head=head):
            z[:, :, head] = 0

        logits = model.run_with_hooks(tokens, fwd_hooks=[(("z", layer), silence)])
        changed = logits[:, -1].argmax(dim=-1) != own
        if changed.float().mean() >= share:
            needed.append((layer, head))
    return needed
    # END ANSWER
