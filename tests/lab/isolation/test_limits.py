"""What somebody else's code prints, takes in time and changes does not reach its caller."""

import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from mini_transformer.isolation.limits import OutOfTime, Output, limited_time, undisturbed


def test_of_much_output_the_beginning_is_kept_and_the_lines_are_counted():
    output = Output(max_lines=2, max_characters=10)
    for _ in range(1000):
        print("a" * 7, file=output)
    assert output.show() == ["aaaaaaa", "aa", "... and 998 more lines"]
    assert len(output.beginning.kept) == 40


def test_an_output_that_was_detached_or_closed_is_renewed_with_what_it_held():
    output = Output()
    print("one", file=output)
    output.close()
    output.detach()
    print("two", end="", file=output.renew())
    assert output.show() == ["one", "two"]


def test_what_is_printed_warned_and_written_to_the_error_stream_is_collected():
    output = Output()
    with undisturbed(output):
        print("printed")
        print("error", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
        with pytest.raises(EOFError):
            input()
    *printed, warned = output.show()
    assert printed == ["printed", "error"]
    assert warned.endswith("UserWarning: careful")


def test_random_numbers_are_the_same_in_every_block_and_those_outside_go_on():
    torch.manual_seed(1)
    expected = torch.rand(2)
    drawn = []
    for seed in range(2):
        torch.manual_seed(seed)
        with undisturbed(Output()):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.rand(2), expected)


def test_what_the_block_changes_is_restored_also_after_an_exception(tmp_path):
    def look():
        modes = (torch.get_default_dtype(), torch.get_num_threads(), np.geterr())
        return modes, os.getcwd(), dict(os.environ), list(sys.argv), sys.getrecursionlimit()

    def spoil():
        torch.set_default_dtype(torch.float64)
        np.seterr(all="raise")
        os.environ["NEW"] = "1"
        sys.argv.append("more")
        os.chdir(tmp_path)
        raise KeyboardInterrupt

    before = look()
    with pytest.raises(KeyboardInterrupt), undisturbed(Output(), recursion=500):
        spoil()
    assert look() == before


def test_a_block_has_its_depth_of_calls_however_deep_it_is_called():
    def go_down(n):
        return 0 if n == 0 else 1 + go_down(n - 1)

    def call_from(depth):
        if depth:
            return call_from(depth - 1)
        with undisturbed(Output(), recursion=300):
            assert go_down(250) == 250
            with pytest.raises(RecursionError):
                go_down(400)

    for depth in (0, 300):
        call_from(depth)


SWALLOWING = "while True:\n try:\n  while True: pass\n except Exception: swallowed.append(1)"


@pytest.mark.parametrize("loop", ["while True: pass", SWALLOWING])
def test_a_loop_without_end_is_ended_in_time_and_no_alarm_is_left(loop):
    before = signal.getsignal(signal.SIGALRM)
    started = time.process_time()
    swallowed = []
    with pytest.raises(OutOfTime), limited_time(0.1):
        exec(loop, {"swallowed": swallowed})
    assert swallowed == []
    assert time.process_time() - started < 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_outside_the_main_thread_there_is_no_limit():
    ended = []

    def run():
        with limited_time(0.01):
            time.sleep(0.05)
            ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ended == [True]
