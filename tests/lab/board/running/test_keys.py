"""What makes an old row worthless, and what does not."""

from pathlib import Path

import pytest
from sample_jobs import PROBLEM

from mini_transformer.board.running import keys as board_keys
from mini_transformer.board.running.jobs import Job
from mini_transformer.board.running.keys import make_key


def test_a_change_of_code_versions_or_method_makes_old_rows_worthless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_method.py").write_text("def f(): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    mine, built_in = Job("circuit", PROBLEM, "my_method:f", 0), Job("circuit", PROBLEM, "eap", 0)
    keys = make_key(mine, 60), make_key(built_in, 60)
    assert keys == (make_key(mine, 60.0), make_key(built_in, 60))
    (tmp_path / "my_method.py").write_text("def f(): return 1")
    board_keys.hash_module.cache_clear()
    assert make_key(mine, 60) != keys[0]
    assert make_key(built_in, 60) == keys[1]
    assert make_key(built_in, 61) != keys[1]
    assert make_key(Job("circuit", PROBLEM, "eap", 1), 60) != keys[1]
    board_keys.hash_package.cache_clear()
    monkeypatch.setattr(board_keys.metadata, "version", lambda name: "0.0")
    assert make_key(built_in, 60) != keys[1]
    board_keys.hash_package.cache_clear()


def test_every_file_of_the_package_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(board_keys, "hash_files", lambda files, *words: seen.extend(files) or "")
    board_keys.hash_package.cache_clear()
    board_keys.hash_package()
    board_keys.hash_package.cache_clear()
    names = {path.relative_to(board_keys.PACKAGE).as_posix() for path in seen}
    assert {"model.py", "board/families/circuit/traps.py"} <= names
    assert any(name.endswith(".safetensors") for name in names)
