"""What sources share: where a corpus lies, files that are no data, the size of a unit."""

from pathlib import Path

import pytest

from medtrain.config import parse
from medtrain.data import source
from medtrain.data.source import LocalSplit, SourceConfig, Unit
from medtrain.errors import ConfigError, DataError


def test_a_corpus_is_found_below_the_root_or_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a [b]").mkdir()
    config = SourceConfig(source="x", path="a [b]")
    assert source.locate(config, tmp_path) == tmp_path / "a [b]"
    absolute = config.model_copy(update={"path": str(tmp_path / "a [b]")})
    assert source.locate(absolute, Path("/nowhere")) == tmp_path / "a [b]"
    with pytest.raises(DataError, match=r"source y: path=c: nothing of that name"):
        source.locate(SourceConfig(source="x", name="y", path="c"), tmp_path)


def test_files_that_are_no_data_are_said(tmp_path: Path) -> None:
    for name, content, said in (
        ("pointer", source.POINTER + b"\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        ("empty", b"", "is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said):
            source.check_file(tmp_path / name, "x")
    with pytest.raises(DataError, match="no such file"):
        source.check_file(tmp_path / "absent", "x")
    (tmp_path / "data").write_bytes(b"version of something else")
    assert source.check_file(tmp_path / "data", "x") == tmp_path / "data"


def test_units_know_their_size(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x" * 10 ** (number + 1))
    assert source.size_bytes(Unit(str(tmp_path), "folder", start=1, stop=3)) == 1100
    assert source.size_bytes(Unit(str(tmp_path / "2.txt"), "2.txt")) == 1000
    assert source.size_bytes(Unit(str(tmp_path / "2.txt"), "2.txt", start=100, stop=350)) == 250


def test_a_local_split_has_its_shares_and_asks_only_for_the_document() -> None:
    cut = LocalSplit(validation=0.1, test=0.2, seed=3)
    splits = [cut.of(f"d{n}") for n in range(5000)]
    assert abs(splits.count("test") / 5000 - 0.2) < 0.02
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.02
    assert splits != [cut.model_copy(update={"seed": 4}).of(f"d{n}") for n in range(5000)]
    with pytest.raises(ConfigError, match="nothing is left to train on"):
        parse(LocalSplit, {"validation": 0.5, "test": 0.5})
