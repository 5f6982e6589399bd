"""The edge engine against its definition: hooks that rebuild each reader's input, one reader at
a time.
"""

import ast
from pathlib import Path

import pytest
import torch
from sample_models import CONFIGS, draw_tokens, scramble
from torch import Tensor

import mini_transformer
from mini_transformer import Config, Transformer, batches, toys
from mini_transformer import edges as engine
from mini_transformer.edges import (
    Edge,
    EdgeScores,
    Node,
    Switch,
    list_edges,
    list_writers,
    mask_of,
    parse_path,
    run_edges,
    run_masks,
    write_outputs,
    write_under,
)

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def make_case(config: Config) -> tuple[Transformer, Tensor, Tensor]:
    return scramble(config), draw_tokens(config, seed=1), draw_tokens(config, seed=2)


def run_slowly(model: Transformer, clean: Tensor, off: Tensor, edges_on: set[str]) -> Tensor:
    """One forward in which hooks replace what every head, MLP and the unembedding reads.

    An edge that is on has its name in `edges_on`, or at some positions one like "input->m0 @3".
    """
    writers, written, biases = list_writers(model), {}, 0.0
    positions = range(clean.shape[1])

    def record(name: str):
        return lambda value, hook: written.__setitem__(name, value.clone())

    def record_heads(value: Tensor, hook: object) -> None:
        for head in range(model.config.n_heads):
            written[f"a{hook.layer}.h{head}"] = value[:, :, head].clone()

    def read(reader: str, biases: Tensor | float) -> Tensor:
        total = torch.zeros_like(off[0]) + biases
        for i, writer in enumerate(writers):
            if writer in written:
                edge = f"{writer}->{reader}"
                on = [{edge, f"{edge} @{position}"} & edges_on != set() for position in positions]
                total += torch.where(torch.tensor(on)[:, None], written[writer], off[i])
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


@every_config
@pytest.mark.parametrize("ablation", ["zero", "mean", "resample"])
def test_any_mask_by_position_gives_what_hooks_on_every_reader_give(config, ablation):
    model, clean, corrupt = make_case(config)
    off, n_positions = write_outputs(model, corrupt, ablation), clean.shape[1]
    shape = 2, len(list_edges(model)), n_positions
    masks = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    names = EdgeScores(model, masks[0]).keys()
    for mask, got in zip(masks, run_edges(model, clean, masks, off), strict=True):
        on = {name for name, kept in zip(names, mask.flatten(), strict=True) if kept}
        torch.testing.assert_close(got, run_slowly(model, clean, off, on))
        torch.testing.assert_close(mask_of(model, on, n_positions).double(), mask)


def test_a_mask_that_is_the_same_at_all_positions_is_the_plain_one():
    model, clean, corrupt = make_case(CONFIGS["layer_norm_relu_biases"])
    off, n_positions = write_outputs(model, corrupt), clean.shape[1]
    shape = 3, len(list_edges(model))
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    masks.requires_grad_()
    spread = masks.detach().unsqueeze(-1).repeat(1, 1, n_positions).requires_grad_()
    found = [run_edges(model, clean, some, off) for some in (masks, spread)]
    torch.testing.assert_close(*found)
    plain, by_position = (
        torch.autograd.grad(logits[:, :, -1].sum(), some)[0]
        for logits, some in zip(found, (masks, spread), strict=True)
    )
    torch.testing.assert_close(by_position.sum(dim=-1), plain)
    for written, expected in zip(
        write_under(model, clean, spread, off), write_under(model, clean, masks, off), strict=True
    ):
        torch.testing.assert_close(written, expected)
    parts = list(run_masks(model, clean, spread, off, batch_size=len(clean)))
    assert len(parts) == 3
    torch.testing.assert_close(torch.cat(parts), found[0])


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
        parsed = Edge.parse(edge)
        part = edge[-2] if edge.endswith(">") else None
        assert (str(parsed.writer), str(parsed.reader), parsed.part) == (writer, reader, part)
        assert str(parsed) == edge
        assert parsed.receiver == edge.split("->")[1]
    assert [str(Node.parse(writer)) for writer in writers] == writers
    per_layer = config.n_heads + bool(config.d_mlp)  # writers that a layer adds
    expected = 1 + per_layer * config.n_layers  # to the logits
    for layer in range(config.n_layers):
        before = 1 + per_layer * layer
        expected += 3 * config.n_heads * before + bool(config.d_mlp) * (before + config.n_heads)
    assert len(edges) == expected


def place(node: str) -> tuple[int, bool]:
    """Layer, and whether it is the MLP: heads of one layer do not read each other, its MLP reads
    them.
    """
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
    by_position = mask_of(model, ["a0.h1->a1.h0<k> @2", "a1.h2->logits"], n_positions=4)
    assert by_position.shape == (*mask.shape, 4)
    assert torch.equal(by_position.amax(dim=1), mask)
    assert by_position[mask.bool()].tolist() == [[0, 0, 1, 0], [1, 1, 1, 1]]
    for switch in ("a1.h0->a0.h0<k>", "a1.h0->a0.h0<k> @1"):
        with pytest.raises(KeyError, match=r"no edge is called 'a1.h0->a0.h0<k>' in this model"):
            mask_of(model, [switch], n_positions=4)


def test_running_edges_leaves_the_model_as_it_was():
    model, clean, corrupt = make_case(CONFIGS["plain"])
    before = model(clean)
    run_edges(model, clean, torch.zeros(1, len(list_edges(model))), write_outputs(model, corrupt))
    assert torch.equal(model(clean), before)
    assert not any(point.on for point in model.hook_points.values())


def test_nodes_and_edges_are_what_their_names_say():
    assert Node.parse("a12.h3") == Node("head", 12, 3)
    assert Node.parse("m10") == Node("mlp", 10)
    assert [Node.parse(end) for end in ("input", "logits")] == [Node("input"), Node("logits")]
    assert Node.parse("a12.h3").place == (12, 3)
    with pytest.raises(KeyError, match=r"'m10' is no head; heads look like 'a0\.h1'"):
        _ = Node.parse("m10").place
    head = Node("head", 1, 0)
    assert Edge.parse("m0->a1.h0<v>") == Edge(Node("mlp", 0), head, "v")
    assert parse_path("m0 -> a1.h0<v>->logits") == [
        Edge(Node("mlp", 0), head, "v"),
        Edge(head, Node("logits")),
    ]


def test_a_switch_is_an_edge_or_an_edge_at_one_position():
    for name, switch in {
        "input->m0": Switch("input->m0"),
        "a0.h1->a1.h0<k> @12": Switch("a0.h1->a1.h0<k>", 12),
        "input->m0 @": Switch("input->m0 @"),
        "input->m0 @-1": Switch("input->m0 @-1"),
        "input->m0 @02": Switch("input->m0 @02"),
    }.items():
        assert Switch.parse(name) == switch
        assert str(switch) == name


@pytest.mark.parametrize(
    ("parse", "name", "nearest"),
    [
        (Node.parse, "A1.H2", "a1.h2"),
        (Node.parse, "a1h2", "a1.h2"),
        (Node.parse, "a01.h2", "a1.h2"),
        (Node.parse, "mlp3", "m3"),
        (Node.parse, "logit", "logits"),
        (Node.parse, "a1.h2\n", "a1.h2"),
        (Edge.parse, "a0.h0->a1.h0", "a0.h0->a1.h0<q>"),
        (Edge.parse, "a0.h0->a1.h0<kv>", "a0.h0->a1.h0<k>"),
        (Edge.parse, "input->m0<k>", "input->m0"),
        (Edge.parse, "logits->m0", "input->m0"),
        (Edge.parse, "m0->input", "m0->logits"),
        (Edge.parse, "a0.h0->a1.h0<k>->logits", "a0.h0->a1.h0<k>"),
    ],
)
def test_a_name_that_is_none_is_refused_with_the_nearest(parse, name, nearest):
    kind = "node" if parse == Node.parse else "edge"
    with pytest.raises(KeyError) as error:
        parse(name)
    assert error.value.args[0] == f"no {kind} is called {name!r}; nearest: {nearest!r}"
    assert str(parse(nearest)) == nearest


def takes_a_name_apart(call: ast.Call) -> bool:
    """Tell whether this is a string method that is given a part of a node's or an edge's name."""
    methods = ("split", "rsplit", "partition", "rpartition", "startswith", "endswith")
    methods += ("removeprefix", "removesuffix", "strip", "lstrip", "rstrip", "find", "index")
    if not (isinstance(call.func, ast.Attribute) and call.func.attr in methods):
        return False
    given = [
        text.value
        for argument in call.args
        for text in ast.walk(argument)
        if isinstance(text, ast.Constant) and isinstance(text.value, str)
    ]
    parts = ("h", "a", "m") if call.func.attr == "startswith" else ("<", ">", "h", "a", "m")
    marks = any(
        "->" in text or "@" in text or text.endswith(".h") or text in parts for text in given
    )
    cut = isinstance(call.func.value, ast.Subscript) and isinstance(
        call.func.value.slice, ast.Slice
    )
    return marks or (cut and given == ["."])


def test_nobody_else_takes_names_apart():
    found = []
    package = Path(mini_transformer.__file__).parent
    for path in package.rglob("*.py"):
        if path == Path(engine.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and takes_a_name_apart(node):
                found.append(f"{path.relative_to(package)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'edge.split("->")[0]',
        'reader.split("<")[0]',
        'int(node[1:].split(".")[0])',
        'node[1:].partition(".h")',
        'writer.split("h")[1]',
        'edge.startswith(f"{writer}->")',
        'node.startswith("m")',
        'switch.split(" @")',
    ],
)
def test_the_search_for_names_that_are_taken_apart_finds_the_old_ways(line):
    calls = [node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)]
    assert any(takes_a_name_apart(call) for call in calls)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 4, 7, 1000])
@pytest.mark.parametrize("name", ["layer_norm_relu_biases", "learned_positions_to_qk", "no_layers"])
def test_masks_in_parts_give_what_all_masks_at_once_give(name, batch_size):
    model, clean, corrupt = make_case(CONFIGS[name])
    off, count = write_outputs(model, corrupt), len(list_edges(model))
    masks = (torch.rand(5, count, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    parts = list(run_masks(model, clean, masks, off, batch_size))
    torch.testing.assert_close(torch.cat(parts), run_edges(model, clean, masks, off))
    if batch_size is not None:
        at_once = max(1, batch_size // len(clean))
        assert [len(part) for part in parts] == [len(some) for some in masks.split(at_once)]
    with pytest.raises(ValueError, match="batch_size is 0, but must be at least 1, or None"):
        next(run_masks(model, clean, masks, off, 0))


def test_no_run_of_masks_holds_more_than_its_share(monkeypatch):
    """Neither prompts nor masks make a run larger than the budget, as counted by what it stacks."""
    model, clean, corrupt = make_case(CONFIGS["plain"])
    off, count = write_outputs(model, corrupt), len(list_edges(model))
    sizes = []

    def watch(model, tokens, masks, off):
        sizes.append(len(masks) * len(tokens))
        return run_edges(model, tokens, masks, off)

    monkeypatch.setattr(engine, "run_edges", watch)
    per_prompt = 4 * off[:, 0].numel()  # what the writers write, at the very least
    for budget in (1.0, 5e4, 1e9):
        monkeypatch.setattr(batches, "BUDGET", budget)
        sizes.clear()
        assert sum(map(len, run_masks(model, clean, torch.ones(9, count).double(), off))) == 9
        assert max(sizes) == 1 or max(sizes) * per_prompt < budget
        assert sum(sizes) == 9 * len(clean)
    assert sizes == [9 * len(clean)]


def test_what_is_written_under_masks_is_what_the_engine_computes():
    model, clean, corrupt = make_case(CONFIGS["layer_norm_relu_biases"])
    off, count = write_outputs(model, corrupt), len(list_edges(model))
    ends = torch.stack([torch.ones(count), torch.zeros(count)]).double()
    found = write_under(model, clean, ends, off)
    torch.testing.assert_close(found[:, 0], write_outputs(model, clean))
    torch.testing.assert_close(found[1:, 1], off[1:])
    mask = (torch.rand(1, count, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    found = write_under(model, clean, mask, off)
    with model.recording([("result", 1), ("post", 0)]) as values:
        run_edges(model, clean, mask, off)
    writers, mlp = list_writers(model), model.blocks[0].mlp
    head = found[writers.index("a1.h0"), 0]
    torch.testing.assert_close(head, values["result", 1][:, :, 0])
    written = values["post", 0] @ mlp.W_out + mlp.b_out
    torch.testing.assert_close(found[writers.index("m0"), 0], written)


def make_scores(values: list[float]) -> EdgeScores:
    return EdgeScores(Transformer(Config(5, 4, d_model=8, n_layers=1)), torch.tensor(values))


def test_scores_are_a_mapping_in_the_order_of_the_edges():
    scores = make_scores([0.0, 1.0, -4.0, 3.0, 2.0])
    names = ["input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->logits"]
    names.append("a0.h0->logits")
    assert list(scores) == scores.keys() == names
    assert len(scores) == 5
    assert [(name, value.item()) for name, value in scores.items()] == list(
        zip(names, [0.0, 1.0, -4.0, 3.0, 2.0], strict=True)
    )
    assert {name: float(value) for name, value in dict(scores).items()}["input->logits"] == 3.0
    assert scores["input->a0.h0<v>"] == scores[Edge.parse("input->a0.h0<v>")] == -4.0
    assert "input->logits" in scores
    assert Edge.parse("a0.h0->logits") in scores
    assert "input->m0" not in scores
    assert repr(scores) == (
        "EdgeScores(5 edges; input->logits 3, a0.h0->logits 2, input->a0.h0<k> 1)"
    )
    with pytest.raises(KeyError, match=r"'input->a0\.h0' in this model; .* 'input->a0\.h0<.>'"):
        scores["input->a0.h0"]


def test_scores_by_position_are_a_mapping_and_add_up_to_those_of_the_edges():
    model = Transformer(Config(5, 4, d_model=8, n_layers=1))
    values = torch.tensor([[0.0, 1.0], [5.0, -5.0], [2.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    scores = EdgeScores(model, values)
    edges = list_edges(model)
    assert list(scores) == [f"{edge} @{position}" for edge in edges for position in (0, 1)]
    assert len(scores) == 10
    assert [value.item() for _, value in scores.items()] == values.flatten().tolist()
    assert scores["input->a0.h0<k> @1"] == scores[Switch("input->a0.h0<k>", 1)] == -5
    assert scores["input->a0.h0<k>"].tolist() == [5, -5]
    assert "input->logits @1" in scores
    assert "input->logits" not in scores
    assert scores.top(3) == ["input->a0.h0<k> @0", "a0.h0->logits @1", "input->logits @0"]
    assert torch.equal(scores.mask(3), mask_of(model, scores.top(3), n_positions=2))
    assert scores.sum()["input->a0.h0<k>"] == 0
    assert list(scores.sum()) == edges
    assert torch.equal(scores.sum().values, values.sum(dim=1))
    assert torch.equal(scores.sum().sum().values, scores.sum().values)
    assert repr(scores).startswith("EdgeScores(10 edges; input->a0.h0<k> @0 5, a0.h0->logits @1 4")
    with pytest.raises(KeyError, match=r"'input->m0' in this model"):
        scores["input->m0 @0"]


def test_the_highest_scores_are_named_ties_in_order_and_nan_last():
    nan, infinite = float("nan"), float("inf")
    names = make_scores([0.0] * 5).keys()
    assert make_scores([1.0, 3.0, 1.0, 3.0, 2.0]).top(5) == [names[i] for i in (1, 3, 4, 0, 2)]
    assert make_scores([nan, -infinite, 1.0, nan, infinite]).top(5) == [
        names[i] for i in (4, 2, 1, 0, 3)
    ]
    scores = make_scores([1.0, 3.0, 1.0, 3.0, 2.0])
    assert scores.top(0) == []
    for k in range(6):
        assert torch.equal(
            scores.mask(k), mask_of(Transformer(Config(5, 4, d_model=8, n_layers=1)), scores.top(k))
        )
    for k in (-1, 6):
        with pytest.raises(ValueError, match=f"the {k} highest edges were asked for, but"):
            scores.top(k)


def test_scores_are_one_per_edge_and_their_own():
    with pytest.raises(ValueError, match=r"scores are \(3,\), expected \(5,\): one per edge of"):
        make_scores([0.0, 1.0, 2.0])
    values = torch.zeros(5)
    scores = EdgeScores(Transformer(Config(5, 4, d_model=8, n_layers=1)), values)
    values += 1
    assert not scores.values.any()
