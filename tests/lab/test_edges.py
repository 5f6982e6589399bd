"""The edge engine against its definition: hooks that rebuild each reader's input, one reader at a time."""

import pytest
import torch
from sample_models import CONFIGS, draw_tokens, scramble
from torch import Tensor

from mini_transformer import Config, Transformer, toys
from mini_transformer.edges import list_edges, list_writers, mask_of, run_edges, write_outputs

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def make_case(config: Config) -> tuple[Transformer, Tensor, Tensor]:
    return scramble(config), draw_tokens(config, seed=1), draw_tokens(config, seed=2)


def run_slowly(model: Transformer, clean: Tensor, off: Tensor, edges_on: set[str]) -> Tensor:
    """One forward in which hooks replace what every head, MLP and the unembedding reads."""
    writers, written, biases = list_writers(model), {}, 0.0

    def record(name: str):
        return lambda value, hook: written.__setitem__(name, value.clone())

    def record_heads(value: Tensor, hook: object) -> None:
        for head in range(model.config.n_heads):
            written[f"a{hook.layer}.h{head}"] = value[:, :, head].clone()

    def read(reader: str, biases: Tensor | float) -> Tensor:
        total = torch.zeros_like(off[0]) + biases
        for i, writer in enumerate(writers):
            if writer in written:
                total += written[writer] if f"{writer}->{reader}" in edges_on else off[i]
        return total

    def read_heads(part: str, biases: Tensor | float):
        def replace(value: Tensor, hook: object) -> Tensor:
            heads = range(model.config.n_heads)
            return torch.stack(
                [read(f"a{hook.layer}.h{head}<{part}>", biases) for head in heads], dim=2
            )

        return replace

    def replace(reader: str, biases: Tensor | float):
        return lambda value, hook: read(reader, biases)

    written["input"] = model(clean, stop_at_layer=0)
    hooks = []
    for layer, block in enumerate(model.blocks):
        hooks += [((f"{part}_input", layer), read_heads(part, biases)) for part in "qkv"]
        hooks += [(("result", layer), record_heads)]
        biases = biases if block.attn.b_O is None else biases + block.attn.b_O
        if block.mlp is not None:
            hooks += [
                (("mlp_in", layer), replace(f"m{layer}", biases)),
                (("mlp_out", layer), record(f"m{layer}")),
            ]
    if model.config.n_layers:
        hooks += [(("resid_post", model.config.n_layers - 1), replace("logits", biases))]
        return model.run_with_hooks(clean, fwd_hooks=hooks)
    return model.unembed(read("logits", 0.0))


@every_config
def test_all_edges_on_is_the_clean_run_and_all_off_is_the_corrupt_run(config):
    model, clean, corrupt = make_case(config)
    model, count = model.float(), len(list_edges(model))
    masks = torch.stack([torch.ones(count), torch.zeros(count)])
    logits = run_edges(model, clean, masks, write_outputs(model, corrupt))
    torch.testing.assert_close(logits[0], model(clean), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits[1], model(corrupt), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", toys.names())
def test_on_every_toy_all_edges_on_is_the_clean_run_and_all_off_is_the_corrupt_run(name):
    case = toys.load(name)
    batch = case.task.draw(4)
    masks = torch.tensor([[1.0], [0.0]]).expand(2, len(list_edges(case.model)))
    with torch.no_grad():
        logits = run_edges(case.model, batch.clean, masks, write_outputs(case.model, batch.corrupt))
        expected = torch.stack([case.model(batch.clean), case.model(batch.corrupt)])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@every_config
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_any_mask_gives_what_hooks_on_every_reader_give(config, ablation):
    model, clean, corrupt = make_case(config)
    edges, off = list_edges(model), write_outputs(model, corrupt, ablation)
    masks = (torch.rand(3, len(edges), generator=torch.Generator().manual_seed(0)) < 0.7).double()
    logits = run_edges(model, clean, masks, off)
    for mask, got in zip(masks, logits, strict=True):
        on = {edge for edge, kept in zip(edges, mask, strict=True) if kept}
        torch.testing.assert_close(got, run_slowly(model, clean, off, on))


@pytest.mark.parametrize("name", ["plain", "learned_positions_to_qk", "rms_tied_full"])
def test_every_single_edge_off_gives_what_hooks_give_and_matters(name):
    model, clean, corrupt = make_case(CONFIGS[name])
    edges, off = list_edges(model), write_outputs(model, corrupt)
    logits, clean_logits = run_edges(model, clean, 1 - torch.eye(len(edges)), off), model(clean)
    for edge, got in zip(edges, logits, strict=True):
        torch.testing.assert_close(got, run_slowly(model, clean, off, set(edges) - {edge}))
        assert (got - clean_logits).abs().max() > 1e-4, f"{edge} does nothing"


@pytest.mark.parametrize("name", ["layer_norm_relu_biases", "learned_positions_to_qk"])
def test_the_gradient_in_the_mask_is_that_of_finite_differences(name):
    model, clean, corrupt = make_case(CONFIGS[name])
    off, count = write_outputs(model, corrupt).detach(), len(list_edges(model))
    start = torch.rand(1, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = (
        torch.rand(count, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    )

    def score(masks: Tensor) -> Tensor:
        return run_edges(model, clean, masks, off)[0, :, -1, 0].sum()

    masks = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(masks), masks)
    with torch.no_grad():
        one_by_one = [
            (score(start + d) - score(start - d)) / 2e-5
            for d in 1e-5 * torch.eye(count).double()[:, None]
        ]
        along = (score(start + 1e-5 * slopes) - score(start - 1e-5 * slopes)) / 2e-5
    torch.testing.assert_close(gradient[0], torch.stack(one_by_one), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close((gradient[0] * slopes).sum(), along, rtol=1e-5, atol=1e-7)


@every_config
def test_edges_go_forward_and_each_is_listed_once(config):
    model = scramble(config)
    writers, edges = list_writers(model), list_edges(model)
    heads, mlps = config.n_layers * config.n_heads, config.n_layers * bool(config.d_mlp)
    assert len(writers) == 1 + heads + mlps
    assert len(set(edges)) == len(edges)
    for edge in edges:
        writer, reader = edge.split("->")
        reader = reader.split("<")[0]
        assert reader == "logits" or writer == "input" or place(writer) < place(reader), edge
    per_layer = config.n_heads + bool(config.d_mlp)  # writers that a layer adds
    expected = 1 + per_layer * config.n_layers  # to the logits
    for layer in range(config.n_layers):
        before = 1 + per_layer * layer
        expected += 3 * config.n_heads * before + bool(config.d_mlp) * (before + config.n_heads)
    assert len(edges) == expected


def place(node: str) -> tuple[int, bool]:
    """Layer, and whether it is the MLP: heads of one layer do not read each other, its MLP reads them."""
    return int(node[1:].split(".")[0]), node.startswith("m")


def test_off_values_are_zero_or_a_mean_or_another_run():
    model, _, corrupt = make_case(CONFIGS["layer_norm_relu_biases"])
    resampled = write_outputs(model, corrupt, "resample")
    assert not write_outputs(model, corrupt, "zero").any()
    mean = write_outputs(model, corrupt, "mean")
    torch.testing.assert_close(mean[:, 0], resampled.mean(dim=1))
    torch.testing.assert_close(mean[:, 1], mean[:, 0])


def test_masks_between_zero_and_one_mix_the_two_values():
    model, clean, corrupt = make_case(CONFIGS["no_layers"])
    off, mixed = write_outputs(model, corrupt), torch.tensor([[0.25]])
    stream = 0.25 * model(clean, stop_at_layer=0) + 0.75 * off[0]
    torch.testing.assert_close(run_edges(model, clean, mixed, off)[0], model.unembed(stream))


def test_a_mask_names_its_edges():
    model = scramble(CONFIGS["plain"])
    mask = mask_of(model, ["a0.h1->a1.h0<k>", "a1.h2->logits"])
    assert [edge for edge, on in zip(list_edges(model), mask, strict=True) if on] == [
        "a0.h1->a1.h0<k>",
        "a1.h2->logits",
    ]
    with pytest.raises(KeyError, match=r"no edge is called 'a1.h0->a0.h0<k>' in this model"):
        mask_of(model, ["a1.h0->a0.h0<k>"])


def test_running_edges_leaves_the_model_as_it_was():
    model, clean, corrupt = make_case(CONFIGS["plain"])
    before = model(clean)
    run_edges(model, clean, torch.zeros(1, len(list_edges(model))), write_outputs(model, corrupt))
    assert torch.equal(model(clean), before)
    assert not any(point.on for point in model.hook_points.values())
