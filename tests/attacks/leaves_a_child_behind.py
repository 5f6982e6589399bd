"""Leave a process that writes when grading is over. Verdict: double 0, add_halves 2."""

import subprocess
import sys


def double(x):
    code = (
        "import time\nwhile True:\n    time.sleep(0.1)\n"
        "    try: open('@OUTSIDE@/late', 'w')\n    except OSError: pass"
    )
    subprocess.Popen([sys.executable, "-c", code, "@MARKER@"], start_new_session=True)
    return x


def add_halves(x, y):
    return (x + y) / 2
