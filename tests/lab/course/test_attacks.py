"""Submissions that mean harm: each gets the verdict that stands in its first line, and nothing
else comes of it.
"""

import ast
import re
import secrets
import socket
import time
from pathlib import Path

import pytest
from sample_course import write_course
from sandboxed import find_or_skip

from mini_transformer.course.grading.grade import Report
from mini_transformer.course.lecturer.escapes import await_running
from mini_transformer.course.lecturer.isolated import grade_isolated

ATTACKS = sorted((Path(__file__).parents[2] / "attacks").glob("*.py"))
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda path: path.stem)


def read_verdict(attack: Path) -> dict[str, float]:
    title = ast.get_docstring(ast.parse(attack.read_text())) or ""
    return {
        name: float(points)
        for name, points in re.findall(r"(\w+) (\d+)", title.rpartition("Verdict: ")[2])
    }


def look_around(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def launch(attack: Path, folder: Path, marker: str, port: int = 9) -> Report:
    """Grade an attack that knows all it could wish for: where the course is, another's
    submission, a port that listens.
    """
    material = write_course(folder / "course")
    outside = folder / "submissions"
    outside.mkdir()
    outside.chmod(0o777)
    (outside / "another_ex01_samples.py").write_text("def double(x):\n    return x + x\n")
    known = {
        "@COURSE@": str(folder / "course"),
        "@OUTSIDE@": str(outside),
        "@MARKER@": marker,
        "@PORT@": str(port),
    }
    source = attack.read_text()
    for word, meaning in known.items():
        source = source.replace(word, meaning)
    before = look_around(folder)
    report = grade_isolated(
        material, "01_samples", source.encode(), seconds=1.0, sandbox=find_or_skip()
    )
    time.sleep(0.3)  # what outlived the sandbox would write now
    assert look_around(folder) == before
    return report


@each_attack
def test_every_attack_gets_its_verdict_and_does_no_harm(attack, tmp_path):
    marker = f"attack-{secrets.token_hex(8)}"
    tmp_path.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unnamed:
        unnamed.bind(f"\0{marker}")
        unnamed.listen()
        started = time.monotonic()
        report = launch(attack, tmp_path, marker, server.getsockname()[1])
    assert {result.name: result.points for result in report.exercises} == read_verdict(attack)
    assert not report.solved
    assert await_running(marker, False)
    assert time.monotonic() - started < 120
    said = [
        check.sentence for result in report.exercises for check in result.checks
    ] + report.output
    assert all(len(text) <= 1000 and "\x1b" not in text for text in said)


def test_every_attack_names_its_verdict_and_has_a_wrong_answer():
    assert len(ATTACKS) >= 20
    for attack in ATTACKS:
        assert read_verdict(attack) == {"double": 0, "add_halves": 2}, attack.name
