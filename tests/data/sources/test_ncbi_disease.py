"""NCBI Disease: classes collapsed or kept, and the published files to the last mention."""

from collections import Counter
from pathlib import Path

import pytest

from medtrain.data.source import Problem
from medtrain.data.sources import ncbi_disease
from medtrain.records import Record


@pytest.mark.parametrize("collapse", [True, False])
def test_published_files_to_the_last_mention(shared: Path, collapse: bool) -> None:
    config = ncbi_disease.Config(source="ncbi_disease", path="data/ncbi_disease/pubtator", collapse=collapse)
    items = [item for unit in ncbi_disease.units(config, shared) for item in ncbi_disease.read(unit, config)]
    records = [item for item in items if isinstance(item, Record)]
    problems = [item for item in items if isinstance(item, Problem)]
    assert Counter(r.split for r in records) == {"train": 593, "validation": 100, "test": 100}
    entities = [(r.split, e["type"]) for r in records for e in (r.gold or {})["entities"]]
    assert Counter(split for split, _ in entities) == {"train": 5145, "validation": 787, "test": 960}
    train = Counter(kind for split, kind in entities if split == "train")
    classes = {"SpecificDisease": 2972, "Modifier": 1289, "DiseaseClass": 769, "CompositeMention": 115}
    assert train == ({"Disease": 5145} if collapse else classes)
    assert [(p.rule, p.id) for p in problems] == [("surface_blanks", "10923035")]
    assert [id for id, n in Counter(r.id for r in records).items() if n > 1] == ["ncbi_disease:8528200"]
