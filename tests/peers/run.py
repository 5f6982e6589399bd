"""Compare this package with other libraries, each in an environment of its own.

    python tests/peers/run.py            # all of them
    python tests/peers/run.py tl3 tl4    # these

Environments are made in out/peers/NAME. See README.md beside this file.
"""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EAP_IG = "eap @ git+https://github.com/hannamw/EAP-IG"  # it has no release
PEERS: dict[str, tuple[str, ...]] = {  # name: the script, then what pip installs
    "modules": ("compare_modules.py", ".[nnsight,pyvene]"),
    "spelt_nnsight": ("both_spellings.py", ".[nnsight]"),
    "spelt_pyvene": ("both_spellings.py", ".[pyvene]"),
    "spelt_saelens": ("both_spellings.py", ".", "sae-lens==6.54.12"),
    "spelt_transformerlens": ("both_spellings.py", ".[tl3]"),
    "nnsight": ("enter_board.py", ".[nnsight]"),
    "pyvene": ("enter_board.py", ".[pyvene]"),
    "saelens": ("enter_board.py", ".", "sae-lens==6.54.12"),
    "dictionary_learning": ("enter_board.py", ".", "dictionary-learning==0.1.0"),
    "concept_erasure": ("enter_board.py", ".", "concept-erasure==0.2.4"),
    "eap_ig": ("enter_board.py", ".[tl3]", EAP_IG),
    "eap_edges": ("compare_eap.py", ".[tl3]", EAP_IG),
    "transformerlens": ("enter_board.py", ".[tl4]"),
    "tuned_lens": ("enter_board.py", ".", "tuned-lens==0.2.0"),
    "tracr": (
        "compare_tracr.py",
        ".",
        "tracr @ git+https://github.com/google-deepmind/tracr"
        "@9ce2b8c82b6ba10e62e86cf6f390e7536d4fd2cd",
    ),
    "tl3": ("compare_transformer_lens.py", ".[tl3]"),
    "tl4": ("compare_transformer_lens.py", ".[tl4]"),
}


def run(name: str) -> None:
    """Make the environment of one peer if there is none, and run its script in it."""
    script, *requirements = PEERS[name]
    home = ROOT / "out" / "peers" / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--editable"]
    subprocess.run([*pip, *requirements], cwd=ROOT, check=True)
    subprocess.run([str(python), str(HERE / script), str(HERE / f"{name}.json")], check=True)


if __name__ == "__main__":
    for name in sys.argv[1:] or PEERS:
        print(f"== {name}", flush=True)
        run(name)
