"""Print one table of everything that bench_*.py in this folder measures.

`python tests/bench/run.py [part of a name]`. A bench file has `rows() -> list[dict]` with name,
ours_ms, other, other_ms, ratio, bound, within, and `transformer_lens` (its ratio to the same other)
where it was measured. Timings are of one thread, which is fastest for models this small.

glibc hands large freed blocks back to the system, which must clear them again when they are next
asked for; whether that happens to one candidate or the other depends on what else is on the heap
and can be 40% of a run. So freed memory is kept, for all candidates alike. `--system-malloc` leaves
the allocator as it is.
"""

import importlib
import os
import sys
from pathlib import Path

import torch

KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
COLUMNS = (
    f"{'':48}{'ours':>10}{'other':>10}  {'against':22}{'ratio':>7}{'bound':>7}  "
    f"{'within':8}{'TransformerLens':>15}"
)


def main(wanted: str = "") -> None:
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {os.cpu_count()} cores, 1 thread; medians in milliseconds, "
        "candidates in turn\n"
    )
    print(COLUMNS)
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        if wanted in path.stem:
            for row in importlib.import_module(path.stem).rows():
                print(format_row(row), flush=True)


def format_row(row: dict) -> str:
    lens = f"{row['transformer_lens']:.2f}" if "transformer_lens" in row else "-"
    times = (
        f"{row['ours_ms']:10.2f}{row['other_ms']:10.2f}  "
        f"{row['other']:22}{row['ratio']:7.2f}{row['bound']:7.2f}"
    )
    return f"{row['name']:48}{times}  {'yes' if row['within'] else 'NO':8}{lens:>15}"


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--system-malloc"]
    # The allocator reads these once, when a process starts.
    if arguments == sys.argv[1:] and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_FREED_MEMORY)
    main(*arguments)
