"""One line per wrong answer that a grader must reject, with what it says: `make mutants`, or for
one lesson `mutants_table.py 06`.

The table is data, not a verdict of its own: `test_every_exercise.py` holds each line to its
promise. Status 1 if one survives.
"""

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text
from test_every_exercise import MUTANTS, judge


def main(wanted: str = "") -> int:
    table, killed, everything = (
        Table("exercise", "mutant", "", "what the learner reads", box=None),
        0,
        0,
    )
    for key in (key for key in MUTANTS if key.startswith(wanted)):
        for exercise, name, answer, _, says, _ in MUTANTS[key].MUTANTS:
            failed = judge(key, exercise, answer)
            by_name = failed is not None and (
                says in failed.sentence if says else failed.mistake == name
            )
            mark = (
                "killed"
                if by_name
                else "SURVIVES"
                if failed is None
                else "killed, but not by its name"
            )
            table.add_row(exercise, name, mark, Text(failed.sentence if failed else ""))
            killed, everything = killed + by_name, everything + 1
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(f"{killed} of {everything} mutants are killed by their own name.")
    return 0 if killed == everything else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
