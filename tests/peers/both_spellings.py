"""Run docs/coming_from.md in both spellings, and compare what comes out.

    python tests/peers/both_spellings.py tests/peers/spelt_nnsight.json

The blocks below "Here" run first, in order, then those below the library's name. What has one name
in the two blocks of a section must be the same numbers; a row is one such name.
"""

import importlib.metadata
import importlib.util
import json
import platform
import re
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mini_transformer import __version__

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
LIBRARIES = {  # as the page calls it: the package
    "TransformerLens": "transformer-lens",
    "nnsight": "nnsight",
    "pyvene": "pyvene",
    "SAELens": "sae-lens",
}


def read_blocks(library: str) -> dict[str, str]:
    """Read the block of each section that stands below a line that begins with the library."""
    parts = re.split(r"^## (\d+ .*)\n", PAGE.read_text(), flags=re.MULTILINE)
    found = {}
    for section, text in zip(parts[1::2], parts[2::2], strict=True):
        pattern = rf"^{library}\b[^\n]*:\n\n```python\n(.*?)```"
        for block in re.findall(pattern, text, re.DOTALL | re.MULTILINE):
            found[section] = block
    return found


def run(block: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block on what is known already; return what it assigned.

    It is run as a module with a file, since nnsight reads the source of who calls it.
    """
    path = Path(tempfile.mkdtemp()) / "block.py"
    path.write_text(block)
    module = ModuleType("block")
    vars(module).update(names)
    spec = importlib.util.spec_from_file_location("block", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return {name: one for name, one in vars(module).items() if one is not names.get(name)}


def compare(library: str) -> list[dict[str, Any]]:
    """Run all blocks of a library, and ours beside them; return a row for each name in both."""
    ours: dict[str, dict[str, Any]] = {}
    names: dict[str, Any] = {}
    for section, block in read_blocks("Here").items():
        ours[section] = run(block, names)
        names |= ours[section]
    rows = []
    for section, block in read_blocks(library).items():
        theirs = run(block, names)
        for name in theirs.keys() & ours[section].keys():
            mine, other = ours[section][name], theirs[name]
            if isinstance(mine, Tensor):
                gap = (mine - other).abs().max() / mine.abs().max().clamp(min=1e-9)
                rows.append({"section": section, "name": name, "difference": gap.item()})
        names |= theirs
    return rows


def main(out: Path) -> None:
    """Compare with the library that the file is called after, and write the table."""
    (library,) = [one for one in LIBRARIES if out.stem == f"spelt_{one.lower()}"]
    rows = compare(library)
    for row in rows:
        print(*row.values(), sep="  ")
    package = LIBRARIES[library]
    versions = {package: importlib.metadata.version(package), "mini-transformer": __version__}
    data = {
        "versions": {"python": platform.python_version(), "torch": torch.__version__} | versions,
        "command": f"python tests/peers/both_spellings.py tests/peers/{out.name}",
        "rows": rows,
    }
    out.write_text(json.dumps(data, indent=1) + "\n")
    if wrong := [row for row in rows if not row["difference"] < 1e-4]:
        raise SystemExit(f"not the same: {wrong}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
