"""Run untrusted code in bubblewrap, with a file system of its own and no network.

The code can see the interpreter, its packages and this package, all read-only and without the
course's solutions and graders; a /tmp of its own, in memory and of limited size; and its own
processes. Where bubblewrap is missing, nothing is run unless the caller insists (`NO_SANDBOX`). The
worker itself sets the limits on memory, processes and files before it reads any submission. They
cannot be raised again.
"""

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.material import CourseError

PACKAGE = Path(__file__).parents[2]
WORKER = "mini_transformer.course.lecturer.worker"
# Bytes of addresses for a process, and of memory for all, besides the interpreter with torch.
MEMORY = 2 * 2**30
DISK = 64 * 2**20  # bytes in /tmp, and in any one file
PROCESSES = 32  # threads count, too
OPEN_FILES = 256
CPU_SECONDS = 600  # of one process, whatever it does; calls have limits of their own
FREE_UIDS = range(61184, 65520)  # systemd keeps these for services, and no account has them
INSTALL = (
    "install bubblewrap 0.8 or newer (`sudo apt install bubblewrap`, or with dnf), "
    "or grade with --container (Ubuntu 22.04 and Debian 11 have an older bubblewrap)"
)
# Ubuntu since 24.04 lets only programs with a profile make user namespaces (bubblewrap issue 632).
USER_NAMESPACES = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
PROFILE = """abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
}
"""
ADVICE = (
    "write the profile below to /etc/apparmor.d/bwrap, then "
    "`sudo apparmor_parser -r /etc/apparmor.d/bwrap`\n"
)


@dataclass(frozen=True)
class Sandbox:
    """Hold a way to start the worker.

    `kind` is what reports say (see `find_sandbox`), `wrapping` the words in front of the command.
    """

    kind: str
    wrapping: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        return self.kind == "bubblewrap"

    @property
    def command(self) -> list[str]:
        """Return the command that starts a nursery of workers, or a worker without a sandbox.

        Its last word says which user a worker becomes. Under root it is a user of its own, since no
        limit holds root.
        """
        users = {"none": "unsafe", "another user": "another"}
        user = users.get(self.kind, "own" if is_root() else "same")
        return [*self.wrapping, sys.executable, "-m", WORKER, user]


NO_SANDBOX = Sandbox("none")


def find_sandbox(kind: str = "bubblewrap") -> Sandbox:
    """Find this machine's sandbox; or take "none", or "another user" for root in a container.

    Another user has the limits of a sandbox, but sees the files and the network of the container:
    it must be there for one submission, and hold nothing that this user may read and should not.
    Raise CourseError, with the line that installs one, if there is no bubblewrap.
    """
    if kind != "bubblewrap":
        return Sandbox(kind)
    program = shutil.which("bwrap")
    if sys.platform != "linux" or program is None:
        raise CourseError(
            "submissions are not run without a sandbox, and there is none here: "
            f"on Linux, {INSTALL}"
        )

    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    if [int(n) for n in re.findall(r"\d+", version)] < [0, 8]:
        raise CourseError(f"{program} is {version.strip() or 'of an unknown version'}: {INSTALL}")
    return Sandbox("bubblewrap", (program, *arrange_sandbox()))


def advise() -> str:
    """Say what to do where bubblewrap is there and does not start."""
    try:
        is_restricted = USER_NAMESPACES.read_text().strip() == "1" and not is_root()
    except OSError:
        is_restricted = False
    return ADVICE + PROFILE if is_restricted else "grade submissions with --container"


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def arrange_sandbox() -> list[str]:
    """List bubblewrap's arguments.

    Root needs no user namespace, because the worker becomes another user instead.
    """
    kinds = ("ipc", "pid", "net", "uts", "cgroup-try")
    own = [f"--unshare-{kind}" for kind in kinds]
    if is_root():
        user = []
        # For the nursery alone: to make a worker another user, and to clear up after it.
        needed = ("SETUID", "SETGID", "KILL", "FOWNER", "DAC_OVERRIDE")
        rights = ["--cap-drop", "ALL"]
        for right in needed:
            rights += ["--cap-add", f"CAP_{right}"]
    else:
        user = ["--unshare-user", "--disable-userns"]
        rights = ["--cap-drop", "ALL"]

    arguments = [*user, *own, "--die-with-parent", "--new-session", *rights, "--clearenv"]
    for name, value in list_environment().items():
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for memory in ("/dev/shm", "/tmp"):
        arguments += ["--perms", "1777", "--size", str(DISK), "--tmpfs", memory]
    locking = ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*arguments, *show_files(), *locking, "--chdir", "/tmp"]


def show_files() -> list[str]:
    """List bubblewrap's arguments that show files.

    They must come after those that make /tmp, because the package may stand in there.
    """
    shown = list_shown()
    arguments = []

    # Left to itself, bubblewrap makes these folders readable for their owner only.
    parents = {parent for path in shown for parent in path.parents}
    for folder in sorted(parents - {Path("/")} - set(shown)):
        arguments += ["--dir", str(folder)]

    for path in shown:
        # A link such as lib64 is shown as a link, so that its files can be hidden in one place.
        if path.is_symlink() and path.resolve() in shown:
            arguments += ["--symlink", os.readlink(path), str(path)]
        else:
            arguments += ["--ro-bind", str(path), str(path)]

    for path in list_hidden(shown):
        arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
    return arguments


def list_environment() -> dict[str, str]:
    """Return the environment variables of the worker; it gets no others."""
    return {
        "HOME": "/tmp",  # torch asks for a home and a user's name, also where nobody has one
        "USER": "student",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }


def list_shown() -> list[Path]:
    """List what a sandboxed interpreter may read.

    These are system libraries, the interpreter, installed packages, and this package.
    """
    tops = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
    system = map(Path, tops)

    real = Path(os.path.realpath(sys.executable)).parents[1]
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), real}
    parts = ("bin", "lib", "lib64", "pyvenv.cfg")
    inside = [prefix / part for prefix in prefixes for part in parts]

    paths = sysconfig.get_paths()
    packages = [Path(paths["purelib"]), Path(paths["platlib"])]
    if site.ENABLE_USER_SITE:
        packages.append(Path(site.getusersitepackages()))

    # A shown folder is shown with all that it holds.
    there = {path for path in (*system, *inside, *packages, PACKAGE) if path.exists()}
    return sorted(path for path in there if not there & set(path.parents))


def list_hidden(shown: list[Path]) -> list[Path]:
    """List the folders with solutions and graders among the shown files.

    They are part of the installed package. An editable install has them twice.
    """
    packages = {PACKAGE, *(Path(entry or ".").resolve() / PACKAGE.name for entry in sys.path)}
    found = {(package / "course" / "material").resolve() for package in packages}
    return sorted(path for path in found if path.is_dir() and set(shown) & {path, *path.parents})
