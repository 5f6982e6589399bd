"""Pack this package, as it is installed here, into a wheel that can be installed elsewhere.

A container and an autograder must hold the very checks that the lecturer has, and a version that
was changed, or never published, is on no index.

Source: the Python Packaging User Guide, "Binary distribution format".
"""

import base64
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

from mini_transformer.course.material import CourseError, find_material

PACKAGE = Path(__file__).parents[2]
WHEEL = "Wheel-Version: 1.0\nGenerator: minilab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
MATERIAL = f"{PACKAGE.name}/course/material"
# Builds of torch for a processor alone; those for Linux on PyPI bring a graphics card's libraries.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def write_wheel(folder: Path) -> Path:
    """Write a wheel of this package and its course into `folder`; equal files give equal bytes."""
    installed = importlib.metadata.distribution("mini-transformer")
    name = f"mini_transformer-{installed.version}"
    contents = {inside: path.read_bytes() for inside, path in list_files().items()}
    for inside in ("METADATA", "entry_points.txt"):
        text = installed.read_text(inside)
        if text is None:
            raise CourseError(f"mini-transformer is not installed here ({inside} is missing)")
        contents[f"{name}.dist-info/{inside}"] = text.encode()
    contents[f"{name}.dist-info/WHEEL"] = WHEEL.encode()

    record = ""
    for inside, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record += f"{inside},sha256={digest},{len(content)}\n"
    own = f"{name}.dist-info/RECORD"
    contents[own] = f"{record}{own},,\n".encode()

    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for inside, content in contents.items():
            put_file(wheel, inside, content)
    return path


def put_file(archive: zipfile.ZipFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Add a file that says nothing of when it was packed."""
    entry = zipfile.ZipInfo(name)  # its date is 1980
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def list_files() -> dict[str, Path]:
    """List all files of the package and of the course, by their names in the wheel."""
    material = find_material()
    folders = {PACKAGE.name: PACKAGE}
    if not (PACKAGE / "course" / "material").is_dir():  # in a clone they stand elsewhere
        folders |= {f"{MATERIAL}/{name}": folder for name, folder in vars(material).items()}
        folders[f"{MATERIAL}/mutants"] = material.graders.parent / "mutants"
    return {
        f"{inside}/{path.relative_to(folder).as_posix()}": path
        for inside, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    }
