"""The tests mirror the package: `mini_transformer/a/b.py` is tested by `tests/lab/a/test_b.py`."""

import ast
from fnmatch import fnmatch
from pathlib import Path

import mini_transformer

PACKAGE = Path(mini_transformer.__file__).parent
TESTS = Path(__file__).parents[1] / "lab"
ACROSS = {  # tests of more than one module
    "faults/*": "every call on odd models, dtypes, devices and memory",
    "board/test_peeking.py": "methods that look for the truth, in child processes and notebooks",
    "board/test_run_command.py": "the board's command, from what is typed to its files",
    "board/metrics/test_published_defects.py": "defects of published metrics, on each of ours",
    "course/test_attacks.py": "submissions that mean harm, from the file to the report",
    "course/test_class.py": "a whole class with odd and hostile students, graded by the command",
    "course/test_same_verdict.py": "grading in this process and in a sandbox",
    "forge/test_brute_force.py": "truths of forged cases, by hooks written by hand",
    "forge/test_cheating.py": "answers to forged cases that look at nothing",
    "toys/test_told.py": "every toy and forged case, made again of configuration and weights",
    "forge/test_like_any_case.py": "claims, plots, the tour and the board on a forged case",
    "methods/test_bad_inputs_messages.py": "bad values of every argument of every technique",
    "methods/test_signatures.py": "one name, one annotation, in all techniques",
    "methods/test_side_effects.py": "every technique, interrupted at every hook",
    "methods/test_*_reference.py": "numbers of other libraries, whose file may cover several "
    "modules",
}


def holds_code(path: Path) -> bool:
    """Say whether a module does more than import and offer names, as some `__init__.py` do."""
    doing = [
        each
        for each in ast.parse(path.read_text(encoding="utf-8")).body
        if not isinstance(each, (ast.Import, ast.ImportFrom, ast.Expr))
        and not (isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "__all__")
    ]
    return path.name != "__init__.py" or bool(doing)


def list_wanted(package: Path) -> dict[str, str]:
    """Map the test file that each module must have to the module, both as seen from the top."""
    wanted = {}
    for path in sorted(package.rglob("*.py")):
        if holds_code(path):
            name = path.parent.name if path.name == "__init__.py" else path.stem
            module = path.relative_to(package)
            wanted[str(module.with_name(f"test_{name}.py"))] = str(module)
    return wanted


def list_faults(package: Path, tests: Path) -> list[str]:
    """Say, in a sentence each, which modules have no test file and which test files no module."""
    wanted = list_wanted(package)
    there = [str(path.relative_to(tests)) for path in sorted(tests.rglob("test_*.py"))]
    mirrors = {name for name in there if not any(fnmatch(name, pattern) for pattern in ACROSS)}
    untested = [f"{module} has no {name}" for name, module in wanted.items() if name not in mirrors]
    strangers = [
        f"{name} has no module"
        for name in sorted(mirrors)
        if name.replace("_messages.py", ".py") not in wanted
    ]
    return untested + strangers


def test_every_module_has_its_test_file_and_every_test_file_its_module():
    assert list_faults(PACKAGE, TESTS) == []


def test_every_exception_is_needed():
    there = [str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")]
    assert [
        pattern for pattern in ACROSS if not any(fnmatch(name, pattern) for name in there)
    ] == []


def test_what_breaks_the_mirror_is_named(tmp_path):
    files = {
        "package/__init__.py": "def __getattr__(name): ...",
        "package/room/__init__.py": "from room import thing",
        "package/room/thing.py": "",
        "package/room/other.py": "",
        "tests/test_package.py": "",
        "tests/room/test_thing_messages.py": "",
        "tests/room/test_other.py": "",
        "tests/room/test_room.py": "",
        "tests/faults/test_all.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list_faults(tmp_path / "package", tmp_path / "tests") == [
        "room/thing.py has no room/test_thing.py",
        "room/test_room.py has no module",
    ]
