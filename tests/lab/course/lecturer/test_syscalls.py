"""The kernel's doors are closed for a process and all that it starts."""

import platform
import struct
import subprocess
import sys

import pytest

from mini_transformer.course.lecturer.syscalls import (
    ARCHITECTURES,
    PRLIMIT,
    REFUSED,
    SOCKET,
    write_filter,
)

ALLOW, EPERM, NO_FAMILY = 0x7FFF0000, 0x00050001, 0x00050061


def run_filter(program, number, architecture, first=0):
    """Run a filter as the kernel does, by the definition of classic BPF."""
    data = struct.pack("=IIQQ", number, architecture, 0, first)
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, then, otherwise, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code in (0x15, 0x35):
            holds = value == operand if code == 0x15 else value >= operand
            at += then if holds else otherwise
        else:
            return operand


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_refused_call_is_refused_and_others_are_not(machine):
    column, architecture = ARCHITECTURES[machine]
    program = write_filter(machine)
    refused = {numbers[column] for numbers in REFUSED.values()}
    assert len(refused) == len(REFUSED)
    for number in range(460):
        if number in (SOCKET[column], PRLIMIT[column]):
            continue
        expected = EPERM if number in refused else ALLOW
        assert run_filter(program, number, architecture) == expected, number


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_limits_of_others_other_sockets_and_other_tables_are_refused(machine):
    column, architecture = ARCHITECTURES[machine]
    program = write_filter(machine)
    assert run_filter(program, PRLIMIT[column], architecture, 0) == ALLOW
    assert run_filter(program, PRLIMIT[column], architecture, 2) == EPERM
    families = {family: run_filter(program, SOCKET[column], architecture, family)
                for family in range(46)}  # fmt: skip
    assert {family for family, verdict in families.items() if verdict == ALLOW} == {1, 2, 10, 16}
    assert set(families.values()) == {ALLOW, NO_FAMILY}
    assert run_filter(program, 0, architecture ^ 1) == EPERM
    assert run_filter(program, 0x40000000, architecture) == EPERM


def test_another_machine_has_no_filter():
    assert write_filter("riscv64") == b""


CODE = """
import ctypes, os, subprocess, sys
from mini_transformer.course.lecturer.syscalls import close_doors
close_doors()
number = {number}
libc = ctypes.CDLL(None, use_errno=True)
own = libc.syscall(number, 6, -3, None, 0), ctypes.get_errno()
child = "import ctypes; print(ctypes.CDLL(None).syscall(%d, 6, -3, None, 0))" % number
print(own, subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
"""


@pytest.mark.skipif(platform.machine() not in ARCHITECTURES, reason="no filter for this machine")
@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
def test_the_kernel_takes_the_filter_and_children_have_it_too():
    column = ARCHITECTURES[platform.machine()][0]
    code = CODE.format(number=REFUSED["keyctl"][column])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["(-1,", "1)", "-1"], done.stderr
