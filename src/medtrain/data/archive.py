"""A corpus of many small files, in a folder or in a zip or tar as it was published. Nothing is unpacked to disk."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medtrain.data.source import Problem, Unit, check_file, is_pointer
from medtrain.errors import DataError
from medtrain.records import Split

FILES_PER_UNIT = 512
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError)


def is_archive(path: Path) -> bool:
    """Whether a file is called as a zip or tar is; what reads one looks at its first bytes."""
    return path.name.endswith((".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"))


def names(path: Path, suffix: str = "") -> list[str]:
    """The members whose names end in `suffix`, sorted, without what macOS leaves behind.

    Raises:
        DataError: the archive is damaged, or a member's name is absolute or climbs out of it.
    """
    if path.is_dir():
        found = [p.relative_to(path).as_posix() for p in path.rglob(f"*{suffix}") if p.is_file()]
    else:
        try:
            found = _zip_names(path) if _is_zip(path) else _tar_names(path)
        except _DAMAGE as error:
            kind = type(error).__name__
            raise DataError(f"{path}: is no readable zip or tar ({kind}); download it again") from None
        for name in found:
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name:
                raise DataError(f"{path}: member {name!r} leaves the archive; this archive is not read")
    return sorted(name for name in found if name.endswith(suffix) and not _of_macos(name))


def _of_macos(name: str) -> bool:
    last = PurePosixPath(name).name
    return "__MACOSX" in name or last == ".DS_Store" or last.startswith("._")


def members(path: Path, label: str, suffix: str) -> list[str]:
    """The same, once there is one and none is a Git LFS pointer.

    Raises:
        DataError: there is none, one is a pointer, or see `names`.
    """
    if path.is_file():
        check_file(path, label)
    found = names(path, suffix)
    for name in found if path.is_dir() else ():
        if is_pointer(path / name):
            check_file(path / name, label)
    if not found:
        raise DataError(f"source {label}: {path}: holds no {suffix} file; check path")
    return found


def units(path: Path, label: str, split: Split, suffix: str) -> list[Unit]:
    """The members in groups of `FILES_PER_UNIT`.

    Raises:
        DataError: see `members`.
    """
    count = len(members(path, label, suffix))
    starts = range(0, count, FILES_PER_UNIT)
    return [Unit(str(path), path.name, split, start, min(start + FILES_PER_UNIT, count)) for start in starts]


def contents(unit: Unit, suffix: str) -> Iterator[tuple[str, bytes] | Problem]:
    """Each member of a unit as (name, bytes); one that cannot be read is a problem. A tar's come in its own order."""
    path = Path(unit.path)
    chosen = names(path, suffix)[unit.start : unit.stop]
    if path.is_dir():
        for name in chosen:
            yield name, (path / name).read_bytes()
    elif _is_zip(path):
        yield from _zip_contents(path, chosen)
    else:
        yield from _tar_contents(path, set(chosen))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _zip_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        return [info.filename for info in file.infolist() if not info.is_dir()]


def _zip_contents(path: Path, chosen: list[str]) -> Iterator[tuple[str, bytes] | Problem]:
    with zipfile.ZipFile(path) as file:
        for name in chosen:
            try:
                yield name, file.read(name)
            except Exception as error:  # zipfile and zlib raise many kinds on damaged members
                yield Problem(name, "bad_zip_member", f"{type(error).__name__}: cannot be unpacked")


def _tar_names(path: Path) -> list[str]:
    """Regular files only: a link could point anywhere, and no corpus needs one."""
    with tarfile.open(path) as file:
        return [info.name for info in file if info.isreg()]


def _tar_contents(path: Path, chosen: set[str]) -> Iterator[tuple[str, bytes] | Problem]:
    try:
        with tarfile.open(path) as file:
            for info in file:
                member = file.extractfile(info) if info.isreg() and info.name in chosen else None
                if member is not None:
                    yield info.name, member.read()
    except _DAMAGE as error:
        yield Problem(path.name, "bad_tar", f"{type(error).__name__}: cannot be read to its end")
