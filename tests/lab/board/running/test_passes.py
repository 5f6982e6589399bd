"""The cost of a method is what its definition says it is."""

import torch
from torch.nn.modules import module as torch_module

from mini_transformer import Config, Transformer
from mini_transformer.board.running.passes import counting
from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.methods import attribution_patch, patch_activations

CONFIG = Config(d_vocab=9, n_ctx=6, d_model=8, n_layers=3, n_heads=2)
CLEAN, CORRUPT = (
    torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]),
    torch.tensor([[1, 2, 3, 5], [5, 6, 7, 1]]),
)


def last_logit(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 3]


def test_runs_are_counted_in_batches_through_all_layers() -> None:
    model = Transformer(CONFIG)
    with counting() as cost, torch.no_grad():
        model(CLEAN)
        model(CLEAN[:1])  # half a batch
        model(CLEAN, stop_at_layer=1)  # one of three layers
    forward, backward = cost.count_passes(n_layers=3, n_prompts=2)
    assert abs(forward - (1 + 1 / 2 + 1 / 3)) < 1e-9
    assert backward == 0


def test_every_mask_of_the_edge_engine_is_a_run() -> None:
    model = Transformer(CONFIG)
    with torch.no_grad():
        off = write_outputs(model, CORRUPT)
        with counting() as cost:
            run_edges(model, CLEAN, torch.ones(7, len(list_edges(model))), off)
    assert cost.count_passes(3, 2) == (7.0, 0.0)


def test_activation_patching_resumes_at_the_layer_that_it_patches() -> None:
    model = Transformer(CONFIG)
    with counting() as cost:
        patch_activations(model, CLEAN, CORRUPT, last_logit, "resid_pre", direction="denoise")
    forward, _ = cost.count_passes(3, 2)
    # Two runs to read, then each of four positions from layer 0, 1 and 2 on.
    assert forward == 2 + 4 * (3 + 2 + 1) / 3


def test_a_gradient_counts_where_it_comes_back() -> None:
    model = Transformer(CONFIG)
    with counting() as cost:
        attribution_patch(model, CLEAN, CORRUPT, last_logit, "resid_pre", direction="denoise")
    assert cost.count_passes(3, 2)[1] == 1
    with counting() as cost:
        loss = model(CLEAN).sum()
        for _ in range(4):
            torch.autograd.grad(loss, model.W_E, retain_graph=True)
    assert cost.count_passes(3, 2) == (1.0, 4.0)


def test_a_gradient_in_the_masks_of_the_edge_engine_counts_per_mask() -> None:
    model = Transformer(CONFIG)
    with torch.no_grad():
        off = write_outputs(model, CORRUPT)
    masks = torch.full((5, len(list_edges(model))), 0.5, requires_grad=True)
    with counting() as cost:
        torch.autograd.grad(run_edges(model, CLEAN, masks, off).sum(), masks)
    assert cost.count_passes(3, 2) == (5.0, 5.0)


def test_a_gradient_that_only_weights_need_counts_too() -> None:
    model = Transformer(CONFIG)
    stream = torch.zeros(2, 4, 8)
    with counting() as cost:
        model(resid=stream).sum().backward()
    assert cost.count_passes(3, 2) == (1.0, 1.0)


def test_nothing_is_counted_after_the_block_and_no_hook_stays() -> None:
    model, before = Transformer(CONFIG), len(torch_module._global_forward_hooks)
    try:
        with counting() as cost:
            raise KeyError("in between")
    except KeyError:
        model(CLEAN)
    assert cost.forward_rows == 0
    assert len(torch_module._global_forward_hooks) == before
