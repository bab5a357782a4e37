"""Many small files in a folder or a zip, and zips that are not to be trusted."""

import zipfile
from pathlib import Path

import pytest

from medtrain.data import archive
from medtrain.data.source import Problem
from medtrain.errors import DataError


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def test_zip_and_folder_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FILES_PER_UNIT", 2)
    members = {f"b[{n}] c/{n}.xml": f"text {n}" for n in range(5)}
    path = zipped(tmp_path / "a.zip", {**members, "__MACOSX/._1.xml": "", "b/.DS_Store": "", "b/readme.txt": ""})
    for name, text in members.items():
        file = tmp_path / "folder" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for place in (path, tmp_path / "folder"):
        units = archive.units(place, "made", "train", ".xml")
        assert [(u.start, u.stop) for u in units] == [(0, 2), (2, 4), (4, 5)]
        found = dict(item for unit in units for item in archive.contents(unit, ".xml") if not isinstance(item, Problem))
        assert found == {name: text.encode() for name, text in members.items()}


@pytest.mark.parametrize("name", ["../evil.xml", "a/../../evil.xml", "/etc/evil.xml", "..\\evil.xml", "C:evil.xml"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {"good.xml": "", name: ""})
    with pytest.raises(DataError, match="leaves the archive"):
        archive.names(path, ".xml")


def test_damage_is_said(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"1.xml": "text " * 1000, "2.xml": "fine"})
    content = bytearray(path.read_bytes())
    content[38:46] = b"\xff" * 8
    path.write_bytes(bytes(content))
    (unit,) = archive.units(path, "made", "train", ".xml")
    first, second = archive.contents(unit, ".xml")
    assert isinstance(first, Problem)
    assert first.rule == "bad_zip_member"
    assert second == ("2.xml", b"fine")
    path.write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="no readable zip"):
        archive.units(path, "made", "train", ".xml")
