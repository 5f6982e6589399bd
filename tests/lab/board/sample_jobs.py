"""Jobs on one small problem, and rows without what differs between runs."""

from typing import Any

from mini_transformer.board.running.jobs import Draw, Job

PROBLEM = "forge/zero"
DRAW = Draw(seed=3)


def name_jobs(*names: str, models: int = 1) -> list[Job]:
    """The jobs of methods of `misbehaving`."""
    return [
        Job("circuit", PROBLEM, f"misbehaving:{name}", number)
        for name in names
        for number in range(models)
    ]


def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in rows]
