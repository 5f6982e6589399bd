"""What code in the sandbox can see and do; where there is no sandbox, nothing is run."""

from pathlib import Path

import pytest
from sandboxed import find_or_skip

from mini_transformer.course.lecturer import doctor, sandbox
from mini_transformer.course.lecturer.isolated import IsolatedStudent
from mini_transformer.course.lecturer.sandbox import NO_SANDBOX, Sandbox
from mini_transformer.course.material import CourseError, find_material

LOOKING = b"""
import os, pathlib, resource, signal, socket

def list_files(endings):
    skipped = {"/proc", "/sys", "/usr/lib/x86_64-linux-gnu"}
    found = []
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in skipped]
        found += [os.path.join(folder, name) for name in files if name in endings]
    return found
def list_folder(path): return sorted(os.listdir(path))
def read_environment(): return dict(os.environ)
def read_limits():
    names = ("NPROC", "FSIZE", "CORE", "NOFILE", "CPU", "AS")
    return [resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in names]
def read_user(): return [os.getuid(), os.geteuid(), os.getgroups()]
def read_status(): return dict(line.split(":", 1) for line in open("/proc/self/status"))
def read_score(): return open("/proc/self/oom_score_adj").read().strip()
def list_processes(): return len([name for name in os.listdir("/proc") if name.isdigit()])
def list_interfaces(): return [name for _, name in socket.if_nameindex()]
def write(path):
    try:
        with open(path, "w") as file: return file.write("x")
    except OSError as error: return type(error).__name__
"""


@pytest.fixture(scope="module")
def inside():
    with IsolatedStudent("ex01_samples.py", LOOKING, sandbox=find_or_skip()) as student:
        yield student


def test_solutions_graders_and_mutants_cannot_be_seen(inside):
    material, tests = find_material(), Path(__file__).parents[3]
    hidden = [
        *material.solutions.glob("*"),
        *material.graders.glob("*.py"),
        *tests.glob("mutants/*.py"),
    ]
    endings = {path.name for path in hidden if path.is_file() and path.name != "conftest.py"}
    assert len(endings) >= 6
    assert inside.call("list_files", sorted(endings)) == []
    assert inside.call("list_files", ["model.py"]) != []  # the search does find what is there


def test_of_the_project_only_the_package_can_be_seen(inside):
    top = sandbox.PACKAGE.parent
    assert (
        set(inside.call("list_folder", str(top))) <= {"mini_transformer", ".venv"}
        or "site-packages" in top.name
    )
    own = [path.name for path in top.parents if path.parent == Path("/tmp")] + [top.name] * (
        top.parent == Path("/tmp")
    )
    assert set(inside.call("list_folder", "/tmp")) == {
        "ex01_samples.py",
        *own,
    }  # the project may stand there itself


def test_the_environment_is_empty_but_for_what_python_needs(inside):
    assert inside.call("read_environment") == sandbox.list_environment() | {"PWD": "/tmp"}


def test_the_limits_cannot_be_raised_and_the_user_has_no_rights(inside):
    processes, size, core, files, cpu, memory = inside.call("read_limits")
    assert (processes, size, core) == (sandbox.PROCESSES, sandbox.DISK, 0)
    assert (files, cpu) == (sandbox.OPEN_FILES, sandbox.CPU_SECONDS)
    assert sandbox.MEMORY < memory < 4 * sandbox.MEMORY
    status = inside.call("read_status")
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert 0 not in inside.call("read_user")[:2]
    assert inside.call("read_score") == "1000"  # the first to go when the machine is out of memory


def test_there_are_only_its_own_processes_and_no_network(inside):
    assert inside.call("list_processes") <= 3
    assert inside.call("list_interfaces") in ([], ["lo"])


@pytest.mark.parametrize(
    "path", ["/x", "/dev/x", "/etc/x", "/proc/sys/kernel/core_pattern", str(sandbox.PACKAGE / "x")]
)
def test_nothing_can_be_written_outside_tmp(inside, path):
    assert inside.call("write", path) in ("OSError", "PermissionError", "FileNotFoundError")
    assert inside.call("write", "/tmp/x") == 1
    assert not Path("/tmp/x").exists() or Path("/tmp/x").stat().st_uid not in sandbox.FREE_UIDS


def test_two_sandboxes_under_root_are_two_users(monkeypatch):
    monkeypatch.setattr(sandbox, "is_root", lambda: True)
    assert Sandbox("bubblewrap").command[-1] == "own"
    monkeypatch.setattr(sandbox, "is_root", lambda: False)
    assert Sandbox("bubblewrap").command[-1] == "same"
    assert NO_SANDBOX.command[-1] == sandbox.find_sandbox("none").command[-1] == "unsafe"
    other = sandbox.find_sandbox("another user")
    assert (other.command[-1], other.wrapping, other.is_safe) == ("another", (), False)


def test_who_is_not_root_gets_a_user_namespace_and_can_make_no_other(monkeypatch):
    monkeypatch.setattr(sandbox, "is_root", lambda: False)
    arguments = sandbox.arrange_sandbox()
    assert {"--unshare-user", "--disable-userns"} <= set(arguments)
    assert "CAP_SETUID" not in arguments


def test_a_package_that_stands_in_tmp_is_shown_in_spite_of_the_new_tmp():
    arguments = sandbox.arrange_sandbox()
    last_tmp = max(
        i for i, word in enumerate(arguments) if word == "/tmp" and arguments[i - 1] == "--tmpfs"
    )
    assert last_tmp < arguments.index("--ro-bind")


def test_the_installed_packages_solutions_are_hidden_also_where_an_editable_install_has_them_twice(
    tmp_path, monkeypatch
):
    for place in ("installed", "elsewhere"):
        (tmp_path / place / "mini_transformer" / "course" / "material").mkdir(parents=True)
    monkeypatch.setattr(sandbox, "PACKAGE", tmp_path / "installed" / "mini_transformer")
    monkeypatch.setattr(
        sandbox.sys, "path", [str(tmp_path / "elsewhere"), str(tmp_path / "nowhere"), ""]
    )
    shown = [tmp_path / "elsewhere", tmp_path / "installed" / "mini_transformer"]
    hidden = [
        str(tmp_path / place / "mini_transformer/course/material")
        for place in ("elsewhere", "installed")
    ]
    assert [str(path) for path in sandbox.list_hidden(shown)] == hidden


def test_without_bubblewrap_nothing_runs_and_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(
        CourseError, match=r"not run without a sandbox.*sudo apt install bubblewrap"
    ):
        IsolatedStudent("ex01_samples.py", b"")
    (finding,) = doctor.examine_sandbox()
    assert finding.fine  # a learner does not need one
    assert "sudo apt install bubblewrap" in finding.advice


def test_an_old_bubblewrap_is_refused(tmp_path, monkeypatch):
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.6.1\n")
    old.chmod(0o755)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: str(old))
    with pytest.raises(
        CourseError,
        match=r"is bubblewrap 0.6.1: install bubblewrap 0.8 .* or grade with --container",
    ):
        sandbox.find_sandbox()
