"""Grading in a container: the command that is put together, and the same tables from a real one."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from sample_class import write_class
from typer.testing import CliRunner

from mini_transformer.cli import app
from mini_transformer.course.lecturer import container
from mini_transformer.course.material import CourseError

SUMMARY = {"failed": {}, "students": 1, "answer": "from inside"}
SAID = json.dumps(SUMMARY)
FAKE = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >> {log}; done
echo -- >> {log}
case "$1 $2" in "image inspect") exit {missing};; "run --rm") echo '{answer}';; esac
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Put a program on PATH that writes down how it is called, and answers as if all went well."""

    def install(name, missing=0, answer=SAID):
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / name
        text = FAKE.format(log=tmp_path / "log", missing=missing, answer=answer)
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        monkeypatch.setattr(container.shutil, "which", lambda asked: find(asked, name, program))
        monkeypatch.setattr(container, "is_root", lambda: False)
        monkeypatch.setattr(container, "write_wheel", write_nothing)
        return lambda: [call.split("\n")[:-1] for call in read_calls(tmp_path / "log")]

    return install


def find(asked, name, program):
    return str(program) if asked == name else None


def read_calls(log):
    return log.read_text().split("--\n")[:-1]


def write_nothing(folder):
    path = folder / "mini_transformer-1-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return path


def test_podman_is_run_without_network_or_rights_and_only_out_can_be_written(engine, tmp_path):
    calls = engine("podman")
    handed, out = tmp_path / "handed in, late", tmp_path / "grades"
    handed.mkdir()
    (tmp_path / "class.csv").write_text("name\n")
    given = ["01", "--seed", str(2**50), "--jobs", "2", "--bom"]
    found = container.grade_in_container(given, handed, out, tmp_path / "class.csv")
    assert found == SUMMARY
    inspected, run = calls()
    assert inspected[:2] == ["image", "inspect"]
    image = inspected[2]
    options, inside = run[: run.index(image)], run[run.index(image) + 1 :]
    assert options[:4] == ["run", "--rm", "--network", "none"]
    assert {"--read-only", "no-new-privileges", "unmask=/proc/*"} < set(options)
    assert options[options.index("--cap-drop") + 1] == "ALL"
    assert options[options.index("--userns") + 1] == "keep-id"
    assert not {"--privileged", "--cap-add", "seccomp=unconfined"} & set(options)
    mounts = [options[i + 1] for i, word in enumerate(options) if word == "--mount"]
    assert mounts == [
        f'type=bind,"source={handed}","target=/host{handed}",readonly',
        f"type=bind,source={out},target=/host{out}",
        f"type=bind,source={tmp_path}/class.csv,target=/host{tmp_path}/class.csv,readonly",
    ]
    assert inside == [
        *["minilab", "grade", *given, "--json", "--submissions", f"/host{handed}"],
        *["--out", f"/host{out}", "--roster", f"/host{tmp_path}/class.csv"],
    ]


def test_docker_runs_it_as_the_user_and_the_image_is_built_if_it_is_not_there(engine, tmp_path):
    calls = engine("docker", missing=1)
    container.grade_in_container([], tmp_path, tmp_path / "out")
    inspected, built, run = calls()
    assert built[:2] == ["build", "--tag"]
    assert built[2] == inspected[2]
    assert built[2].startswith("localhost/mini-transformer:")
    assert run[run.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert {"systempaths=unconfined", "seccomp=unconfined", "apparmor=unconfined"} < set(run)


def test_the_command_shows_what_the_container_found(engine, tmp_path, monkeypatch):
    calls = engine("podman")
    (tmp_path / "handed_in").mkdir()
    given = ["grade", "1", "--submissions", str(tmp_path / "handed_in"), "--container", "--json"]
    given += ["--out", str(tmp_path / "out"), "--variant-by", "student"]
    shown = CliRunner().invoke(app, given)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == SUMMARY
    assert calls()[-1][-8:-4] == ["1", "--variant-by", "student", "--json"]
    shown = CliRunner().invoke(app, [*given, "--dask", "local"])
    assert shown.exit_code == 2
    assert "--container has sandboxes and no network" in shown.stderr


def test_what_cannot_be_is_said_in_one_sentence(engine, tmp_path, monkeypatch):
    engine("podman", answer="")
    with pytest.raises(CourseError, match="ended with status 0 and no summary"):
        container.grade_in_container([], tmp_path, tmp_path / "out")
    with pytest.raises(CourseError, match="is no folder"):
        container.grade_in_container([], tmp_path / "nowhere", tmp_path / "out")
    monkeypatch.setattr(container, "is_root", lambda: True)
    with pytest.raises(CourseError, match="not for root"):
        container.grade_in_container([], tmp_path, tmp_path / "out")
    monkeypatch.setattr(container.shutil, "which", lambda name: None)
    with pytest.raises(CourseError, match="needs Podman or Docker, and neither is here"):
        container.grade_in_container([], tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_a_class_has_the_same_tables_in_the_container_and_without(tmp_path):
    """The image must be there already: `minilab grade --container` builds it."""
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None or container.is_root():
        pytest.skip("no Podman or Docker here, or root, for whom it is not")
    image = container.name_image(tmp_path)
    if subprocess.run([engine, "image", "inspect", image], capture_output=True).returncode:
        pytest.skip(f"the image {image} is not here")
    write_class(tmp_path / "class", 10)
    given = ["grade", "01", "--submissions", str(tmp_path / "class"), "--seed", str(2**50)]
    for name, more in (("outside", []), ("inside", ["--container"])):
        shown = CliRunner().invoke(app, [*given, "--out", str(tmp_path / name), *more])
        assert shown.exit_code == 0, shown.output
    for table in ("grades.csv", "totals.csv", "summary.txt", "summary.json"):
        assert (tmp_path / "inside" / table).read_bytes() == (
            tmp_path / "outside" / table
        ).read_bytes()


LIKE_WINDOWS = """
import os, shutil, signal, socket, sys
for module in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[module] = None
for place, names in ((os, ("getuid", "geteuid", "killpg")), (signal, ("SIGKILL", "setitimer"))):
    for name in names:
        delattr(place, name)
del socket.send_fds, socket.recv_fds
from mini_transformer.cli import app
app()
"""


@pytest.mark.slow
def test_what_windows_has_not_is_not_needed_outside_the_container(engine, tmp_path):
    calls = engine("docker")
    (tmp_path / "handed_in").mkdir()
    given = ["grade", "1", "--container", "--submissions", "handed_in", "--out", "out", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", LIKE_WINDOWS, *given],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == SUMMARY, done.stderr
    run = calls()[-1]
    assert run[run.index("--user") + 1] == "1000:1000"
