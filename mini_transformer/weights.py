"""Rewrite weights so that they are easier to read, without changing what the model computes.

Each function returns a new Transformer and checks that its output equals that of the one it was given. A LayerNorm is a
division by the scale, which depends on the input, and a fixed affine map, which may as well belong to the weights that
read from it; it forgets the mean of the stream, so nobody needs to write one; and a softmax forgets what all logits have
in common (Elhage et al. 2021, technical details, "Handling Layer Normalization"). In TransformerLens these are the options
fold_ln, center_writing_weights and center_unembed.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mini_transformer.model import Config, Norm, Transformer


def fold_norms(model: Transformer) -> Transformer:
    """A new model whose norms have gain 1 and bias 0: both moved into the weights that read the normalised stream.

    A LayerNorm's bias needs somewhere to go, so the result has biases; a tied unembedding becomes a free one.
    ValueError if there is no norm, or if positions are added between the norm and its readers.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4, norm="layer"))
    >>> fold_norms(model).config.biases
    True
    """
    config = model.config
    if config.norm == "none":
        raise ValueError("this model has norm='none': there is nothing to fold, its weights can be read as they are")
    if config.positions_to == "qk":
        raise ValueError(
            "positions_to='qk' adds positions after the norm: its gain cannot move past them into W_Q and W_K"
        )
    new = rebuild(model, biases=config.biases or config.norm == "layer", tied=False)
    with torch.no_grad():
        for block in new.blocks:
            attn, mlp = block.attn, block.mlp
            fold_into(block.ln1, [(attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V)])
            if mlp is not None:
                fold_into(block.ln2, [(mlp.W_in, mlp.b_in)])
        fold_into(new.ln_final, [(new.W_U, new.b_U)])
    return check_same(new, model)


def center_writing_weights(model: Transformer) -> Transformer:
    """A new model in which everything written to the stream has mean zero over d_model: LayerNorm never saw the mean.

    Fixed positions become learned ones, a tied unembedding a free one. ValueError unless the norm is LayerNorm.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4, norm="layer"))
    >>> center_writing_weights(model)(torch.tensor([[1, 2, 3]]), stop_at_layer=1).mean(dim=-1).abs().max() < 1e-6
    tensor(True)
    """
    config = model.config
    if config.norm != "layer":
        raise ValueError(f"only LayerNorm ignores the mean of the stream, but this model has norm={config.norm!r}")
    in_stream = config.positions != "none" and config.positions_to == "stream"
    new = rebuild(model, positions="learned" if in_stream else config.positions, tied=False)
    writers: list[Tensor | None] = [new.W_E, *([new.W_pos] if in_stream else [])]
    for block in new.blocks:
        writers += [block.attn.W_O, block.attn.b_O]
        writers += [block.mlp.W_out, block.mlp.b_out] if block.mlp is not None else []
    center(writers)
    return check_same(new, model)


def center_unembed(model: Transformer) -> Transformer:
    """A new model whose logits have mean zero over the vocabulary at every position; log-probabilities are the same.

    A tied unembedding becomes a free one.

    >>> from mini_transformer import Config
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
    >>> center_unembed(model)(torch.tensor([[1, 2, 3]])).mean(dim=-1).abs().max() < 1e-6
    tensor(True)
    """
    new = rebuild(model, tied=False)
    center([new.W_U, new.b_U])
    return check_same(new, model, compare=lambda logits: logits.log_softmax(dim=-1))


def fold_into(norm: Norm | None, readers: Sequence[tuple[Tensor, Tensor | None]]) -> None:
    """(x * w + b) @ W + c is x @ (w[:, None] * W) + (b @ W + c); W is (..., d, out), c (..., out)."""
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
    """Take its mean over the last axis from each writer, in place; -inf, of a token that never comes, does not count."""
    for writer in writers:
        if writer is not None:
            finite = writer.data.masked_fill(writer.data == -torch.inf, torch.nan)
            writer.data -= finite.nanmean(dim=-1, keepdim=True)


def rebuild(model: Transformer, **options: object) -> Transformer:
    """Copy the model under a changed configuration that can hold the same weights; new biases are zero.

    Hooks are not copied. ValueError for a model that computes something else than its configuration and weights say.
    """
    check_told(model)
    return copy_weights(model, dataclasses.replace(model.config, **options))  # type: ignore[arg-type]


def copy_weights(model: Transformer, config: Config) -> Transformer:
    """Make a model of this configuration with the weights of another, each in its dtype; those that are new are zero."""
    new = Transformer(config).to(model.W_E)
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            module, _, attribute = name.rpartition(".")
            old = getattr(model.get_submodule(module), attribute, None)  # also a tied W_U and fixed positions
            if old is None:
                parameter.zero_()
            elif old.shape != parameter.shape:
                raise ValueError(
                    f"{name} is {tuple(old.shape)}, but the new configuration needs {tuple(parameter.shape)}"
                )
            else:
                parameter.data = old.detach().clone(memory_format=torch.contiguous_format)
    return new


def check_told(model: Transformer) -> None:
    """Raise ValueError if the model computes something else than its configuration and weights say.

    A mask, a scale, fixed positions or a forward that was changed by hand is in neither, so no copy would have it.
    """
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    expected = {name: value.shape for name, value in Transformer(model.config).state_dict().items()}
    if shapes != expected:
        name = min(shapes.items() ^ expected.items())[0]
        raise ValueError(f"{name} is not as the model's configuration says, {model.config}: change it there, too")
    twin = copy_weights(model, model.config)
    if not agree(run_alone(twin), run_alone(model)):
        raise ValueError(
            "this model computes something else than its configuration and weights say: something was changed by hand "
            "that neither holds, such as a mask or attn.scale; say it in Config (window, causal, attn_scale), or as a weight"
        )


def check_same(new: Transformer, old: Transformer, compare: Callable[[Tensor], Tensor] = Tensor.detach) -> Transformer:
    """Return the new model if it computes what the old one does, but for the rounding of the rewritten weights.

    Both run on random tokens, without hooks. ValueError otherwise.
    """
    if not agree(compare(run_alone(new)), compare(run_alone(old))):
        raise ValueError(
            f"the rewritten model computes something else than the old one in {old.W_E.dtype}, by more than rounding: "
            "rewrite the model in float64, with model.double()"
        )
    return new


def agree(given: Tensor, expected: Tensor) -> bool:
    """Tell whether two models' logits are the same up to rounding, on the scale of the finite ones."""
    size = expected.masked_fill(~expected.isfinite(), 0.0).abs().amax().item()
    precision = 1e3 * torch.finfo(expected.dtype).eps * size
    return torch.allclose(given, expected, rtol=0.0, atol=precision, equal_nan=True)


@torch.no_grad()
def run_alone(model: Transformer) -> Tensor:
    """Run the model on random tokens, without its hooks."""
    tokens = torch.randint(model.config.d_vocab, (4, model.config.n_ctx), generator=torch.Generator().manual_seed(0))
    with model.without_hooks():
        return model(tokens.to(model.W_E.device))
