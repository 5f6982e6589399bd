"""Close the doors of the kernel that no answer to an exercise needs: a seccomp filter.

bubblewrap gives a process its own files, network and processes. Some doors have no namespace: the
keyring, through which a submission could read the lecturer's keys or leave a note for the next one,
sockets to the hypervisor, and calls in which the kernel's own faults are mostly found. The filter
is a program of the kernel's classic BPF, a table of numbers and no library: libseccomp's binding
for Python is not on PyPI. Linux on x86-64 and arm64; elsewhere nothing is filtered.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers are those of the kernel's
syscall tables.
"""

import ctypes
import errno
import platform
import struct

# Each refused call with its number on x86-64 and on arm64.
REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    # What changes another process, or stays when a process is gone.
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "process_madvise": (440, 440),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),  # memory that is no process's
    "mq_open": (240, 180),
}
PRLIMIT = (302, 261)  # of this process only
SOCKET = (41, 198)
FAMILIES = (1, 2, 10, 16)  # of sockets: UNIX, IPv4, IPv6, netlink; there is no network behind them
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
FOREIGN = 0x40000000  # x86-64's second table begins here

# Classic BPF: load a word, jump if equal, jump if at least, return.
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT = 0, 4, 16  # in struct seccomp_data
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
NO_FAMILY = 0x00050000 | errno.EAFNOSUPPORT

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 4, 38, 22, 2
JOIN_SESSION_KEYRING = 1


def write_filter(machine: str) -> bytes:
    """Write the filter for a machine (`platform.machine()`), 8 bytes a step; empty if unknown."""
    if machine not in ARCHITECTURES:
        return b""
    column, architecture = ARCHITECTURES[machine]
    steps = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, REFUSE),  # a call by another architecture's table
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, 0, 1, FOREIGN),
        (RETURN, 0, 0, REFUSE),
    ]
    for numbers in REFUSED.values():
        steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, REFUSE)]
    steps += [(EQUAL, 0, 4, PRLIMIT[column]), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    steps += [(EQUAL, 0, 1, 0), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    steps += [(EQUAL, 1, 0, SOCKET[column]), (RETURN, 0, 0, ALLOW)]
    steps += [(LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    for family in FAMILIES:
        steps += [(EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, NO_FAMILY)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def set_dumpable(value: bool) -> None:
    """Say whether other processes of this user may look into this one's memory."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, int(value), 0, 0, 0)


def close_doors() -> None:
    """Take an empty keyring and install the filter, for this process and all that it starts.

    It cannot be taken off again. Raise OSError if the kernel refuses it.
    """
    program = write_filter(platform.machine())
    if not program:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    keyctl = REFUSED["keyctl"][ARCHITECTURES[platform.machine()][0]]
    libc.syscall(keyctl, JOIN_SESSION_KEYRING, None)  # a kernel without keyrings has none to share

    kept = ctypes.create_string_buffer(program, len(program))
    pointed = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER, pointed, 0, 0)):
        if libc.prctl(*call):
            code = ctypes.get_errno()
            raise OSError(code, f"the kernel refuses a seccomp filter ({errno.errorcode[code]})")
