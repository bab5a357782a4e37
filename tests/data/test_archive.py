"""Many small files in a folder, a zip or a tar, and archives that are not to be trusted."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from medtrain.data import archive
from medtrain.data.source import POINTER, Problem
from medtrain.errors import DataError


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def tarred(path: Path, members: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            file.addfile(info, io.BytesIO(text.encode()))
    return path


def test_archives_and_folder_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FILES_PER_UNIT", 2)
    members = {f"b[{n}] c/{n}.xml": f"text {n}" for n in range(5)}
    all_members = {**members, "__MACOSX/._1.xml": "", "b/.DS_Store": "", "b/._0.xml": "", "b/readme.txt": ""}
    places = [zipped(tmp_path / "a.zip", all_members), tmp_path / "folder"]
    places += [tarred(tmp_path / name, all_members) for name in ("a.tar", "a.tar.gz")]
    for name, text in members.items():
        file = tmp_path / "folder" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for place in places:
        units = archive.units(place, "made", "train", ".xml")
        assert [(u.start, u.stop) for u in units] == [(0, 2), (2, 4), (4, 5)]
        found = dict(item for unit in units for item in archive.contents(unit, ".xml") if not isinstance(item, Problem))
        assert found == {name: text.encode() for name, text in members.items()}


@pytest.mark.parametrize("name", ["../evil.xml", "a/../../evil.xml", "/etc/evil.xml", "..\\evil.xml", "C:evil.xml"])
def test_members_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    for path in (zipped(tmp_path / "a.zip", {"good.xml": "", name: ""}), tarred(tmp_path / "a.tgz", {name: ""})):
        with pytest.raises(DataError, match="leaves the archive"):
            archive.names(path, ".xml")


def test_links_of_a_tar_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("link.xml")
            info.type, info.linkname = kind, "/etc/hostname"
            file.addfile(info)
    assert archive.names(tmp_path / "a.tar", ".xml") == []
    with pytest.raises(DataError, match=r"holds no \.xml file"):
        archive.units(tmp_path / "a.tar", "made", "train", ".xml")


def test_a_damaged_tar_is_said(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {f"{n}.xml": f"{n * 7919}" * 999 for n in range(20)})
    (unit,) = archive.units(path, "made", "train", ".xml")
    whole = path.read_bytes()
    for place in range(0, len(whole), 61):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(bytes(content))
        try:
            assert all(isinstance(item, (tuple, Problem)) for item in archive.contents(unit, ".xml"))
        except DataError as error:
            assert "no readable zip or tar" in str(error)
    path.write_bytes(POINTER + b"\noid sha256:0\n")
    with pytest.raises(DataError, match="Git LFS pointer"):
        archive.units(path, "made", "train", ".xml")


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
