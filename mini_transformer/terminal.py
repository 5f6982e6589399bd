"""Print to a terminal. What is printed is never read as markup."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """Print a line that wraps only where the terminal ends, so that commands can be copied."""
    console.print(Text(text, style=style), soft_wrap=True)


def show_table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)
