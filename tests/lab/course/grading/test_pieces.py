"""Whatever is cut out of a learner's text, all lines keep their numbers."""

import __future__

import ast

import pytest
from learner_file import ANSWER, load

from mini_transformer.course.grading import pieces
from mini_transformer.course.grading.loading import StudentError


@pytest.mark.parametrize("terms", [5000, 50_000])
def test_an_expression_that_is_too_deep_is_one_sentence(tmp_path, terms):
    with pytest.raises(StudentError, match=r"^ex01\.py is nested too deeply for Python"):
        load(tmp_path, ANSWER + f"x = {'+'.join(['1'] * terms)}\n")


TEXT = """\
import math


@staticmethod
def f(x):
    return x; y = 1


a = "é"; b = (
    2
)
class C: pass
"""


def parse(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def test_a_file_that_is_python_is_one_piece_and_cells_are_pieces_only_if_one_of_them_is_broken():
    assert pieces.divide("# %%\na = 1\n# %%\nb = 2\n") == ["# %%\na = 1\n# %%\nb = 2\n"]
    assert len(pieces.divide("# %%\na = 1\n# %%\nb = (\n")) == 2
    with pytest.raises(SyntaxError):
        pieces.divide("b = (\n")


def test_functions_stand_where_they_are_with_their_decorators_also_beside_a_broken_cell():
    assert pieces.locate_functions(TEXT) == {"f": slice(3, 6)}
    broken = "# %%\nb = (\n# %%\n" + TEXT
    assert pieces.locate_functions(broken) == {"f": slice(6, 9)}


def test_what_is_kept_of_a_text_keeps_its_lines():
    lines = TEXT.split("\n")
    for statement in parse(TEXT):
        rest = pieces.cut_before(TEXT, statement)
        assert ast.dump(parse(rest)[-1]) == ast.dump(parse(TEXT)[-1])
        first = next(each for each in parse(rest) if not pieces.does_nothing(each))
        assert ast.unparse(first) == ast.unparse(statement)
        assert first.lineno == statement.lineno
    kept, definitions = pieces.keep_definitions(TEXT, parse(TEXT))
    assert [line or lines[i] for i, line in enumerate(kept.split("\n"))] == lines
    assert list(map(ast.dump, parse(kept))) == list(map(ast.dump, definitions))
    assert [each.lineno for each in parse(kept)] == [each.lineno for each in definitions]
    assert [type(each).__name__ for each in definitions] == ["Import", "FunctionDef", "ClassDef"]


def test_a_statement_that_is_replaced_leaves_its_neighbours_and_their_lines():
    statement = parse(TEXT)[3]  # over three lines, behind a letter of two bytes
    replaced = pieces.replace_by_pass(TEXT, statement)
    assert 'a = "é"; pass\n\n\nclass C: pass' in replaced


def test_names_that_a_statement_makes_are_found_also_where_it_does_not_compile():
    made = [pieces.find_made(statement) for statement in parse(TEXT)]
    assert made == [{"math"}, {"f"}, {"a"}, {"b"}, {"C"}]
    assert pieces.guess_made(TEXT + "(") == {"f", "a", "C"}


def test_flags_are_those_of_the_future():
    statement = parse("from __future__ import annotations")
    assert pieces.find_flags(statement) == __future__.annotations.compiler_flag
    assert pieces.find_flags(parse(TEXT)) == 0
