"""How sae_lens_codes.npz was made: codes and reconstructions by SAELens's own classes, from the
same random weights.

    pip install sae-lens        # in an environment of its own; 6.54.12 wrote the file
    python make_sae_lens_codes.py

The file holds the activations, one set of weights under SAELens's names, and per architecture
`codes` and `rebuilt`; and the gradients of its JumpReLU.
"""

from pathlib import Path

import numpy as np
import torch

D, LATENTS, OUT, K = 6, 16, 5, 3
BANDWIDTH = 0.05


def draw_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (D, LATENTS), "W_dec": (LATENTS, D), "b_enc": (LATENTS,), "b_dec": (D,)}
    shapes |= {
        "b_gate": (LATENTS,),
        "b_mag": (LATENTS,),
        "r_mag": (LATENTS,),
        "threshold": (LATENTS,),
    }
    weights = {
        name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }
    weights["threshold"] = weights["threshold"].abs()
    weights["W_out"], weights["b_out"] = (
        torch.randn(shape, generator=generator) for shape in ((LATENTS, OUT), (OUT,))
    )
    return weights


def differentiate_thresholds(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """The gradient of a weighted sum of JumpReLU's codes and steps with respect to pre-activations
    and thresholds.
    """
    from sae_lens.saes.jumprelu_sae import JumpReLU, Step

    generator = torch.Generator().manual_seed(2)
    pre, on_codes, on_steps = torch.randn(3, 200, LATENTS, generator=generator)
    pre, threshold = pre.relu().requires_grad_(), weights["threshold"].clone().requires_grad_()
    total = (on_codes * JumpReLU.apply(pre, threshold, BANDWIDTH, False)).sum()
    total = total + (on_steps * Step.apply(pre, threshold, BANDWIDTH, False)).sum()
    gradients = torch.autograd.grad(total, (pre, threshold))
    inputs = {"pre": pre.detach(), "on_codes": on_codes, "on_steps": on_steps}
    named = inputs | dict(zip(("gradient of pre", "gradient of threshold"), gradients, strict=True))
    return {f"jump {name}": value.numpy() for name, value in named.items()}


def main() -> None:
    from sae_lens import saes  # not needed to collect this file

    weights, size = draw_weights(), {"d_in": D, "d_sae": LATENTS}
    x = 1.5 * torch.randn(40, D, generator=torch.Generator().manual_seed(1))
    transcoder = saes.TranscoderConfig(**size, d_out=OUT, apply_b_dec_to_input=False)
    models = {
        "standard": saes.StandardSAE(saes.StandardSAEConfig(**size)),
        "standard_uncentred": saes.StandardSAE(
            saes.StandardSAEConfig(**size, apply_b_dec_to_input=False)
        ),
        "topk": saes.TopKSAE(saes.TopKSAEConfig(**size, k=K)),
        "jumprelu": saes.JumpReLUSAE(saes.JumpReLUSAEConfig(**size)),
        "gated": saes.GatedSAE(saes.GatedSAEConfig(**size)),
        "transcoder": saes.Transcoder(transcoder),
    }
    stored = {"activations": x.numpy(), "k": np.array(K)} | {
        f"weight {n}": w.numpy() for n, w in weights.items()
    }
    for kind, sae in models.items():
        own = weights | (
            {"W_dec": weights["W_out"], "b_dec": weights["b_out"]} if kind == "transcoder" else {}
        )
        with torch.no_grad():
            for name, parameter in sae.named_parameters():
                parameter.copy_(own[name])
            codes = sae.encode(x)
            stored |= {f"codes {kind}": codes.numpy(), f"rebuilt {kind}": sae.decode(codes).numpy()}
    stored |= differentiate_thresholds(weights)
    np.savez_compressed(Path(__file__).parent / "sae_lens_codes.npz", **stored)


if __name__ == "__main__":
    main()
