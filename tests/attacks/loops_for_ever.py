"""Never return, and switch off what would stop it. Verdict: double 0, add_halves 2."""

import signal


def double(x):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def add_halves(x, y):
    return (x + y) / 2
