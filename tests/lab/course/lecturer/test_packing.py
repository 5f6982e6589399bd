"""The wheel made from what is installed is one that pip would have installed."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile

from mini_transformer.course.lecturer.packing import PACKAGE, write_wheel


def test_the_wheel_holds_the_whole_course_and_its_record_is_right(tmp_path):
    path = write_wheel(tmp_path)
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (record,) = [name for name in names if name.endswith(".dist-info/RECORD")]
        for name, digest, size in csv.reader(io.StringIO(wheel.read(record).decode())):
            if name != record:
                content = wheel.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (digest, size) == (f"sha256={found.rstrip('=')}", str(len(content)))
    inside = "mini_transformer/course/material"
    assert {"mini_transformer/cli.py", f"{inside}/mutants/ex01_residual_stream.py"} < set(names)
    assert {f"{inside}/{folder}" for folder in ("lessons", "exercises", "solutions", "graders")} < {
        name.rpartition("/")[0] for name in names
    }
    own = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py")}
    assert own < set(names)
    assert not any("__pycache__" in name for name in names)


def test_equal_files_give_equal_bytes_and_pip_takes_them(tmp_path):
    first = write_wheel(tmp_path)
    (tmp_path / "again").mkdir()
    assert write_wheel(tmp_path / "again").read_bytes() == first.read_bytes()
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--dry-run"]
    command += ["--ignore-installed", first]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Would install mini-transformer" in said
