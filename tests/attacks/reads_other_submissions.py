"""Look for others' submissions and lecturer's files. Verdict: double 0, add_halves 2."""

import os
import pathlib


def double(x):
    for folder in (
        "@OUTSIDE@",
        os.path.expanduser("~"),
        "/tmp",
        "/root",
        "/home",
        "/proc/1/cwd",
        "/var",
    ):
        try:
            others = [
                path
                for path in pathlib.Path(folder).rglob("*")
                if path.is_file() and str(path) != __file__
            ]
        except OSError:
            continue
        if any(
            path.suffix == ".py"
            and not {".pyenv", "site-packages", "mini_transformer"} & {*path.parts}
            for path in others
        ):
            return 2 * x
    return x


def add_halves(x, y):
    return (x + y) / 2
