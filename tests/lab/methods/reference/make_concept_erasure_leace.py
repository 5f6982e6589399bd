"""How concept_erasure_leace.npz was made: `pip install concept-erasure==0.2.4`, then run this file
in its folder.

Inputs x (200, 6) and labels z (200, 3 one-hot), and what the published LEACE makes of x. float64.
"""

import numpy as np
import torch


def make() -> dict[str, np.ndarray]:
    from concept_erasure import LeaceFitter  # not installed here; the tests read what was stored

    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.one_hot(torch.randint(3, (200,), generator=generator)).double()
    mixing, shift = (torch.randn(k, 6, generator=generator, dtype=torch.float64) for k in (6, 3))
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64) @ mixing + z @ shift + 3
    eraser = LeaceFitter.fit(x, z, shrinkage=False).eraser
    return {"x": x.numpy(), "z": z.numpy(), "erased": eraser(x).numpy()}


if __name__ == "__main__":
    np.savez_compressed("concept_erasure_leace.npz", **make())
