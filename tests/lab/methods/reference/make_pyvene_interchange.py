"""How pyvene_interchange.npz was made: interchange interventions by pyvene, on a small random model
of this package.

    # in an environment of its own; pyvene 0.1.8 wrote the file
    pip install pyvene mini-transformer
    python make_pyvene_interchange.py

The file holds weights, prompts, the rotations that pyvene used, and the logits of each run;
settings as in test_interchange_reference.py.
"""

from pathlib import Path

import numpy as np
import torch

from mini_transformer import Config, Transformer

CONFIG = Config(
    d_vocab=9,
    n_ctx=6,
    d_model=8,
    n_layers=2,
    n_heads=2,
    d_mlp=10,
    norm="layer",
    biases=True,
    act="gelu",
)
SITES = {"resid_post": "blocks[0]", "attn_out": "blocks[1].attn", "mlp_out": "blocks[0].mlp"}
POSITION, RANK = 2, 3


def main() -> None:
    import pyvene  # not needed to collect this file

    model = Transformer(CONFIG)
    model.device = torch.device("cpu")  # pyvene asks for it
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(
                0.4 * torch.randn(parameter.shape, generator=generator) + name.endswith(".w")
            )
    base, source = torch.randint(9, (2, 4, 5), generator=generator)
    stored = {
        f"weight {name}": parameter.detach().numpy().copy()
        for name, parameter in model.named_parameters()
    }
    stored |= {"base": base.numpy(), "source": source.numpy()}
    kinds = {
        "whole": (pyvene.VanillaIntervention, {}),
        "low rank": (pyvene.LowRankRotatedSpaceIntervention, {"low_rank_dimension": RANK}),
        "rotated": (pyvene.RotatedSpaceIntervention, {}),
        "boundless": (pyvene.BoundlessRotatedSpaceIntervention, {}),
    }
    for site, component in SITES.items():
        for kind, (intervention, options) in kinds.items():
            torch.manual_seed(len(stored))  # pyvene draws the rotation
            made = intervention(embed_dim=8, **options)
            if kind == "rotated":
                made.set_interchange_dim(RANK)
            if kind == "boundless":
                made.set_temperature(torch.tensor(0.7))
            run = pyvene.IntervenableModel(
                {"component": f"{component}.output", "intervention": made}, model=model
            )
            with torch.no_grad():
                where = {"sources->base": POSITION}
                _, logits = run({"tokens": base}, [{"tokens": source}], unit_locations=where)
                stored[f"logits, {kind}, {site}"] = logits.numpy().copy()
                if kind != "whole":
                    stored[f"rotation, {kind}, {site}"] = made.rotate_layer.weight.numpy().copy()
    np.savez_compressed(Path(__file__).parent / "pyvene_interchange.npz", **stored)


if __name__ == "__main__":
    main()
