"""Call each vector-math operation once, on import, on one element.

Threads then cannot race for their first call. PyTorch 2.13.0's CPU build bundles a oneMKL whose
first call of sqrt, exp, erf and the like in a process can return values wrong by about 1e-3 when
several threads make it at once (pytorch issue 188792).
"""

import torch
from torch.nn import functional as F

for _one in (torch.ones(1), torch.ones(1, dtype=torch.float64)):
    for _operation in (
        torch.sqrt,
        torch.rsqrt,
        torch.exp,
        torch.log,
        torch.erf,
        torch.tanh,
        torch.sin,
        torch.cos,
    ):
        _operation(_one)
    F.gelu(_one), torch.sigmoid(_one), torch.softmax(_one, 0), torch.var_mean(_one, 0, correction=0)
