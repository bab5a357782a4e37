"""What every source promises, of the package and of `$MEDTRAIN_PLUGINS`: judged on their own made examples."""

import random
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from medtrain import plugins
from medtrain.data.source import POINTER, Problem, SourceConfig
from medtrain.data.stage import source_config
from medtrain.errors import ConfigError, DataError
from medtrain.records import Record, from_arrow, to_arrow

NAMES = list(plugins.files("data", "sources"))
MUTATIONS = 40


def made(name: str, root: Path) -> tuple[ModuleType, SourceConfig, list[Path]]:
    """The plug-in, its config and the files of its example, written below `root`."""
    module = plugins.load("data", "sources", name)
    files = []
    for path, text in module.EXAMPLE.files.items():
        file = root / "corpus" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="")
        files.append(file)
    return module, source_config({"source": name, "path": "corpus", **module.EXAMPLE.config}), files


def read(module: ModuleType, config: SourceConfig, root: Path) -> tuple[list[Record], list[Problem]]:
    items = [item for unit in module.units(config, root) for item in module.read(unit, config)]
    assert all(isinstance(item, (Record, Problem)) for item in items)
    return [i for i in items if isinstance(i, Record)], [i for i in items if isinstance(i, Problem)]


@pytest.mark.parametrize("name", NAMES)
def test_config_says_what_each_field_means_and_refuses_others(name: str) -> None:
    kind = plugins.load("data", "sources", name).Config
    assert issubclass(kind, SourceConfig)
    assert kind.__doc__
    for field, info in kind.model_fields.items():
        assert info.description, f"{name}.{field} has no docstring"
    with pytest.raises(ConfigError, match="max_rows"):
        source_config({"source": name, "path": "x", "max_row": 3})


@pytest.mark.parametrize("name", NAMES)
def test_example_gives_whole_records(name: str, tmp_path: Path) -> None:
    module, config, _ = made(name, tmp_path)
    records, _ = read(module, config, tmp_path)
    assert len(records) == module.EXAMPLE.records
    assert len({r.id for r in records}) == len(records)
    for record in records:
        assert record.id.startswith(f"{name}:")
        assert record.source == name
        roles = [turn.role for turn in record.turns]
        assert roles[-2:] == ["user", "assistant"]
        assert all(turn.trained == (turn.role == "assistant") for turn in record.turns)
        assert bool(record.turns[-1].text) == (record.gold is None)
        user = next(turn for turn in record.turns if turn.role == "user")
        assert user.query or user.context
        for entity in (record.gold or {}).get("entities", []):
            assert entity["start"] is None or user.context[entity["start"] : entity["end"]] == entity["text"]
            assert entity["type"] in (record.gold or {})["types"]
    assert list(from_arrow(to_arrow(records))) == records


@pytest.mark.parametrize("name", NAMES)
def test_label_names_the_rows_and_place_does_not(name: str, tmp_path: Path) -> None:
    module, config, _ = made(name, tmp_path)
    first, _ = read(module, config, tmp_path)
    shutil.move(tmp_path / "corpus", tmp_path / "moved")
    elsewhere = {**config.model_dump(), "path": "moved", "name": "other"}
    second, _ = read(module, source_config(elsewhere), tmp_path)
    assert [r.id.partition(":")[2] for r in first] == [r.id.partition(":")[2] for r in second]
    assert {r.source for r in second} == {"other"}


@pytest.mark.parametrize("name", NAMES)
def test_absent_corpus_is_said(name: str, tmp_path: Path) -> None:
    module = plugins.load("data", "sources", name)
    config = source_config({"source": name, "path": "nowhere", **module.EXAMPLE.config})
    with pytest.raises(DataError, match="nowhere"):
        module.units(config, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_pointer_in_place_of_data_is_said(name: str, tmp_path: Path) -> None:
    module, config, files = made(name, tmp_path)
    files[0].write_bytes(POINTER + b"\noid sha256:00\nsize 12345\n")
    with pytest.raises(DataError, match="Git LFS pointer"):
        module.units(config, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_damage_costs_rows_and_never_raises(name: str, tmp_path: Path) -> None:
    module, config, files = made(name, tmp_path)
    whole = {file: file.read_bytes() for file in files}
    rng = random.Random(name)
    for _ in range(MUTATIONS):
        victim = rng.choice(files)
        content = bytearray(whole[victim])
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(len(content))
            content[place] = rng.choice((0, 9, 10, 13, 34, 60, 92, 124, 123, 0xEF, 0xFF, rng.randrange(256)))
        if rng.random() < 0.3:
            content = content[: rng.randrange(1, len(content))]
        victim.write_bytes(bytes(content))
        records, _ = read(module, config, tmp_path)
        assert list(from_arrow(to_arrow(records))) == records
        victim.write_bytes(whole[victim])
