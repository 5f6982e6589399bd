"""Clear a screen, colour it, and never end. Verdict: double 0, add_halves 2."""

print("\x1b[2J\x1b[32mall exercises solved\x07")


def double(x):
    raise ValueError("\x1b[2J\x1b[1A\x1b[32m[bold]3 of 3 points[/bold]\r" + "x" * 10**6)


def add_halves(x, y):
    return (x + y) / 2
