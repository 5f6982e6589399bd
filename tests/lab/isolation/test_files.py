"""A file is written whole or not at all."""

import os
import stat

import pytest

from mini_transformer.isolation.files import hash_files, write_atomically


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_atomically(path, "old")

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_file_in_a_new_folder_is_there_for_everybody_to_read(tmp_path):
    path = tmp_path / "new" / "folder" / "x"
    write_atomically(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_hash_changes_with_a_name_a_content_or_a_word_and_not_with_the_order(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for path in (first, second):
        path.write_text("same")
    hashes = [hash_files([first]), hash_files([second]), hash_files([first], "word")]
    hashes += [hash_files([first, second])]
    first.write_text("other")
    hashes += [hash_files([first])]
    assert len(set(hashes)) == 5
    assert hash_files([first, second]) == hash_files([second, first])
