"""A page computes what PyTorch computes, under every kind of edit, and keeps to its bounds."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from edits import BROWSER, dump, read_body, run_in_browser, run_in_node, write_edits
from typer.testing import CliRunner

from mini_transformer import Config, Transformer, forge, toys
from mini_transformer.cli import app
from mini_transformer.edges import list_edges
from mini_transformer.play import embed, play, write
from mini_transformer.play.page import (
    HERE,
    MOST_BYTES,
    SCENES,
    SCRIPTS,
    build_page,
    describe_case,
    describe_prompts,
    list_weights,
    pack_weights,
)

node = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")
chromium = pytest.mark.skipif(not BROWSER, reason="neither Chromium nor Chrome is installed")
SIZES = dict(d_vocab=7, n_ctx=6, d_model=8, n_layers=2, n_heads=2)
ODD = [
    dict(norm="layer", biases=True, act="gelu", d_mlp=12),
    dict(norm="rms", positions="sinusoidal", tied=True, window=2, d_mlp=8),
    dict(norm="layer", positions_to="qk", causal=False, attn_scale=0.7),
    dict(d_head=3, d_vocab_out=4, biases=True, positions="none"),
    dict(n_layers=0),
]


def make_model(**options) -> Transformer:
    """Make a model none of whose weights, biases and gains is what it starts from."""
    model = Transformer(Config(**SIZES | options), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def read_data(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def read_pairs(told: dict, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    prompts = (told["prompts"] * n)[:n]
    return tuple(
        torch.tensor([prompt[which] for prompt in prompts]) for which in ("clean", "corrupt")
    )


def measure_error(run, model, told, n_prompts, n_edits, *where) -> float:
    """Measure the largest difference of a logit, as a share of the largest logit."""
    over = told["over"][:256]
    edits, expected = write_edits(model, *read_pairs(told, n_prompts), over, n_edits)
    got = run(build_page(model, told | {"over": over}), edits, *where)
    return ((got - expected).abs().max() / expected.abs().max()).item()


@node
def test_logits_of_edited_runs_are_those_of_pytorch_whatever_the_configuration():
    tokens = torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(0))
    for options in ODD:
        model = make_model(**options)
        told = {"name": "odd", "prompts": describe_prompts(model, tokens), "over": tokens}
        assert measure_error(run_in_node, model, told, 3, 12) < 1e-5, options


@node
def test_logits_of_a_toy_under_edits_are_those_of_pytorch():
    case = toys.load("refusal_with_trigger")
    assert measure_error(run_in_node, case.model, describe_case(case), 4, 18) < 1e-5


@chromium
@pytest.mark.slow
@pytest.mark.parametrize("name", [*toys.names(), "forge"])
def test_logits_in_the_browser_are_those_of_pytorch(name, tmp_path):
    case = forge.make(1) if name == "forge" else toys.load(name)
    assert measure_error(run_in_browser, case.model, describe_case(case), 20, 20, tmp_path) < 1e-4


def look(case, folder, script, *options) -> dict:
    """Open the page of a case, run a script, and read what its variable `found` holds."""
    script += ";document.body.textContent = JSON.stringify(found);"
    page = build_page(case.model, describe_case(case))
    return json.loads(read_body(dump(page, folder, script, *options)))


@chromium
@pytest.mark.slow
def test_a_click_switches_a_head_off_and_shows_what_pytorch_says_then(tmp_path):
    case = toys.load("induction_by_hand")
    script = """
        const node = document.querySelector('[data-key="node a1.h0"]');
        node.focus();
        node.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
        const focused = document.activeElement.dataset.key;
        document.querySelector('[data-key="a1.h0"]').click();
        const found = [$("says").textContent, $("edited").textContent, focused];
    """
    said, edited, focused = look(case, tmp_path, script)
    assert focused == "node a1.h0"  # drawn anew, and still in focus
    tokens = torch.tensor([describe_case(case)["prompts"][0]["clean"]])
    keep = torch.tensor([0.0, 1.0])[:, None]
    with torch.no_grad(), case.model.hooks([(("z", 1), lambda z, _: z * keep)]):
        (share, second), _ = case.model(tokens)[0, -1].softmax(dim=-1).topk(2)
    assert share == second
    assert f"says tie ({round(100 * share.item())}%)" in said
    assert edited == "Off: 1 of 29 edges, 0 neurons."


@chromium
@pytest.mark.slow
def test_the_logit_lens_names_the_likeliest_output_and_no_other_where_some_tie(tmp_path):
    case = toys.load("induction_by_hand")
    script = """
        const rows = [...document.querySelectorAll("#layers tr")].slice(1);
        const found = rows.map((row) => [...row.querySelectorAll("td")].map((td) => td.innerText));
    """
    found = look(case, tmp_path, script)
    tokens = torch.tensor([describe_case(case)["prompts"][0]["clean"]])
    with torch.no_grad():
        streams = [case.model(tokens, stop_at_layer=layer) for layer in range(3)]
        first = [case.model.unembed(stream)[0].topk(2, dim=-1) for stream in streams]
    expected = [
        [
            "tie" if high - next_one < 1e-4 else case.task.token_names[token]
            for (high, next_one), (token, _) in zip(*map(torch.Tensor.tolist, layer), strict=True)
        ]
        for layer in first
    ]
    assert found == expected
    assert {"tie"} < {cell for row in expected for cell in row}


@chromium
@pytest.mark.slow
@pytest.mark.parametrize("direction", ["answer", "token", "a0.h1"])
def test_steering_adds_the_direction_that_was_chosen(direction, tmp_path):
    case = toys.load("induction")
    script = f"""
        const choices = {{ direction: "{direction}", layer: 1, steerAt: 23, amount: -1.5 }};
        for (const [id, value] of Object.entries(choices)) $(id).value = value;
        $("amount").dispatchEvent(new Event("input", {{ bubbles: true }}));
        const found = [...runs.now.logits[23]];
    """
    found = torch.tensor(look(case, tmp_path, script))
    model = case.model
    prompt = describe_case(case)["prompts"][0]
    ((_, answer, wrong),) = prompt["asked"]
    clean, corrupt = (torch.tensor([prompt[name]]) for name in ("clean", "corrupt"))
    with torch.no_grad():
        result = model.run_with_cache(clean, names_filter=("result", 0))[1]["result", 0]
        vector = {
            "answer": model.W_U[:, answer] - model.W_U[:, wrong],
            "token": model.W_E[corrupt[0, 23]] - model.W_E[clean[0, 23]],
            "a0.h1": result[0, 23, 1],
        }[direction]
        added = -1.5 * vector * (torch.arange(24) == 23).float()[:, None]
        with model.hooks([(("resid_pre", 1), lambda resid, _: resid + added)]):
            expected = model(clean)[0, -1]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@chromium
@pytest.mark.slow
@pytest.mark.parametrize("name", ["boolean_redundant_or", "clock_by_hand", "forge"])
def test_only_the_circuit_is_kept_and_answers_every_example(name, tmp_path):
    case = forge.make(1) if name == "forge" else toys.load(name)
    script = """
        const found = {};
        for (const ablation of Object.keys(data.circuits)) {
          actions.set(ablation, "ablation");
          actions.keep();
          const kept = listLive();
          const right = data.prompts.filter(isRight).length;
          for (const edge of edges) maskOf(edge).fill(Number(!kept.includes(edge)));
          found[ablation] = [kept.length, right, data.prompts.filter(isRight).length];
          forgetEdits();
        }
    """
    found = look(case, tmp_path, script)
    n_prompts = len(describe_case(case)["prompts"])
    assert list(found) == list(case.truth.circuits)
    for ablation, (kept, right, without) in found.items():
        assert kept in {len(circuit) for circuit in case.truth.circuits[ablation].edges}
        assert right == n_prompts
        assert without < n_prompts


@chromium
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["induction_by_hand", "style_grammar", "tracr_frac_prevs"])
def test_axe_finds_nothing_serious(name, scheme, tmp_path):
    axe = find_in_modules("axe-core/axe.min.js").read_text(encoding="utf-8")
    script = """
        document.querySelector("#inspector button").click();
        document.querySelector("#reveal").click();
        for (const part of document.querySelectorAll("details")) part.open = true;
        axe.run().then(({ violations }) => {
          const serious = violations.filter(({ impact }) => !impact.startsWith("m"));
          const found = serious.map(({ id, nodes }) => [id, nodes[0].html]);
          document.body.textContent = JSON.stringify(found);
        });
    """
    options = ["--virtual-time-budget=60000"]
    if scheme == "dark":
        options += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
    case = toys.load(name)
    page = build_page(case.model, describe_case(case))
    assert json.loads(read_body(dump(page, tmp_path, axe + script, *options))) == []


@node
def test_eslint_finds_nothing(tmp_path):
    eslint = find_in_modules("eslint/bin/eslint.js")
    joined = "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    shutil.copy(Path(__file__).parent / "eslint.config.mjs", tmp_path)
    (tmp_path / "page.js").write_text(joined, encoding="utf-8")
    command = ["node", str(eslint), "-c", "eslint.config.mjs", "page.js"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def find_in_modules(path: str) -> Path:
    """Find a file of an npm package, by default in node_modules here; skip without it."""
    found = Path(os.environ.get("NODE_MODULES", "node_modules"), path).resolve()
    if not found.is_file():
        pytest.skip(f"{path} is not there: npm install axe-core eslint, or set NODE_MODULES")
    return found


def test_a_page_is_one_small_file_that_asks_for_nothing(tmp_path):
    page = write(tmp_path / "page.html", toys.load("modular_addition")).read_text()
    assert len(page.encode()) <= MOST_BYTES
    assert not re.findall(r"https?:|src=|<link|@import|url\(|fetch\(|import ", page)
    assert "<!--" not in page


def test_the_scripts_are_three_and_short():
    lines = [line for name in SCRIPTS for line in (HERE / name).read_text().splitlines()]
    assert sorted(path.name for path in HERE.glob("*.js")) == sorted(SCRIPTS)
    assert len([line for line in lines if line.strip()]) <= 600
    assert max(map(len, lines)) <= 100


def test_a_case_brings_its_prompts_names_and_circuits():
    case = toys.load("boolean_xor")
    data = read_data(build_page(case.model, describe_case(case)))
    assert len(data["prompts"]) == 4
    assert data["prompts"][0]["asked"] == [[5, 0, 1]]
    assert data["tokens"] == list(case.task.token_names)
    nodes = list(data["places"])
    names = [
        f"{nodes[i]}->{nodes[j]}" + (f"<{part}>" if part else "") for i, j, part in data["edges"]
    ]
    assert names == list_edges(case.model)
    circuit = {names[edge] for edge in data["circuits"]["zero"]["edges"][0]}
    assert circuit == case.truth.circuits["zero"].edges[0]


def test_outputs_that_are_no_tokens_have_names():
    told = {name: describe_case(toys.load(name))["outputs"] for name in ("tracr_hist", "brackets")}
    assert told == {"tracr_hist": ["0", "1", "2", "3", "4"], "brackets": ["unbalanced", "balanced"]}


def test_a_model_alone_asks_for_its_likeliest_next_token():
    model = make_model()
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    first, second = describe_prompts(model, tokens)
    logits = model(tokens)[0, -1]
    assert first["asked"] == [(2, logits.argmax().item(), logits.topk(2).indices[1].item())]
    assert (first["corrupt"], second["corrupt"]) == ([4, 5, 6], [1, 2, 3])


def test_weights_are_rounded_by_less_than_a_millionth_of_the_largest_in_their_matrix():
    weights = list_weights(make_model(tied=True, positions="sinusoidal")) | {"none": torch.zeros(3)}
    packed = pack_weights(weights)
    raw = base64.b64decode(packed["weights"])
    numbers = [int.from_bytes(raw[i : i + 3], "little", signed=True) for i in range(0, len(raw), 3)]
    for name, size, step in packed["shapes"]:
        read = torch.tensor([step * numbers.pop(0) for _ in range(size)], dtype=torch.float64)
        weight = weights[name].flatten().double()
        assert ((read - weight).abs() <= 2**-24 * weight.abs().max() * 1.001).all()
    assert not numbers


def test_a_scene_hides_the_rest():
    model = make_model()
    tokens = torch.tensor([[1, 2]])
    told = {"name": "x", "prompts": describe_prompts(model, tokens), "over": tokens}
    hidden = re.search(
        r"\nheader, (#.*) \{ display: none; \}", build_page(model, told, "patterns")
    )[1]
    assert hidden.split(", ") == [f"#{name}" for name in SCENES["all"] if name != "patterns"]


def test_a_name_is_text_and_never_part_of_the_page(tmp_path):
    names = ["<script>alert(1)</script>", "<!-- SCRIPTS -->", "</script>", *"abcd"]
    path = write(tmp_path / "x.html", make_model(), torch.tensor([[1, 2]]), names=names)
    page = path.read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert read_data(page)["outputs"] == names


def test_what_cannot_be_shown_is_said_in_a_sentence(tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match="tokens is None, but a model needs prompts"):
        write(tmp_path / "x.html", model)
    with pytest.raises(ValueError, match="scene is 'film', but must be one of"):
        write(tmp_path / "x.html", toys.load("boolean_and"), scene="film")
    with pytest.raises(ValueError, match="2 names were given, but the model has 7 tokens"):
        write(tmp_path / "x.html", model, torch.tensor([[1, 2]]), names=["a", "b"])
    large = Transformer(Config(d_vocab=4000, n_ctx=4, d_model=64, n_layers=1))
    with pytest.raises(ValueError, match=r"528,\d+ weights, a page of 2.* MB: a page holds 1.5 MB"):
        write(tmp_path / "x.html", large, torch.tensor([[1, 2]]))


def test_a_notebook_shows_a_page_in_a_frame():
    shown = embed(make_model(), torch.tensor([[1, 2]]), scene="stream", height=300)
    frame = shown._repr_html_()
    page = html.unescape(re.search(r'srcdoc="([^"]*)"></iframe>$', frame)[1])
    assert "height: 300px" in frame
    assert page == shown.page
    assert "<h2>Who says it</h2>" in page


def test_play_writes_a_page_and_opens_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = play(make_model(), torch.tensor([[1, 2]]), tmp_path / "mine.html", names=list("abcdefg"))
    assert opened == [path.as_uri()]
    assert read_data(path.read_text())["tokens"] == list("abcdefg")


def test_the_command_writes_toys_forged_models_and_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(forge, "make", lambda seed: toys.load("boolean_or", seed))  # is quicker
    toys.export(toys.load("tracr_hist"), tmp_path / "folder")
    names = ["boolean_and", "forge:1", str(tmp_path / "folder")]
    for name, title in zip(names, ["boolean_and", "boolean_or", "tracr_hist"], strict=True):
        out = tmp_path / f"{title}.html"
        ran = CliRunner().invoke(app, ["play", name, "--no-open", "--out", str(out)])
        assert ran.output.split() == ["written:", str(out)]
        assert f"<h1>{title}</h1>" in out.read_text()
    assert read_data(out.read_text())["outputs"] == list("01234")
    for wrong, says in {
        "boolean_an": "nearest: 'boolean_and'",
        "forge": "called by its seed: minilab play forge:0",
        "forge:x": "write forge:0",
    }.items():
        ran = CliRunner().invoke(app, ["play", wrong, "--no-open"])
        assert (ran.exit_code, says in ran.output) == (2, True)
