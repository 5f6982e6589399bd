"""A learner's text is the same in every encoding, and a notebook is its code cells."""

import json

import pytest
from learner_file import ANSWER, load_notebook, write

from mini_transformer.course.grading.loading import load_learner_file
from mini_transformer.course.grading.sources import read_source
from mini_transformer.course.learner.reset import locate_function, read_learner_text
from mini_transformer.course.learner.workspace import find_line

ENCODINGS = {
    "declared cp932": ("# -*- coding: cp932 -*-\nT = '時間表'\n", "cp932", "時間表"),
    "declared gbk": ("# coding: gbk\nT = '注意力'\n", "gbk", "注意力"),
    "declared koi8-r": ("# coding: koi8-r\nT = 'привет'\n", "koi8-r", "привет"),
    "declared on the second line": (
        "#!/usr/bin/python\n# vim: fileencoding=cp1251\nT = 'да'\n",
        "cp1251",
        "да",
    ),
    "declared in an old Mac's file": ("# coding: cp1251\rT = 'да'\r", "cp1251", "да"),
    "latin-1 is not cp1252": ("# coding: latin-1\nT = '\x80'\n", "latin-1", "\x80"),
    "not declared": ("T = 'café'\n", "cp1252", "café"),
    "utf-16": ("T = 'café'\n", "utf-16", "café"),
    "utf-32": ("T = 'café'\n", "utf-32", "café"),
    "bom and crlf": ("\ufeffT = 'café'\r\n", "utf-8", "café"),
    "unknown to Python": ("# coding: utf8-foo\nT = 'café'\n", "utf-8", "café"),
    "declared, but not in it": ("# coding: utf-16\nT = 'ab'\n", "utf-8", "ab"),
    "no text encoding": ("# coding: rot13\nT = 'ab'\n", "utf-8", "ab"),
    "a line end of others in a string": ("T = 'a\u2028b\x85c'\n", "utf-8", "a\u2028b\x85c"),
}


@pytest.mark.parametrize(("text", "codec", "kept"), ENCODINGS.values(), ids=ENCODINGS)
def test_a_string_keeps_its_text_in_every_encoding_and_every_command_reads_it(
    tmp_path, text, codec, kept
):
    path = write(tmp_path, (text + ANSWER).encode(codec))
    assert load_learner_file(path).names["T"] == kept
    source = read_source(path.name, path.read_bytes())[0].decode()
    assert read_learner_text(path) == source
    assert source.split("\n")[locate_function(source, "f")] == ANSWER.split("\n")[:2]
    assert find_line(path, "f") == source[: source.index("def f")].count("\n") + 1


def test_the_second_line_of_a_string_declares_nothing(tmp_path):
    assert (
        load_learner_file(write(tmp_path, 'T = """\n# coding: latin-1\n"""\n')).names["T"]
        == "\n# coding: latin-1\n"
    )


def test_two_encodings_in_one_file_are_said_and_not_guessed():
    with pytest.raises(ValueError, match=r"invalid or missing encoding declaration for 'a\.py'"):
        read_source("a.py", b"x = 1\n" + "y = 'é'".encode("utf-16").replace(b"\0", b""))


VERSIONS = {
    "version 3": {
        "worksheets": [
            {"cells": [{"cell_type": "code", "input": ANSWER.splitlines(keepends=True)}]}
        ]
    },
    "damaged cells": {
        "cells": [
            {},
            "a",
            None,
            {"cell_type": "code", "source": None},
            {"cell_type": "code", "source": ANSWER},
        ]
    },
    "other cells": {
        "cells": [
            {"cell_type": "raw", "source": "f("},
            {"cell_type": "code", "id": "a", "source": ANSWER},
        ]
    },
}


@pytest.mark.parametrize("data", VERSIONS.values(), ids=VERSIONS)
def test_notebooks_of_every_version_are_read(tmp_path, data):
    for codec in ("utf-8", "utf-8-sig", "utf-16"):
        assert load_notebook(tmp_path, json.dumps(data).encode(codec)).call("f", 2) == 4
