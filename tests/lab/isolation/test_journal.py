"""What was appended is there again, whatever a crash did to the last line."""

import pytest

from mini_transformer.isolation.journal import Journal


def test_entries_are_read_again_and_the_last_of_a_key_counts(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    journal = Journal(path)
    journal.append("a", {"n": 1})
    journal.append("b", [2])
    journal.append("a", {"n": 3})
    assert Journal(path).entries == journal.entries == {"a": {"n": 3}, "b": [2]}


def test_a_torn_line_is_lost_alone_and_what_is_appended_to_it_is_not(tmp_path):
    path = tmp_path / "rows.jsonl"
    for key in "abc":
        Journal(path).append(key, key)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        journal = Journal(path)
        assert list(journal.entries) == list("abc"[: whole[: length + 1].count(b"\n")])
        for key in "de":
            journal.append(key, key)
        assert Journal(path).entries == journal.entries
        assert b"\n\n" not in path.read_bytes()


@pytest.mark.parametrize("line", [b"3", b"[]", b'{"key": "a"}', b'{"key": [1], "entry": 2}', b"\0"])
def test_a_line_that_is_no_entry_is_ignored(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b'\n{"key": "a", "entry": 1}\n')
    assert Journal(path).entries == {"a": 1}
