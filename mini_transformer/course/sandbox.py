"""The sandbox in which code that nobody trusts runs: bubblewrap, with a file system of its own and no network.

What the code can see: the interpreter, its packages and this package, all read-only, without the course's solutions and graders; a
/tmp of its own, in memory and of limited size; its own processes. Where bubblewrap is missing, nothing is run unless the caller
insists (`NO_SANDBOX`). The limits on memory, processes and files are set by the worker itself before it reads any submission;
they cannot be raised again.
"""

import os
import re
import secrets
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from mini_transformer.course.material import CourseError

PACKAGE = Path(__file__).parents[1]
WORKER = "mini_transformer.course.worker"
MEMORY = 2 * 2**30  # bytes of addresses that a process may have besides those of the interpreter with torch
DISK = 64 * 2**20  # bytes in /tmp, and in any one file
PROCESSES = 32  # threads count, too
OPEN_FILES = 256
CPU_SECONDS = 600  # of one process, whatever it does; calls have limits of their own
FREE_UIDS = range(61184, 65520)  # unused by accounts on systems with systemd, which keeps them for services of a moment
INSTALL = "install bubblewrap 0.8 or newer (`sudo apt install bubblewrap`, `sudo dnf install bubblewrap`)"


@dataclass(frozen=True)
class Sandbox:
    """A way to start the worker: `kind` for reports ("bubblewrap", "none"), and the words in front of the command."""

    kind: str
    wrapping: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        return self.kind != "none"

    @property
    def command(self) -> list[str]:
        """What starts a worker. Its last word is who it becomes: under root a user of its own, as root has no limits."""
        uid = str(secrets.choice(FREE_UIDS)) if is_root() else "same"
        return [*self.wrapping, sys.executable, "-m", WORKER, uid if self.is_safe else "unsafe"]


NO_SANDBOX = Sandbox("none")


def find_sandbox() -> Sandbox:
    """This machine's sandbox. CourseError, with the line that installs it, if it has none."""
    program = shutil.which("bwrap")
    if sys.platform != "linux" or program is None:
        raise CourseError(f"submissions are not run without a sandbox, and there is none here: on Linux, {INSTALL}")
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    if [int(n) for n in re.findall(r"\d+", version)] < [0, 8]:
        raise CourseError(f"{program} is {version.strip() or 'of an unknown version'}: {INSTALL}")
    return Sandbox("bubblewrap", (program, *arrange_sandbox()))


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def arrange_sandbox() -> list[str]:
    """Bubblewrap's arguments. Whoever is root needs no user namespace: the worker becomes another user instead."""
    own = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    become = ["--cap-drop", "ALL"] + ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] * is_root()
    user = [] if is_root() else ["--unshare-user", "--disable-userns"]
    arguments = [*user, *own, "--die-with-parent", "--new-session", *become, "--clearenv"]
    for name, value in list_environment().items():
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for memory in ("/dev/shm", "/tmp"):
        arguments += ["--perms", "1777", "--size", str(DISK), "--tmpfs", memory]
    return [*arguments, *show_files(), "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]


def show_files() -> list[str]:
    """Bubblewrap's arguments that show files; they come after those that make /tmp, as the package may stand in there."""
    shown, arguments = list_shown(), []
    for folder in sorted({parent for path in shown for parent in path.parents} - {Path("/")} - set(shown)):
        arguments += ["--dir", str(folder)]  # by itself bubblewrap makes them readable for their owner only
    for path in shown:
        link = path.is_symlink() and path.resolve() in shown  # lib64, say: shown once, so that it can be hidden once
        arguments += ["--symlink", os.readlink(path), str(path)] if link else ["--ro-bind", str(path), str(path)]
    for path in list_hidden(shown):
        arguments += ["--tmpfs", str(path), "--remount-ro", str(path)]
    return arguments


def list_environment() -> dict[str, str]:
    # torch asks who it is and where its home is, also where nobody has a name
    names = {"HOME": "/tmp", "USER": "student", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    python = {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    return names | python | {"OMP_NUM_THREADS": "1"}


def list_shown() -> list[Path]:
    """What a sandboxed interpreter may read: system libraries, the interpreter, installed packages, this package."""
    system = [Path(top) for top in ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")]
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parents[1]}
    inside = [prefix / name for prefix in prefixes for name in ("bin", "lib", "lib64", "pyvenv.cfg")]
    paths = sysconfig.get_paths()
    packages = [Path(paths["purelib"]), Path(paths["platlib"])]
    packages += [Path(site.getusersitepackages())] if site.ENABLE_USER_SITE else []
    there = {path for path in (*system, *inside, *packages, PACKAGE) if path.exists()}
    return sorted(path for path in there if not there & set(path.parents))  # what a shown folder holds is shown with it


def list_hidden(shown: list[Path]) -> list[Path]:
    """Solutions and graders in what is shown: they are part of the installed package, and an editable install has them twice."""
    packages = {PACKAGE, *(Path(entry or ".").resolve() / PACKAGE.name for entry in sys.path)}
    found = {(package / "course" / "material").resolve() for package in packages}
    return sorted(path for path in found if path.is_dir() and set(shown) & {path, *path.parents})
