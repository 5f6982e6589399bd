"""The autograder for Gradescope: what is in the zip, and what its run_autograder does there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from sandboxed import find_or_skip
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.exercises import read_exercises
from mini_transformer.course.lecturer import sandbox
from mini_transformer.course.lecturer.gradescope import LATE, find_kept_seed, is_late
from mini_transformer.course.lecturer.judge import Judge
from mini_transformer.course.material import find_material

KEY = "01_residual_stream"
SEED = 2**50 + 77
METADATA = {
    "id": 123456,
    "created_at": "2018-07-01T14:22:32.365935-07:00",
    "assignment": {"due_date": "2018-07-31T23:00:00.000000-07:00", "late_due_date": None},
    "users": [{"email": "student@example.com", "id": 1234, "name": "Student User"}],
    "previous_submissions": [],
}


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory):
    """The zip, unpacked as Gradescope does, and its wheel, installed."""
    folder = tmp_path_factory.mktemp("gradescope")
    out = folder / "autograder.zip"
    with pytest.MonkeyPatch.context() as patch:  # it takes long to find out
        patch.setattr(Judge, "try_draw", lambda self, trial: trial.draw == 1)
        shown = export("gradescope", "1", "--seed", str(SEED), "--out", str(out))
    assert "with the class's seed: keep it to yourself" in shown.stdout
    with zipfile.ZipFile(folder / "autograder.zip") as archive:
        archive.extractall(folder / "source")
    (wheel,) = (folder / "source").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def test_the_zip_can_be_uploaded_as_it_is(uploaded):
    with zipfile.ZipFile(uploaded / "autograder.zip") as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert {"setup.sh", "run_autograder", "settings.json"} < set(modes)
    assert modes["run_autograder"] == modes["setup.sh"] == 0o755
    assert (uploaded / "autograder.zip").stat().st_size < 100 * 2**20  # Gradescope's limit
    settings = json.loads((uploaded / "source" / "settings.json").read_text())
    names = [exercise.name for exercise in read_exercises(find_material(), KEY)]
    assert settings == {"lesson": KEY, "seed": SEED, "draws": {name: [1] for name in names}}
    for script in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", uploaded / "source" / script], check=True)
    assert (uploaded / "site/mini_transformer/course/material/solutions" / f"ex{KEY}.py").exists()


def test_a_second_export_keeps_the_seed(uploaded, tmp_path):
    assert find_kept_seed(uploaded / "autograder.zip") == SEED
    assert find_kept_seed(tmp_path / "new.zip") is None
    (tmp_path / "notes.zip").write_bytes(b"notes")
    refused = export("gradescope", "1", "--out", str(tmp_path / "notes.zip"))
    assert "is no autograder: give another --out, or delete it" in refused.stderr


def test_late_is_what_comes_after_the_due_date_or_after_ones_own():
    late = METADATA | {"created_at": "2018-08-01T08:00:00.000000+02:00"}
    assert not is_late(METADATA)
    assert not is_late(late)  # it is still 23:00 there
    late = METADATA | {"created_at": "2018-08-01T08:00:01.000000+02:00"}
    assert is_late(late)
    extended = {"name": "Ann", "assignment": {"due_date": "2018-08-02T23:00:00.000000-07:00"}}
    assert not is_late(late | {"users": [extended]})
    assert not is_late(late | {"assignment": {"due_date": None}})


def export(*given):
    return CliRunner().invoke(app, ["export", *given])


def test_what_cannot_be_exported_is_said(tmp_path):
    refused = export("gradescope", "1", "--seed", "5", "--out", str(tmp_path / "a.zip"))
    assert refused.exit_code == 2
    assert "--seed is 5, which students can guess" in refused.stderr
    assert "no lesson is called '77'" in export("gradescope", "77").stderr
    misplaced = export("boolean_and", str(tmp_path / "toy"), "--out", str(tmp_path))
    assert "--out is for gradescope and github-classroom" in misplaced.stderr


ATTACK = """
import os, pathlib, time
def steal(path):
    try:
        print("READ", pathlib.Path(path).read_text()[:200])
    except OSError as error:
        print(type(error).__name__)
FORGED = '{"score": 1000}'
PLACES = ("/autograder/results/results.json", "/autograder/results.json", "/autograder/source/x")
steal("/autograder/source/settings.json")
print(os.getuid())
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for place in PLACES:
            try:
                pathlib.Path(place).write_text(FORGED)
            except OSError:
                pass
        time.sleep(0.01)
    os._exit(0)
"""


def run_autograder(uploaded, folder, source):
    """Run it in a tree like Gradescope's, as root, and return what it wrote."""
    top = folder / "autograder"
    shutil.copytree(uploaded / "source", top / "source")
    shutil.copy(top / "source" / "run_autograder", top)
    (top / "submission_metadata.json").write_text(json.dumps(METADATA))
    (top / "submission").mkdir()
    (top / "results").mkdir()
    (top / "results").chmod(0o777)
    (top / "submission" / f"ex{KEY}.py").write_text(source)
    (top / "submission" / "helpers.py").write_text("x = 1\n")
    command = ["bwrap", "--cap-add", "ALL", "--unshare-pid", "--die-with-parent"]
    command += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp"]
    command += [*sandbox.show_files(), "--ro-bind", "/usr/bin", "/usr/bin"]
    command += [
        "--dir",
        "/opt",
        "--ro-bind",
        "/bin",
        "/bin",
        "--bind",
        uploaded / "site",
        "/opt/site",
    ]
    command += ["--symlink", sys.prefix, "/opt/minilab", "--bind", top, "/autograder"]
    command += ["--setenv", "PYTHONPATH", "/opt/site", "bash", "/autograder/run_autograder"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((top / "results" / "results.json").read_text())


@pytest.mark.slow
def test_run_autograder_gives_each_submission_what_it_deserves(uploaded, tmp_path):
    find_or_skip()
    if os.geteuid() != 0:
        pytest.skip("Gradescope runs as root, which this is not")
    material = find_material()
    right = (material.solutions / f"ex{KEY}.py").read_text()
    stub = (material.exercises / f"ex{KEY}.py").read_text()
    solved = run_autograder(uploaded, tmp_path / "right", right)
    most = sum(test["max_score"] for test in solved["tests"])
    assert solved["score"] == most > 0
    assert LATE not in solved["output"]

    untouched = run_autograder(uploaded, tmp_path / "stub", stub)
    assert untouched["score"] == 0

    attacked = run_autograder(uploaded, tmp_path / "attack", ATTACK + stub)
    assert attacked["score"] == 0
    assert str(SEED) not in json.dumps(attacked)
    assert not (tmp_path / "attack/autograder/source/x").exists()
