"""Grade a class in a container, where bubblewrap is missing, too old or not allowed to start.

The container holds this package and bubblewrap, and does what the command does elsewhere: each
submission runs in a sandbox inside. Docker and rootless Podman; what each needs is said below.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mini_transformer import __version__
from mini_transformer.course.lecturer.packing import write_wheel
from mini_transformer.course.lecturer.resume import make_folder
from mini_transformer.course.lecturer.sandbox import is_root
from mini_transformer.course.lecturer.submissions import check_folder
from mini_transformer.course.material import CourseError
from mini_transformer.isolation.files import hash_files

DOCKERFILE = Path(__file__).with_name("Dockerfile")
# No network, no right, nothing to write but OUT and a /tmp in memory.
CLOSED = ["--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
CLOSED += ["--security-opt", "no-new-privileges"]
# SELinux would need new labels on the submissions.
CLOSED += ["--security-opt", "label=disable"]
# bubblewrap mounts a /proc of its own, which the kernel allows only where none is masked.
PODMAN = ["--userns", "keep-id", "--security-opt", "unmask=/proc/*"]
# Docker's filter and profile refuse namespaces and mounts; those of Podman allow them.
DOCKER = ["--security-opt", "systempaths=unconfined", "--security-opt", "seccomp=unconfined"]
DOCKER += ["--security-opt", "apparmor=unconfined"]


def grade_in_container(
    arguments: Sequence[str], folder: Path, out: Path, roster: Path | None = None
) -> dict[str, Any]:
    """Run `minilab grade ARGUMENTS --json` over `folder` in a container; return the summary.

    Only `out` can be written. Raise CourseError if there is neither Podman nor Docker, or if
    grading ends without a summary.
    """
    engine = find_engine()
    check_folder(folder)
    make_folder(out)
    image = build_image(engine)
    paths = {"--submissions": folder, "--out": out} | ({"--roster": roster} if roster else {})
    command = [engine, "run", "--rm", *CLOSED, *choose_options(engine)]
    given = ["minilab", "grade", *arguments, "--json"]
    for option, path in paths.items():
        command += ["--mount", describe_mount(path, can_write=option == "--out")]
        given += [option, locate_inside(path)]
    done = subprocess.run([*command, image, *given], stdout=subprocess.PIPE)
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise CourseError(
            f"grading in the container ended with status {done.returncode} and no summary"
        ) from None


def find_engine() -> str:
    """Find Podman or Docker. Raise CourseError if there is neither, or if root would use it."""
    engine = shutil.which("podman") or shutil.which("docker")
    if engine is None:
        raise CourseError(
            "--container needs Podman or Docker, and neither is here: "
            "install one (podman.io, docker.com)"
        )
    if is_root():
        raise CourseError(
            "--container is not for root: give the command as a user who may use Podman or Docker, "
            "or without --container, since root needs bubblewrap only"
        )
    return engine


def choose_options(engine: str) -> list[str]:
    """List what an engine needs, so that a sandbox can be made inside and OUT is the user's."""
    if "podman" in Path(engine).name:
        return PODMAN
    user = (os.getuid(), os.getgid()) if hasattr(os, "getuid") else (1000, 1000)  # Windows has none
    return [*DOCKER, "--user", "{}:{}".format(*user)]


def build_image(engine: str) -> str:
    """Build the image of this package unless it is there, and return its name."""
    with tempfile.TemporaryDirectory() as folder:
        image = name_image(Path(folder))
        is_there = subprocess.run([engine, "image", "inspect", image], capture_output=True)
        if is_there.returncode:
            print(f"building {image}, which is done once", file=sys.stderr)
            building = [engine, "build", "--tag", image, folder]
            if subprocess.run(building, stdout=sys.stderr).returncode:
                raise CourseError(f"the image was not built: see above, or try `{engine} info`")
    return image


def name_image(folder: Path) -> str:
    """Write all that the image is built from into `folder`, and name the image by that."""
    parts = [write_wheel(folder), Path(shutil.copy(DOCKERFILE, folder))]
    return f"localhost/mini-transformer:{__version__}-{hash_files(parts)[:12]}"


def locate_inside(path: Path) -> str:
    """Say where a file stands inside: below /host, so that one folder in another stays there.

    >>> locate_inside(Path("/home/jo/handed_in"))
    '/host/home/jo/handed_in'
    """
    return "/host/" + path.resolve().as_posix().replace(":", "").lstrip("/")


def describe_mount(path: Path, can_write: bool) -> str:
    """Write the value of --mount, which both engines read as a line of CSV."""
    parts = ["type=bind", f"source={path.resolve()}", f"target={locate_inside(path)}"]
    parts += [] if can_write else ["readonly"]
    return ",".join(f'"{part}"' if "," in part else part for part in parts)
