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

from mini_transformer.model import Norm, Transformer


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
    """Take its mean over the last axis from each writer, in place."""
    for writer in writers:
        if writer is not None:
            writer.data -= writer.data.mean(dim=-1, keepdim=True)


def rebuild(model: Transformer, **options: object) -> Transformer:
    """A copy of the model under a changed configuration that can hold the same weights; biases that are new are zero."""
    new = Transformer(dataclasses.replace(model.config, **options)).to(model.W_E)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            module, _, attribute = name.rpartition(".")
            old = getattr(model.get_submodule(module), attribute, None)  # also a tied W_U and fixed positions
            parameter.copy_(torch.zeros(()) if old is None else old)
    return new


@torch.no_grad()
def check_same(new: Transformer, old: Transformer, compare: Callable[[Tensor], Tensor] = Tensor.detach) -> Transformer:
    """The new model, if on random tokens it computes what the old one does, to the rounding of the rewritten weights."""
    tokens = torch.randint(old.config.d_vocab, (4, old.config.n_ctx), generator=torch.Generator().manual_seed(0))
    given, expected = (compare(model(tokens.to(old.W_E.device))) for model in (new, old))
    precision = 1e3 * torch.finfo(expected.dtype).eps * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(given, expected, rtol=0.0, atol=precision)
    return new
