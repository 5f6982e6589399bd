"""Jobs on one small problem, and rows without what differs between runs."""

from typing import Any

from mini_transformer.board.running.jobs import Job

PROBLEM = "boolean_and/zero"


def name_jobs(*names: str, seeds: int = 1) -> list[Job]:
    """The jobs of methods of `misbehaving`."""
    return [
        Job("circuit", PROBLEM, f"misbehaving:{name}", seed)
        for name in names
        for seed in range(seeds)
    ]


def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in rows]
