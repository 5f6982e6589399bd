"""Put the methods of another library on the board, as docs/foreign_methods.md shows them.

    python tests/peers/enter_board.py tests/peers/pyvene.json      # where pyvene is installed

The page has a section for each library, `## NAME`, whose blocks are run as they stand. `METHODS`
says on which problems each function is scored, and beside which of our own, on the same models.
"""

import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mini_transformer import __version__, board
from mini_transformer.board.families import find_family

PAGE = Path(__file__).parents[2] / "docs" / "foreign_methods.md"
CIRCUITS = ("forge/resample", "twin/resample", "cancelling/resample", "sharp/resample")
FEATURES = ("trees/narrow", "pairs/narrow", "plain/equal")
PROBES = ("planted/read", "planted/four", "planted/unread")
ERASURE = ("planted/apart", "planted/together", "planted/four")
EAP_IG = "eap @ git+https://github.com/hannamw/EAP-IG"  # 2.0.0 there; no release
LENS = "transformer-lens==4.3.0"
METHODS: dict[str, tuple[str, tuple[str, ...], str, tuple[str, ...]]] = {
    # function: family, problems, what pip installs, our own methods beside it
    "nnsight_attribution": ("circuit", CIRCUITS, "nnsight==0.8.1", ("node_ablation",)),
    "hannamw_eap": ("circuit", CIRCUITS, EAP_IG, ("eap",)),
    "hannamw_eap_ig_inputs": ("circuit", CIRCUITS, EAP_IG, ("eap_ig_inputs",)),
    "transformer_lens_attribution": ("circuit", CIRCUITS, LENS, ("node_ablation",)),
    "tuned_lens_probe": ("probe", PROBES, "tuned-lens==0.2.0", ("linear", "ask_model")),
    "pyvene_das": ("variables", ("forge/brought", "forge/computed"), "pyvene==0.1.8", ("das",)),
    "sae_lens_topk": ("features", FEATURES, "sae-lens==6.54.12", ("sae_topk",)),
    "dictionary_learning_topk": ("features", FEATURES, "dictionary-learning==0.1.0", ("sae_topk",)),
    "concept_erasure_leace": ("erasure", ERASURE, "concept-erasure==0.2.4", ("leace",)),
}
MODELS = 4  # the first ones of the split "tuning", which are the same on every machine


def read_blocks(section: str) -> list[str]:
    """Read the Python blocks below a heading of the page."""
    part = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)


def list_sections() -> list[str]:
    """List the headings of the page that have a block."""
    found = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    return [section for section in found if read_blocks(section)]


def load_methods(section: str) -> dict[str, Callable[..., Any]]:
    """Import the blocks of a section as a module; return the functions that are scored.

    The module is a file, since nnsight reads the source of who calls it.
    """
    path = Path(tempfile.mkdtemp()) / f"{name_file(section)}_methods.py"
    path.write_text("\n\n".join(read_blocks(section)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: one for name, one in vars(module).items() if name in METHODS}


def check_version(requirement: str) -> tuple[str, str]:
    """Return the package and its version; exit with the command that installs the right one."""
    package, _, wanted = requirement.partition("==")
    package = package.split(" @ ")[0]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = "none"
    if version == "none" or wanted not in ("", version):
        needed = f"{package} {wanted}".strip()
        raise SystemExit(f"{needed} is needed, {version} is installed: pip install '{requirement}'")
    return package, version


def score(name: str, method: Callable[..., Any]) -> list[dict[str, Any]]:
    """Score one function, and ours beside it, on the same models; return a row per problem."""
    family, cases, requirement, beside = METHODS[name]
    package, version = check_version(requirement)
    given: dict[str, Any] = {"models": MODELS, "beside": list(beside), "split": "tuning"}
    summary = board.score(method, family, list(cases), seconds=600, workers=1, **given)
    found = {(one.problem, one.entrant): one for one in summary}
    return [
        {
            "method": name,
            "library": package,
            "version": version,
            "family": family,
            "problem": problem,
            "metric": find_family(family).headline,
            "models": found[problem, name].numbers,
            "values": cut(found[problem, name].headlines),
            "errors": found[problem, name].errors,
            "ours": {own: cut(found[problem, own].headlines) for own in beside},
        }
        for problem in cases
    ]


def cut(values: list[float | None]) -> list[float | None]:
    """Cut what is stored to four digits."""
    return [None if value is None else round(value, 4) for value in values]


def forget_cuda(make: Callable[..., Any]) -> Callable[..., Any]:
    """Make tensors where the model is: eap 2.0.0 asks for "cuda" whatever the machine has."""
    return lambda *size, device=None, **rest: make(
        *size, device=None if device == "cuda" else device, **rest
    )


def main(out: Path) -> None:
    """Score all methods of the library that the file is called after."""
    if not torch.cuda.is_available():
        torch.zeros = forget_cuda(torch.zeros)
    (section,) = [one for one in list_sections() if out.stem == name_file(one)]
    for name, (*_, requirement, _) in METHODS.items():
        if f"def {name}(" in "".join(read_blocks(section)):
            check_version(requirement)
    rows = [row for name, method in load_methods(section).items() for row in score(name, method)]
    for row in rows:
        print(row["problem"], row["method"], row["values"], row["ours"], *row["errors"][:1])
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions["mini-transformer"] = __version__
    data = {
        "versions": versions | {row["library"]: row["version"] for row in rows},
        "command": f"python tests/peers/enter_board.py tests/peers/{out.name}",
        "split": "tuning",
        "rows": rows,
    }
    out.write_text(json.dumps(data, indent=1) + "\n")
    if errors := [row for row in rows if row["errors"]]:
        raise SystemExit(f"{len(errors)} rows have errors")


def name_file(section: str) -> str:
    """Turn a heading into the name of a file: `SAE Lens` becomes `sae_lens`."""
    return re.sub(r"\W+", "_", section).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
