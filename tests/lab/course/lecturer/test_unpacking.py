"""What was handed in is read as names and bytes; what cannot be read is left out, and said."""

import inspect
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sample_batch import ANSWER

from mini_transformer.course.lecturer import unpacking
from mini_transformer.course.lecturer.unpacking import Unpacked, unpack


def test_folders_deeper_than_pythons_calls_are_read(tmp_path):
    top = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 20
    for depth in range(250):  # longer than a path may be, from some depth on
        os.mkdir(name, dir_fd=top)
        below = os.open(name, os.O_RDONLY, dir_fd=top)
        os.close(top)
        top = below
        if depth in (150, 240):
            with open(
                os.open("ex01_samples.py", os.O_WRONLY | os.O_CREAT, dir_fd=top), "wb"
            ) as file:
                file.write(ANSWER)
    os.close(top)
    into = Unpacked()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        unpack(tmp_path / name, name, into)
    finally:
        sys.setrecursionlimit(before)
    assert list(into.files.values()) == [ANSWER]
    assert [remark.split(": ")[-1] for remark in into.remarks] == [
        "it cannot be read (File name too long)"
    ]
    subprocess.run(["rm", "-rf", tmp_path / name], check=True)


def test_a_folder_that_cannot_be_read_is_remarked(tmp_path, monkeypatch):
    (tmp_path / "ann" / "inner").mkdir(parents=True)
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    into = Unpacked()
    unpack(tmp_path / "ann", "ann", into)
    assert into.remarks == ["inner was left out: it cannot be read (Permission denied)"]


def unpack_bytes(folder, content, **room):
    (folder / "jane.zip").write_bytes(content)
    into = Unpacked(**room)
    unpack(folder / "jane.zip", "jane.zip", into)
    return into


def zip_up(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_links_and_paths_out_of_a_zip_are_left_out(tmp_path):
    link = zipfile.ZipInfo("ex02_hooks.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name in ("../ex01_samples.py", "/tmp/ex01_samples.py", "a\\..\\..\\ex01_samples.py"):
            archive.writestr(name, ANSWER)
    into = unpack_bytes(tmp_path, packed.getvalue())
    assert into.files == {}
    assert len(into.remarks) == 4


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "LARGEST", 10**5)
    bomb = zip_up({"ex01_samples.py": b"#" * 10**7, "ex02_hooks.py": ANSWER})
    assert len(bomb) < 20_000
    into = unpack_bytes(tmp_path, bomb)
    assert into.files == {"jane.zip/ex02_hooks.py": ANSWER}
    assert into.remarks == [
        "jane.zip/ex01_samples.py was left out: it is too large, more than 100000 bytes"
    ]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_cannot_be_bounded_are_not_unpacked(tmp_path, packing):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", packing) as archive:
        archive.writestr("ex01_samples.py", ANSWER)
    into = unpack_bytes(tmp_path, packed.getvalue())
    assert into.files == {}
    assert "packed in a way that few programs use" in into.remarks[0]


def test_what_many_files_add_up_to_is_limited(tmp_path):
    files = {f"{i}.py": b"#" * 300 for i in range(9)}
    assert len(unpack_bytes(tmp_path, zip_up(files), bytes_left=1000).files) == 3


def test_too_many_files_are_left_out_with_one_remark(tmp_path):
    into = unpack_bytes(tmp_path, zip_up({f"{i}.py": b"#" for i in range(50)}), files_left=5)
    assert len(into.files) == 5
    assert len(into.remarks) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no zip", zip_up({"ex01_samples.py": ANSWER})[:60]], ids=range(3)
)
def test_a_damaged_zip_costs_its_own_files_only(tmp_path, content):
    (tmp_path / "jane").mkdir()
    (tmp_path / "jane" / "a.zip").write_bytes(content)
    (tmp_path / "jane" / "ex02_hooks.py").write_bytes(ANSWER)
    into = Unpacked()
    unpack(tmp_path / "jane", "jane", into)
    assert into.files == {"ex02_hooks.py": ANSWER}
    assert into.remarks == ["a.zip was left out: it cannot be opened as a zip (BadZipFile)"]


def test_of_thousands_of_things_left_out_a_few_are_named(tmp_path):
    for i in range(200):
        (tmp_path / f"link{i}").symlink_to("nowhere")
    into = Unpacked()
    unpack(tmp_path, "ann", into)
    assert len(into.remarks) == unpacking.MOST_REMARKS + 1
    assert into.remarks[-1] == "and more was left out"
