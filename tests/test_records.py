"""medtrain.records: a record survives Arrow and Parquet unchanged, whatever text it holds."""

from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrain.records import SCHEMA, Record, Turn, from_arrow, to_arrow

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
turns = st.builds(
    Turn, st.sampled_from(["system", "user", "assistant"]), query=text, context=text, text=text, trained=st.booleans()
)
record = st.builds(
    Record,
    id=text, document_id=text, source=text, task=text, category=text,
    language=st.sampled_from(["en", "zh"]),
    split=st.sampled_from(["train", "validation", "test"]),
    turns=st.lists(turns, max_size=3).map(tuple),
    gold=st.none() | st.dictionaries(text, json_value, max_size=3),
    meta=st.dictionaries(text, json_value, max_size=3),
)  # fmt: skip


@given(st.lists(record, max_size=4))
@settings(max_examples=60, deadline=None)
def test_records_survive_arrow(records: list[Record]) -> None:
    table = to_arrow(records)
    assert table.schema == SCHEMA
    assert list(from_arrow(table)) == records


def test_records_survive_parquet_with_more_columns(tmp_path: Path) -> None:
    one = Record(
        "a:1", "a", "a", "ner", "NER", "zh", "train", (Turn("user", "问", "糖尿病"),), {"entities": []}, {"n": 1}
    )
    table = to_arrow([one]).append_column("extra", [[1]])
    pq.write_table(table, tmp_path / "t.parquet")
    assert list(from_arrow(pq.read_table(tmp_path / "t.parquet"))) == [one]


def test_no_records_are_a_table_of_the_schema() -> None:
    assert to_arrow([]).schema == SCHEMA
    assert list(from_arrow(to_arrow([]))) == []
