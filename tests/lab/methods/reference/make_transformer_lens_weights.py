"""How transformer_lens_weights.npz was made: readings of weights and logits by TransformerLens, on
a small random model.

    pip install "transformer-lens<4"      # in an environment of its own; 3.9.0 wrote the file
    python make_transformer_lens_weights.py

The file holds the weights under this package's names, one prompt per row with its answer and a
wrong one, and what test_weights_reference.py compares. TransformerLens reads weights as they are,
and its logit_attrs leaves out the last norm's gain: all readings are those of its own folded model.
"""

from pathlib import Path

import numpy as np
import torch

SIZES = {
    "d_vocab": 9,
    "n_ctx": 6,
    "d_model": 8,
    "n_layers": 2,
    "n_heads": 3,
    "d_head": 4,
    "d_mlp": 10,
}


def draw_model(generator: torch.Generator):
    """A random model with LayerNorm, and its weights by this package's names."""
    from transformer_lens import (
        HookedTransformer,
        HookedTransformerConfig,
    )  # not needed to collect this file

    lens = HookedTransformer(
        HookedTransformerConfig(**SIZES, act_fn="gelu", normalization_type="LN", device="cpu")
    )
    weights = {}
    with torch.no_grad():
        for name, parameter in lens.named_parameters():
            parameter.copy_(
                0.4 * torch.randn(parameter.shape, generator=generator) + name.endswith(".w")
            )
            head, _, last = name.rpartition(".")
            weights[f"weight {last if head in ('embed', 'pos_embed', 'unembed') else name}"] = (
                parameter.numpy().copy()
            )
    return lens, weights


@torch.no_grad()
def read_logits(lens, tokens, answer, wrong) -> dict[str, torch.Tensor]:
    """Direct logit attribution at the last position."""
    _, cache = lens.run_with_cache(tokens)
    found = {}
    for name, stack in (
        ("heads", cache.stack_head_results),
        ("neurons", cache.stack_neuron_results),
    ):
        parts = stack(layer=-1, pos_slice=-1)
        found[name] = cache.logit_attrs(
            parts, answer, pos_slice=-1, batch_slice=None, incorrect_tokens=wrong
        )
    return found


@torch.no_grad()
def read_weights(lens) -> dict[str, torch.Tensor]:
    """Tables, composition scores and eigenvalues, (layer, head, ...)."""
    qk = lens.W_E @ lens.QK @ lens.W_E.T
    ov = lens.W_E @ lens.OV @ lens.W_U
    found = {f"composition {part}": lens.all_composition_scores(part.upper()) for part in "qkv"}
    found |= {"qk": qk.AB / SIZES["d_head"] ** 0.5, "ov": ov.AB, "singular values": lens.OV.S}
    return found | {"copying": ov.eigenvalues.sum(-1).real / ov.eigenvalues.abs().sum(-1)}


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    lens, weights = draw_model(generator)
    tokens = torch.randint(9, (4, 5), generator=generator)
    answer, wrong = torch.tensor([1, 4, 2, 0]), torch.tensor([0, 8, 6, 5])
    lens.load_and_process_state_dict(
        lens.state_dict(),
        fold_ln=True,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    found = read_logits(lens, tokens, answer, wrong) | read_weights(lens)
    given = {"tokens": tokens.numpy(), "answer": answer.numpy(), "wrong": wrong.numpy()}
    read = {f"read {name}": value.numpy() for name, value in found.items()}
    np.savez_compressed(
        Path(__file__).parent / "transformer_lens_weights.npz", **weights, **given, **read
    )


if __name__ == "__main__":
    main()
