"""Print how long a model's page takes in headless Chromium: its first picture, one edit.

`python tests/bench/open_pages.py [TOY ...]`, by default all toys and a forged model. Bounds: 1000
and 100 milliseconds.
"""

import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "lab" / "play"))

from test_page import look

from mini_transformer import forge, toys

SCRIPT = """
    const found = { first: performance.now(), edits: [] };
    for (let i = 0; i < 12; i++) {
      const start = performance.now();
      document.querySelector("#inspector button").click();
      document.body.offsetHeight; // all is laid out
      found.edits.push(performance.now() - start);
    }
"""


def main(names: list[str]) -> None:
    for name in names or [*toys.names(), "forge"]:
        case = forge.make(1) if name == "forge" else toys.load(name)
        with tempfile.TemporaryDirectory() as folder:
            found = look(case, Path(folder), SCRIPT)
        edits = sorted(found["edits"])
        print(
            f"{name:28}first {found['first']:6.0f}   edit {edits[6]:6.1f}, at most {edits[-1]:.1f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
