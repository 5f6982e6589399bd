"""How auto_circuit_edges.npz was made: EAP, slopes of the mask and ACDC by auto-circuit 1.0.1, on a
small random model.

    # in an environment of its own
    pip install auto-circuit "transformer-lens==2.15.4" "transformers<5"
    python make_auto_circuit_edges.py

The file holds the weights under this package's names, the prompts with answer and wrong answer at
the last position, and one score per edge for every method, beside the names of the edges.
auto-circuit keeps its edges in a set, whose order within a layer differs from run to run and
decides what ACDC finds; so its edges are put into the order that ACDC has in this package.
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
TAUS = {"0.003": (3, -3), "0.01": (1, -2), "0.03": (3, -2), "0.1": (1, -1), "0.3": (3, -1)}


def translate(edge) -> str:
    """auto-circuit's "A0.1->A1.2.K" and "Resid Start->MLP 0" in this package's spelling."""
    names = {"Resid Start": "input", "Resid End": "logits"}

    def one(name: str) -> str:
        if name.startswith("MLP"):
            return f"m{name.split()[1]}"
        layer, head, *part = (
            names.get(name, name).removeprefix("A").split(".") if name.startswith("A") else ("", "")
        )
        return names.get(name) or f"a{layer}.h{head}" + (f"<{part[0].lower()}>" if part else "")

    return f"{one(edge.src.name)}->{one(edge.dest.name)}"


def place(edge: str) -> tuple:
    """Later readers and, for one reader, later writers come first."""
    writer, reader = edge.split("->")
    order = {"q": 0, "k": 1, "v": 2}

    def key(node: str) -> tuple:
        if node in ("input", "logits"):
            return (-1 if node == "input" else 99, 0, 0, 0)
        if node.startswith("m"):
            return (int(node[1:]), 1, 0, 0)
        return (int(node[1]), 0, int(node[4]), order.get(node[-2], 0))

    return key(reader), key(writer)


def main() -> None:
    from auto_circuit.data import PromptPairBatch
    from auto_circuit.prune_algos.ACDC import acdc_prune_scores
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
    from auto_circuit.utils.graph_utils import patchable_model
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    lens = HookedTransformer(
        HookedTransformerConfig(**SIZES, act_fn="gelu", normalization_type="LN", device="cpu")
    )
    for switch in ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in"):
        setattr(lens.cfg, switch, True)
    generator, weights = torch.Generator().manual_seed(0), {}
    with torch.no_grad():
        for name, parameter in lens.named_parameters():
            parameter.copy_(
                0.6 * torch.randn(parameter.shape, generator=generator) + name.endswith(".w")
            )
            head, _, last = name.rpartition(".")
            short = last if head in ("embed", "pos_embed", "unembed") else name
            weights[f"weight {short}"] = parameter.numpy().copy()
    clean, corrupt = torch.randint(9, (2, 8, 5), generator=generator)
    answers = torch.stack([torch.randperm(9, generator=generator)[:2] for _ in clean])
    model = patchable_model(lens, factorized=True, slice_output="last_seq", separate_qkv=True)
    batch = PromptPairBatch(
        key=0,
        batch_diverge_idx=0,
        clean=clean,
        corrupt=corrupt,
        answers=answers[:, :1],
        wrong_answers=answers[:, 1:],
    )
    model.edges = sorted(model.edges, key=lambda edge: place(translate(edge)), reverse=True)
    found = {"edges": np.array([translate(edge) for edge in model.edges])}

    def store(name: str, scores) -> None:
        found[name] = np.array([edge.prune_score(scores).item() for edge in model.edges])

    runs = {"model": model, "dataloader": [batch], "official_edges": None}
    for name, value in (("slope 0", 0.0), ("slope 0.3", 0.3)):
        store(
            name,
            mask_gradient_prune_scores(
                **runs, grad_function="logit", answer_function="avg_diff", mask_val=value
            ),
        )
        for wrapper in model.dest_wrappers:
            wrapper.patch_mask.grad = None
    for tau, (base, exponent) in TAUS.items():
        store(f"acdc {tau}", acdc_prune_scores(**runs, tao_exps=[exponent], tao_bases=[base]))
    where = Path(__file__).parent / "auto_circuit_edges.npz"
    tokens = {"clean": clean.numpy(), "corrupt": corrupt.numpy(), "answers": answers.numpy()}
    np.savez_compressed(where, **tokens, **weights, **found)


if __name__ == "__main__":
    main()
