"""A corpus of many small files, in a folder or in a zip as it was published."""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medtrain.data.source import Problem, Unit, check_file, is_pointer
from medtrain.errors import DataError
from medtrain.records import Split

FILES_PER_UNIT = 512


def names(path: Path, suffix: str = "") -> list[str]:
    """The members whose names end in `suffix`, sorted, without what macOS leaves behind.

    Raises:
        DataError: the zip is damaged, or a member's name is absolute or climbs out of it.
    """
    if path.is_dir():
        found = [p.relative_to(path).as_posix() for p in path.rglob(f"*{suffix}") if p.is_file()]
    else:
        try:
            with zipfile.ZipFile(path) as file:
                found = [info.filename for info in file.infolist() if not info.is_dir()]
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path}: is no readable zip ({type(error).__name__}); download it again") from None
        for name in found:
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name:
                raise DataError(f"{path}: member {name!r} leaves the archive; this zip is not read")
    return sorted(n for n in found if n.endswith(suffix) and "__MACOSX" not in n and not n.endswith(".DS_Store"))


def units(path: Path, label: str, split: Split, suffix: str) -> list[Unit]:
    """The members in groups of `FILES_PER_UNIT`.

    Raises:
        DataError: there is none, or see `names`.
    """
    members = names(path, suffix)
    count = len(members)
    for name in members if path.is_dir() else ():
        if is_pointer(path / name):
            check_file(path / name, label)
    if not count:
        raise DataError(f"source {label}: {path}: holds no {suffix} file; check path")
    starts = range(0, count, FILES_PER_UNIT)
    return [Unit(str(path), path.name, split, start, min(start + FILES_PER_UNIT, count)) for start in starts]


def contents(unit: Unit, suffix: str) -> Iterator[tuple[str, bytes] | Problem]:
    """Each member of a unit as (name, bytes); one that cannot be read is a problem."""
    path = Path(unit.path)
    chosen = names(path, suffix)[unit.start : unit.stop]
    if path.is_dir():
        for name in chosen:
            yield name, (path / name).read_bytes()
        return
    with zipfile.ZipFile(path) as file:
        for name in chosen:
            try:
                yield name, file.read(name)
            except Exception as error:  # zipfile and zlib raise many kinds on damaged members
                yield Problem(name, "bad_zip_member", f"{type(error).__name__}: cannot be unpacked")
