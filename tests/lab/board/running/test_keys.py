"""What makes an old row worthless, and what does not."""

import sys
from pathlib import Path

import pytest

from mini_transformer.board.running import keys as board_keys
from mini_transformer.board.running.jobs import Draw, Job
from mini_transformer.board.running.keys import find_change, list_sources, make_key

JOB = Job("circuit", "forge/zero", "eap", 0)


def test_a_change_of_the_job_its_models_or_versions_makes_old_rows_worthless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = make_key(JOB, Draw(seed=1), 60)
    assert key == make_key(JOB, Draw(seed=1), 60.0)
    others = [
        make_key(JOB, Draw(seed=1), 61),
        make_key(JOB, Draw(seed=2), 60),
        make_key(JOB, Draw("tuning", 1), 60),
        make_key(Job("circuit", "forge/zero", "eap", 1), Draw(seed=1), 60),
    ]
    board_keys.hash_package.cache_clear()
    monkeypatch.setattr(board_keys.metadata, "version", lambda name: "0.0")
    others.append(make_key(JOB, Draw(seed=1), 60))
    board_keys.hash_package.cache_clear()
    assert len({key, *others}) == 6


def test_every_file_of_the_package_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(board_keys, "hash_files", lambda files, *words: seen.extend(files) or "")
    board_keys.hash_package.cache_clear()
    board_keys.hash_package()
    board_keys.hash_package.cache_clear()
    names = {path.relative_to(board_keys.PACKAGE).as_posix() for path in seen}
    assert {"model.py", "board/families/circuit/traps.py"} <= names
    assert any(name.endswith(".safetensors") for name in names)


def pick(depends):
    return {name: what for name, what in depends["files"].items() if name.startswith("my_")}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """The code of a method that imports a helper, as this process lists it."""
    (tmp_path / "my_helper.py").write_text("FACTOR = 1\n")
    (tmp_path / "my_method.py").write_text("import my_helper\nimport rich\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    board_keys._hash_once.cache_clear()
    __import__("my_method")
    depends = list_sources()
    yield {"folder": tmp_path, "all": depends, "depends": {**depends, "files": pick(depends)}}
    for name in ("my_method", "my_helper"):
        del sys.modules[name]


def test_what_a_method_imports_is_listed_and_nothing_of_python_or_of_this_package(sources) -> None:
    files = sources["all"]["files"]
    assert {"my_method", "my_helper"} <= set(files)
    tops = {name.split(".")[0] for name in files}
    assert not {"json", "torch", "mini_transformer"} & tops, files
    assert {"torch", "rich"} <= set(sources["depends"]["packages"])
    assert find_change(sources["depends"]) is None


def test_a_change_in_a_helper_is_found_and_said(sources) -> None:
    helper = sources["folder"] / "my_helper.py"
    helper.write_text("FACTOR = 2\n")
    assert find_change(sources["depends"]) == "my_helper.py is not as it was"
    helper.unlink()
    assert find_change(sources["depends"]) == "my_helper.py is not as it was"


def test_another_file_of_the_same_name_is_found(sources, tmp_path_factory, monkeypatch) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "my_helper.py").write_text("FACTOR = 1\n")
    monkeypatch.syspath_prepend(str(other))
    assert str(other) in find_change(sources["depends"])


def test_another_version_of_a_package_is_found(sources) -> None:
    depends = {"files": {}, "packages": {**sources["depends"]["packages"], "rich": "0.1"}}
    assert find_change(depends).startswith("rich was 0.1 and is ")
