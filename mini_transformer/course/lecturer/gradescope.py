"""Gradescope: write an autograder that can be uploaded as it is, and grade there with it.

Each submission has a container of its own there, in which everything runs as root and no sandbox
can be made. What is at stake is the course's seed, the graders and results.json. So the student's
code runs as another user, who may read and write none of these, with the limits of a sandbox.

As a program (`python -m mini_transformer.course.lecturer.gradescope /autograder`) it grades the one
submission in that folder.

Source: Gradescope, Autograder Documentation: specifications, submission_metadata.json.
"""

import json
import os
import sys
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.lecturer.batch import Grader, Settings
from mini_transformer.course.lecturer.class_draws import ClassDraws
from mini_transformer.course.lecturer.gradebook import make_gradescope
from mini_transformer.course.lecturer.judge_pool import open_judges
from mini_transformer.course.lecturer.packing import (
    PACKAGE,
    TORCH_INDEX,
    put_file,
    write_wheel,
)
from mini_transformer.course.lecturer.submissions import Handed
from mini_transformer.course.material import CourseError, find_material, write_file

# Gradescope's images have a Python that may be too old. uv finds one that is not, or brings it.
SETUP = f"""#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")"
apt-get update
apt-get install --yes --no-install-recommends ca-certificates python3-venv
python3 -m venv /opt/uv
/opt/uv/bin/pip install uv
export UV_PYTHON_INSTALL_DIR=/opt/python
/opt/uv/bin/uv venv --seed --python '>=3.11' /opt/minilab
/opt/minilab/bin/pip install --extra-index-url {TORCH_INDEX} ./*.whl
"""
RUN = """#!/usr/bin/env bash
umask 077
cd "$(dirname "$0")"
exec /opt/minilab/bin/python -P -m mini_transformer.course.lecturer.gradescope "$PWD"
"""
LATE = "Handed in after the due date."


def write_autograder(path: Path, key: str, seed: int) -> int:
    """Write the zip to upload for lesson `key`, and return its size in bytes.

    The seed, the same for the whole class, stands in it: keep the zip from students.
    """
    settings = json.dumps({"lesson": key, "seed": seed, "draws": find_draws(key, seed)}) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
        wheel = write_wheel(Path(folder))
        put_file(archive, wheel.name, wheel.read_bytes())
        put_file(archive, "settings.json", settings.encode())
        for name, script in (("setup.sh", SETUP), ("run_autograder", RUN)):
            put_file(archive, name, script.encode(), 0o755)
    return path.stat().st_size


def find_kept_seed(path: Path) -> int | None:
    """Return the seed of the zip that an earlier export wrote to `path`; None if there is none.

    Raise CourseError if something else is there.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return int(json.loads(archive.read("settings.json"))["seed"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise CourseError(f"{path} is no autograder: give another --out, or delete it") from None


def find_draws(key: str, seed: int) -> dict[str, list[int]]:
    """Find the draws that tell mistakes from right answers once, not for each submission there."""
    material = find_material()
    with tempfile.TemporaryDirectory() as kept, open_judges(1) as judges, tqdm(total=0) as bar:
        draws = ClassDraws(material, Path(kept), seed, 1, bar)
        return draws.find(read_exercises(material, key), judges.get())


def grade_here(top: Path) -> None:
    """Grade the submission in Gradescope's folder `top`, and write its results.json.

    Whatever fails leaves results without a score, or none at all: Gradescope shows a failure then.
    """
    material = find_material()
    (top / "results").mkdir(exist_ok=True)
    for secret in (top / "source", top / "results", PACKAGE / "course" / "material"):
        os.chmod(secret, 0o700)
    settings = json.loads((top / "source" / "settings.json").read_text())
    metadata = json.loads((top / "submission_metadata.json").read_text())
    names = ", ".join(user["name"] for user in metadata["users"])
    handed = Handed(names, [(top / "submission", "submission")])
    exercises = {settings["lesson"]: read_exercises(material, settings["lesson"])}
    with (
        tempfile.TemporaryDirectory() as kept,
        open_judges(1) as judges,
        tqdm(total=0, disable=True) as bar,
    ):
        draws = ClassDraws(material, Path(kept), settings["seed"], 1, bar)
        draws.found = settings["draws"]
        how = Settings(settings["seed"], sandbox="another user")
        graded = Grader(material, exercises, Path(kept), how, judges, draws).grade(handed)
    results = make_gradescope(graded, LATE if is_late(metadata) else "")
    write_file(top / "results" / "results.json", json.dumps(results, indent=2) + "\n")


def is_late(metadata: dict[str, Any]) -> bool:
    """Say whether a submission came after its due date, or after the student's own if there is one.

    >>> due = {"due_date": "2026-07-31T23:00:00.000000-07:00"}
    >>> is_late({"created_at": "2026-08-01T06:00:01+00:00", "assignment": due, "users": []})
    True
    """
    own = [user["assignment"] for user in metadata["users"] if user.get("assignment")]
    due = [dates.get("due_date") for dates in own or [metadata["assignment"]]]
    came = datetime.fromisoformat(metadata["created_at"])
    return any(date is not None and came > datetime.fromisoformat(date) for date in due)


if __name__ == "__main__":
    grade_here(Path(sys.argv[1]))
