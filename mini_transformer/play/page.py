"""One HTML file in which a model runs: no server, no network, nothing to install.

The forward pass in the page is forward.js, with the names and the order of model.py and edges.py.
"""

import base64
import dataclasses
import html
import json
import re
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mini_transformer import plots
from mini_transformer.edges import Edge, list_edges, list_writers, write_outputs
from mini_transformer.isolation.files import write_atomically
from mini_transformer.model import Transformer
from mini_transformer.toys.truth import Batch, Case
from mini_transformer.weights import check_told

__all__ = ["embed", "play", "write"]

MOST_BYTES = 1_500_000  # of the file
MOST_PROMPTS = 32
STEPS = 2**23 - 1  # from 0 to the largest weight of a matrix
HERE = Path(__file__).parent
SCRIPTS = ("forward.js", "draw.js", "page.js")
LEFT = {"model", "patterns", "lens"}  # in the left column of a wide page
# The parts of the page that a scene shows, besides the prompt and what the model says.
SCENES = {
    "all": ("model", "patterns", "stream", "lens", "steering", "guess"),
    "patterns": ("patterns",),
    "stream": ("stream", "lens"),
    "ablation": ("model", "stream"),
    "patching": ("model", "lens"),
    "edges": ("model", "guess"),
    "steering": ("steering", "stream"),
}


def play(
    model: Transformer | Case,
    tokens: Integer[Tensor, "batch pos"] | None = None,
    path: str | Path = "play.html",
    **options: Any,
) -> Path:
    """Write a page in which the model runs, as `write` does, and open it in the browser."""
    path = write(path, model, tokens, **options)
    webbrowser.open(path.resolve().as_uri())
    return path


def write(
    path: str | Path,
    model: Transformer | Case,
    tokens: Integer[Tensor, "batch pos"] | None = None,
    *,
    names: Sequence[str] | None = None,
    scene: str = "all",
) -> Path:
    """Write a page in which the model runs on these prompts, and on others of their length.

    A case brings its own prompts, what its tokens are called (`names`), and its circuits. `scene`
    shows a part of the page, to embed it elsewhere: "patterns", "stream", "ablation", "patching",
    "edges" or "steering". Raise ValueError for a model that the page cannot show, among them those
    whose file would be larger than 1.5 MB.

    >>> import tempfile
    >>> from mini_transformer import toys
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write(Path(folder) / "and.html", toys.load("boolean_and"))
    ...     print(page.name, page.stat().st_size < 100_000)
    and.html True
    """
    page = make_page(model, tokens, names, scene)
    write_atomically(Path(path), page)
    return Path(path)


def embed(
    model: Transformer | Case,
    tokens: Integer[Tensor, "batch pos"] | None = None,
    *,
    names: Sequence[str] | None = None,
    scene: str = "all",
    height: int = 600,
) -> "Embedded":
    """Show a page, or a scene of it, in a notebook: the frame's height is in pixels.

    >>> from mini_transformer import toys
    >>> embed(toys.load("boolean_and"), scene="patterns").height
    600
    """
    return Embedded(make_page(model, tokens, names, scene), height)


@dataclasses.dataclass(frozen=True, repr=False)
class Embedded:
    """A page that Jupyter shows in a frame; it needs no file."""

    page: str
    height: int

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0"
        words = "a model to take apart"
        return (
            f'<iframe title="{words}" style="{style}" srcdoc="{html.escape(self.page)}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"Embedded(a page of {len(self.page) / 1000:.0f} kB, {self.height} pixels high)"


def make_page(
    model: Transformer | Case, tokens: Tensor | None, names: Sequence[str] | None, scene: str
) -> str:
    """Gather what a page tells of a model or a case, and build it."""
    if scene not in SCENES:
        raise ValueError(f"scene is {scene!r}, but must be one of {tuple(SCENES)}")
    told: dict[str, Any] = {"name": "your model"}
    if isinstance(model, Case):
        told = describe_case(model)
    own = model.model if isinstance(model, Case) else model
    if tokens is not None:
        told |= {"prompts": describe_prompts(own, tokens), "over": tokens}
    elif "prompts" not in told:
        raise ValueError("tokens is None, but a model needs prompts: give tokens (batch, pos)")
    if names is not None:
        told["tokens"] = list(names)
    return build_page(own, told, scene)


def describe_case(case: Case) -> dict[str, Any]:
    """Say of a case what its page needs: words, names, prompts, circuits."""
    columns = {edge: column for column, edge in enumerate(list_edges(case.model))}
    circuits = {
        ablation: {
            "edges": [sorted(columns[edge] for edge in circuit) for circuit in found.edges],
            "how": found.how,
            "complete": found.complete,
        }
        for ablation, found in case.truth.circuits.items()
        if found.edges
    }
    resampled = case.truth.circuits.get("resample")
    corrupt = resampled.corrupt if resampled else None
    batch = choose_prompts(case, corrupt if corrupt in case.task.corruptions else None)
    return {
        "name": case.name,
        "description": case.task.description,
        "tokens": list(case.task.token_names),
        "outputs": list(case.task.output_names),
        "prompts": list_prompts(batch),
        "over": case.task.everything().clean if case.task.everything else batch.clean,
        "circuits": circuits,
        "roles": {node: role for role, node in reversed(case.truth.roles.items())},
    }


def choose_prompts(case: Case, corrupt: str | None) -> Batch:
    """Take all prompts where they are few, otherwise some."""
    everything = case.task.everything() if case.task.everything else None
    if everything is not None:
        distinct = everything.distinct()
        if len(distinct.clean) <= MOST_PROMPTS:
            return distinct
    return case.task.draw(MOST_PROMPTS, corrupt=corrupt)


def list_prompts(batch: Batch) -> list[dict[str, Any]]:
    """List prompts, each beside its corrupt one and what is asked: [position, answer, wrong]."""
    columns = [batch.position, batch.answer, batch.wrong]
    asked = zip(*(column.view(len(column), -1).tolist() for column in columns), strict=True)
    return [
        {"clean": clean, "corrupt": corrupt, "asked": sorted(set(zip(*row, strict=True)))}
        for clean, corrupt, row in zip(
            batch.clean.tolist(), batch.corrupt.tolist(), asked, strict=True
        )
    ]


def describe_prompts(model: Transformer, tokens: Tensor) -> list[dict[str, Any]]:
    """Ask of each prompt its likeliest next token, and of the next prompt the one beside it."""
    with torch.no_grad():
        logits = model(tokens)[:, -1]  # refuses what no prompt of this model can be
    answer = logits.argmax(dim=1)
    rest = logits.clone().scatter_(1, answer.unsqueeze(1), float("-inf"))
    wrong = rest.argmax(dim=1)
    position = torch.full_like(answer, tokens.shape[1] - 1)
    batch = Batch(tokens, tokens.roll(-1, dims=0), answer, wrong, position)
    return list_prompts(batch.take(torch.arange(min(len(tokens), MOST_PROMPTS))))


def build_page(model: Transformer, told: dict[str, Any], scene: str = "all") -> str:
    """Build the page as text; ValueError if it would be too large."""
    check_told(model)
    config = dataclasses.asdict(model.config)
    names = [str(token) for token in range(model.config.d_vocab)]
    outputs = [str(out) for out in range(model.config.d_vocab_out)]
    told["tokens"] = told.get("tokens") or names
    if len(told["tokens"]) != model.config.d_vocab:
        raise ValueError(
            f"{len(told['tokens'])} names were given, but the model has {len(names)} tokens"
        )
    if not told.get("outputs"):
        told["outputs"] = told["tokens"] if len(outputs) == len(names) else outputs
    weights = list_weights(model) | average_outputs(model, told.pop("over"))
    places = plots.place_nodes(model)
    data = {"config": config, "places": places, "edges": number_edges(model), **told}
    data = {"circuits": {}, "roles": {}, "description": "", **data}
    text = fill_template(data | pack_weights(weights), SCENES[scene])
    if (size := len(text.encode())) > MOST_BYTES:
        raise ValueError(
            f"the model has {sum(weight.numel() for weight in model.parameters()):,} weights, a "
            f"page of {size / 1e6:.1f} MB: a page holds 1.5 MB, about 300,000 weights"
        )
    return text


def list_weights(model: Transformer) -> dict[str, Tensor]:
    """List all weights, and what a model's state leaves out: fixed positions, a tied W_U."""
    weights = dict(model.state_dict()) | {"W_U": model.W_U}
    if model.config.positions == "sinusoidal":
        weights["W_pos"] = model.W_pos
    return weights


@torch.no_grad()
def average_outputs(
    model: Transformer, tokens: Integer[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "node pos width"]]:
    """Average over prompts what writers write, and how much neurons fire."""
    parts = tokens.split(256)
    written = torch.stack([write_outputs(model, part).sum(dim=1) for part in parts]).sum(dim=0)
    post = torch.zeros(0)
    if model.config.d_mlp and model.config.n_layers:
        layers = range(model.config.n_layers)
        posts = [("post", layer) for layer in layers]
        caches = [model.run_with_cache(part, names_filter=posts)[1] for part in parts]
        fired = [[cache["post", i].sum(dim=0) for i in layers] for cache in caches]
        post = torch.stack([torch.stack(each) for each in fired]).sum(dim=0)
    return {"mean.written": written / len(tokens), "mean.post": post / len(tokens)}


def pack_weights(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Write weights as base64: whole numbers of 3 bytes, times one step per matrix.

    A weight is rounded by at most 2^-24 of the largest in its matrix.
    """
    shapes = []
    packed = b""
    for name, weight in weights.items():
        values = weight.detach().double().cpu().contiguous()
        step = plots.find_limit(values.numpy()) / STEPS or 1.0
        numbers = (values / step).round().to(torch.int32).numpy().astype("<i4")
        packed += numbers.view("u1").reshape(-1, 4)[:, :3].tobytes()
        shapes.append([name, weight.numel(), step])
    return {"shapes": shapes, "weights": base64.b64encode(packed).decode()}


def number_edges(model: Transformer) -> list[tuple[int, int, str]]:
    """Write each edge as the numbers of its nodes, and the part of a head that it enters."""
    number = {node: i for i, node in enumerate([*list_writers(model), "logits"])}
    edges = [Edge.parse(edge) for edge in list_edges(model)]
    return [(number[str(e.writer)], number[str(e.reader)], e.part or "") for e in edges]


def fill_template(data: dict[str, Any], sections: Sequence[str]) -> str:
    """Put style, scripts, choices and data into page.html."""
    colours = {name: getattr(plots, name.upper()) for name in ("blue", "orange", "green", "purple")}
    light, dark = (
        " ".join(f"--{name}: {change(colour)};" for name, colour in colours.items())
        for change in (str, lighten)
    )
    hidden = [f"#{name}" for name in SCENES["all"] if name not in sections]
    style = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    style += (HERE / "page.css").read_text(encoding="utf-8")
    if data["places"]["logits"][0] > 8:  # the picture needs all of the page's width
        style += "#model { grid-column: 1 / -1; }\n#model ~ div { grid-row: 3 !important; }\n"
        style += "#guess { order: -1; }\n"
    if hidden:
        style += f"header, {', '.join(hidden)} {{ display: none; }}\nbody {{ padding: 0; }}\n"
    if not LEFT & set(sections) or not set(sections) - LEFT:
        style += "main { display: flex; flex-direction: column; }\n"
    scripts = [(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS]
    writers = [node for node in data["places"] if node != "logits"]
    layers = [f"layer {layer}" for layer in range(data["config"]["n_layers"])]
    directions = {"answer": "the answer's logit", "token": "the other prompt's token, less this"}
    directions |= {node: f"what {node} writes" for node in writers}
    n_prompts = len(data["prompts"])
    parts = {
        "TITLE": html.escape(data["name"]),
        "DESCRIPTION": html.escape(data["description"]),
        "STYLE": style,
        "EXAMPLES": list_options({i: i + 1 for i in range(n_prompts)}),
        "DIRECTIONS": list_options(directions),
        "LAYERS": list_options(dict(enumerate([*layers, "the logits"]))),
        "OUTPUTS": list_options(dict(enumerate(data["outputs"]))),
        "DATA": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "SCRIPTS": "\n".join(scripts),
    }
    text = (HERE / "page.html").read_text(encoding="utf-8")
    if sections == SCENES["patching"]:
        text = text.replace('<option value="resample">', '<option value="resample" selected>')
    return re.sub("<!-- ([A-Z]+) -->", lambda place: parts[place[1]], text)


def list_options(choices: Mapping[Any, Any]) -> str:
    return "".join(
        f'<option value="{value}">{html.escape(str(text))}</option>'
        for value, text in choices.items()
    )


def lighten(colour: str) -> str:
    """Mix a colour of the palette with white, for dark pages.

    >>> lighten("#2166ac")
    '#90b2d5'
    """
    return "#" + "".join(f"{(int(colour[i : i + 2], 16) + 255) // 2:02x}" for i in (1, 3, 5))
