"""Random edits of a model, as a page is told them, with the logits that PyTorch gives."""

import copy
import html
import json
import random
import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from mini_transformer.edges import list_edges, run_edges, write_outputs
from mini_transformer.model import Transformer
from mini_transformer.play.page import HERE

BROWSER = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)
ABLATIONS = ("zero", "mean", "resample")
# What a page computes of the edits: 9 digits of each logit, by edit and prompt.
COMPUTE = """
function compute(data, edits) {
  const model = decodeModel(data);
  const corrupt = edits.corrupt.map((tokens) => forward(model, tokens));
  return edits.edits.map(({ ablation, off, neurons, steer }) =>
    edits.clean.map((tokens, row) => {
      const mask = new Uint8Array(data.edges.length * tokens.length).fill(1);
      for (const [edge, at] of off) {
        tokens.forEach((_, t) => (at === null || at === t) && (mask[edge * tokens.length + t] = 0));
      }
      const values = makeOff(model, ablation, corrupt[row]);
      const told = { mask: off.length ? mask : null, off: values, neurons, steer };
      return forward(model, tokens, told).logits.map((x) => [...x].map((y) => +y.toPrecision(9)));
    }),
  );
}
"""


def draw_edits(model: Transformer, n: int, length: int, seed: int = 0) -> list[dict]:
    """Draw edits of several kinds in turn: edges, a node, neurons, steering, and some together."""
    rng = random.Random(seed)
    config = model.config
    edges = list_edges(model)
    edits = []
    for number in range(n):
        kind = ("edges", "node", "neurons", "steering", "many", "both")[number % 6]
        at = rng.choice([None, *range(length)])
        edit = {"ablation": ABLATIONS[number // 2 % 3], "off": [], "neurons": [], "steer": []}
        if kind in ("edges", "both"):
            chosen = rng.sample(range(len(edges)), min(3, len(edges)))
            edit["off"] = [[edge, rng.choice([None, at])] for edge in chosen]
        if kind == "node":
            writer = rng.choice(edges).split("->")[0]
            edit["off"] = [[i, at] for i, edge in enumerate(edges) if edge.split("->")[0] == writer]
        if kind == "many":
            edit["off"] = [[i, None] for i in range(len(edges)) if rng.random() < 0.5]
        if kind in ("neurons", "both") and config.d_mlp:
            edit["neurons"] = [
                {
                    "layer": rng.randrange(config.n_layers),
                    "neuron": rng.randrange(config.d_mlp),
                    "at": at,
                }
                for _ in range(4)
            ]
        if kind in ("steering", "neurons") and config.n_layers:
            vector = [round(rng.gauss(0, 1), 3) for _ in range(config.d_model)]
            edit["steer"] = [{"layer": rng.randint(0, config.n_layers), "vector": vector, "at": at}]
        edits.append(edit)
    return edits


@torch.no_grad()
def run_edit(
    model: Transformer, edit: dict, clean: Tensor, corrupt: Tensor, over: Tensor
) -> Tensor:
    """Run a model on prompts (b, t) under an edit, and return the logits (b, t, v).

    Means are those of the prompts `over`.
    """
    ablation = edit["ablation"]
    given = over if ablation == "mean" else corrupt
    _, cache = model.run_with_cache(given)

    def set_neuron(layer: int, neuron: int, at: int | None):
        own = cache["post", layer][:, :, neuron]
        value = {"zero": 0 * own, "mean": own.mean(dim=0, keepdim=True), "resample": own}[ablation]
        where = slice(None) if at is None else at

        def hook(post, _):
            post[:, where, neuron] = value[:, where]
            return post

        return (f"blocks.{layer}.mlp.hook_post", hook)

    def steer(layer: int, vector: list[float], at: int | None):
        where = slice(None) if at is None else at

        def hook(resid, _):
            resid[:, where] += torch.tensor(vector, dtype=resid.dtype)
            return resid

        last = layer == model.config.n_layers
        return (f"blocks.{layer - last}.hook_resid_{'post' if last else 'pre'}", hook)

    hooks = [set_neuron(**one) for one in edit["neurons"]]
    hooks += [steer(**one) for one in edit["steer"]]
    with ExitStack() as stack:
        stack.enter_context(model.hooks(hooks))
        if not edit["off"]:
            return model(clean)
        mask = torch.ones(len(list_edges(model)), clean.shape[1])
        for edge, at in edit["off"]:
            mask[edge, slice(None) if at is None else at] = 0.0
        off = write_outputs(model, given, ablation)
        off = off[:, :1].expand(-1, len(clean), -1, -1) if ablation == "mean" else off
        return run_edges(model, clean, mask[None], off)[0]


def write_edits(
    model: Transformer, clean: Tensor, corrupt: Tensor, over: Tensor, n: int, seed: int = 0
) -> tuple[dict, Tensor]:
    """Draw edits as JSON for a page, and run them in float64: logits (edit, b, t, v)."""
    model = copy.deepcopy(model).double()
    edits = draw_edits(model, n, clean.shape[1], seed)
    expected = torch.stack([run_edit(model, edit, clean, corrupt, over) for edit in edits])
    return {"clean": clean.tolist(), "corrupt": corrupt.tolist(), "edits": edits}, expected


def run_in_node(page: str, edits: dict) -> Tensor:
    """Compute in Node what the page would of its own data."""
    data = re.search(r'id="data">(.*?)</script>', page)[1]
    forward = (HERE / "forward.js").read_text(encoding="utf-8")
    script = f"{forward}\n{COMPUTE}\nconst data = {data};\nconst edits = {json.dumps(edits)};\n"
    script += "console.log(JSON.stringify(compute(data, edits)));"
    ran = subprocess.run(["node"], input=script, capture_output=True, text=True, timeout=300)
    assert not ran.stderr, ran.stderr[-2000:]
    return torch.tensor(json.loads(ran.stdout), dtype=torch.float64)


def run_in_browser(page: str, edits: dict, folder: Path, *options: str) -> Tensor:
    """Compute in headless Chromium, in the page itself."""
    script = f"{COMPUTE}\nconst edits = {json.dumps(edits)};"
    script += "document.body.textContent = JSON.stringify(compute(data, edits));"
    shown = dump(page, folder, script, *options)
    return torch.tensor(json.loads(read_body(shown)), dtype=torch.float64)


def read_body(shown: str) -> str:
    return html.unescape(re.search(r"<body[^>]*>(.*)</body>", shown, re.S)[1])


def dump(page: str, folder: Path, script: str, *options: str) -> str:
    """Open a page in headless Chromium, run a script in it, and return what it has become."""
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{{{script}}}</script></body>"), "utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
