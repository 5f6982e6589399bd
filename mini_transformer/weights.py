"""Rewrite weights so that they are easier to read; the model computes the same.

Each function returns a new Transformer and checks that its output equals that of the one it was
given. A LayerNorm is a division by the scale, which depends on the input, and a fixed affine map,
which may as well belong to the weights that read from it; it forgets the mean of the stream, so
nobody needs to write one; and a softmax forgets what all logits have in common (Elhage et al. 2021,
technical details, "Handling Layer Normalization"). In TransformerLens these are the options
fold_ln, center_writing_weights and center_unembed.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mini_transformer.model import Config, Norm, Transformer


def fold_norms(model: Transformer) -> Transformer:
    """Move each norm's gain and bias into the weights that read the normalised stream.

    Returns a new model whose norms have gain 1 and bias 0. A LayerNorm's bias needs somewhere to
    go, so the result has biases; a tied unembedding becomes a free one. Raise ValueError if there
    is no norm, or if positions are added between the norm and its readers.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, norm="layer"))
    >>> fold_norms(model).config.biases
    True
    """
    config = model.config
    if config.norm == "none":
        raise ValueError(
            "this model has norm='none': there is nothing to fold, "
            "its weights can be read as they are"
        )
    if config.positions_to == "qk":
        raise ValueError(
            "positions_to='qk' adds positions after the norm: "
            "its gain cannot move past them into W_Q and W_K"
        )
    new = rebuild(model, biases=config.biases or config.norm == "layer", tied=False)
    with torch.no_grad():
        for block in new.blocks:
            attn = block.attn
            mlp = block.mlp
            fold_into(block.ln1, [(attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V)])
            if mlp is not None:
                fold_into(block.ln2, [(mlp.W_in, mlp.b_in)])
        fold_into(new.ln_final, [(new.W_U, new.b_U)])
    return check_same(new, model)


def center_writing_weights(model: Transformer) -> Transformer:
    """Give everything that is written to the stream mean zero over d_model.

    Returns a new model. LayerNorm never saw the mean. Fixed positions become learned ones, a tied
    unembedding a free one. Raise ValueError unless the norm is LayerNorm.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, norm="layer"))
    >>> stream = center_writing_weights(model)(torch.tensor([[1, 2, 3]]), stop_at_layer=1)
    >>> stream.mean(dim=-1).abs().max() < 1e-6
    tensor(True)
    """
    config = model.config
    if config.norm != "layer":
        raise ValueError(
            "only LayerNorm ignores the mean of the stream, "
            f"but this model has norm={config.norm!r}"
        )
    in_stream = config.positions != "none" and config.positions_to == "stream"
    new = rebuild(model, positions="learned" if in_stream else config.positions, tied=False)
    writers: list[Tensor | None] = [new.W_E, *([new.W_pos] if in_stream else [])]
    for block in new.blocks:
        writers += [block.attn.W_O, block.attn.b_O]
        writers += [block.mlp.W_out, block.mlp.b_out] if block.mlp is not None else []
    center(writers)
    return check_same(new, model)


def center_unembed(model: Transformer) -> Transformer:
    """Give the logits mean zero over the vocabulary at every position.

    Returns a new model with the same log-probabilities. A tied unembedding becomes a free one.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
    >>> center_unembed(model)(torch.tensor([[1, 2, 3]])).mean(dim=-1).abs().max() < 1e-6
    tensor(True)
    """
    new = rebuild(model, tied=False)
    center([new.W_U, new.b_U])
    return check_same(new, model, compare=lambda logits: logits.log_softmax(dim=-1))


def fold_into(norm: Norm | None, readers: Sequence[tuple[Tensor, Tensor | None]]) -> None:
    """Move a norm's gain and bias into its readers, in place.

    (x * w + b) @ W + c is x @ (w[:, None] * W) + (b @ W + c), where W is (..., d, out) and c (...,
    out).
    """
    assert norm is not None
    for W, c in readers:
        if norm.b is not None:
            assert c is not None
            c += norm.b @ W
        W *= norm.w[:, None]
    norm.w.fill_(1.0)
    if norm.b is not None:
        norm.b.fill_(0.0)


def center(writers: Sequence[Tensor | None]) -> None:
    """Take its mean over the last axis from each writer, in place.

    The -inf of a token that never comes does not count.
    """
    for writer in writers:
        if writer is not None:
            finite = writer.data.masked_fill(writer.data == -torch.inf, torch.nan)
            writer.data -= finite.nanmean(dim=-1, keepdim=True)


def rebuild(model: Transformer, **options: object) -> Transformer:
    """Copy the model under a changed configuration that can hold the same weights.

    New biases are zero. Hooks are not copied. Raise ValueError for a model that computes something
    else than its configuration and weights say.
    """
    check_told(model)
    config = dataclasses.replace(model.config, **options)  # type: ignore[arg-type]
    return copy_weights(model, config)


def copy_weights(model: Transformer, config: Config) -> Transformer:
    """Make a model of this configuration with the weights of another, each in its dtype.

    Weights that the other does not have are zero.
    """
    new = Transformer(config).to(model.W_E)
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            module, _, attribute = name.rpartition(".")
            # Also a tied W_U and fixed positions.
            old = getattr(model.get_submodule(module), attribute, None)
            if old is None:
                parameter.zero_()
            elif old.shape != parameter.shape:
                raise ValueError(
                    f"{name} is {tuple(old.shape)}, but the new configuration needs "
                    f"{tuple(parameter.shape)}"
                )
            else:
                parameter.data = old.detach().clone(memory_format=torch.contiguous_format)
    return new


def check_told(model: Transformer) -> None:
    """Raise ValueError if the model computes something else than its description says.

    Its description is its configuration and weights. A mask, a scale, fixed positions or a forward
    that was changed by hand is in neither, so no copy would have it.
    """
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    expected = {name: value.shape for name, value in Transformer(model.config).state_dict().items()}
    if shapes != expected:
        name = min(shapes.items() ^ expected.items())[0]
        raise ValueError(
            f"{name} is not as the model's configuration says, {model.config}: change it there, too"
        )
    twin = copy_weights(model, model.config)
    if not agree(run_alone(twin), run_alone(model)):
        raise ValueError(
            "this model computes something else than its configuration and weights say: something "
            "was changed by hand that neither holds, such as a mask or attn.scale; "
            "say it in Config "
            "(window, causal, attn_scale), or as a weight"
        )


def check_same(
    new: Transformer, old: Transformer, compare: Callable[[Tensor], Tensor] = Tensor.detach
) -> Transformer:
    """Return the new model if it computes what the old one does, but for rounding.

    Both run on random tokens, without hooks. ValueError otherwise.
    """
    if not agree(compare(run_alone(new)), compare(run_alone(old))):
        raise ValueError(
            "the rewritten model computes something else than the old one in "
            f"{old.W_E.dtype}, by more than rounding: "
            "rewrite the model in float64, with model.double()"
        )
    return new


def agree(given: Tensor, expected: Tensor) -> bool:
    """Tell whether two models' logits are equal up to rounding.

    Rounding is measured on the scale of the finite logits.
    """
    size = expected.masked_fill(~expected.isfinite(), 0.0).abs().amax().item()
    precision = 1e3 * torch.finfo(expected.dtype).eps * size
    return torch.allclose(given, expected, rtol=0.0, atol=precision, equal_nan=True)


@torch.no_grad()
def run_alone(model: Transformer) -> Tensor:
    """Run the model on random tokens, without its hooks."""
    with model.without_hooks():
        return model(draw_tokens(model))


def draw_tokens(model: Transformer) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.d_vocab, (4, model.config.n_ctx), generator=generator)
    return tokens.to(model.W_E.device)
