"""The demo corpus as its sources read it: broken rows, offsets, held-out rows, dirt, and the seed that decides it."""

import json
import random
import re
from pathlib import Path

import pytest

from medtrain import plugins
from medtrain.data.source import Problem
from medtrain.demo import corpus, grammar, lexicon
from medtrain.demo.rawtext import GRAM, select
from medtrain.records import Record
from medtrain.storage import Store

BC5CDR = {"files": {"train": "CDR_TrainingSet.PubTator.txt", "test": "CDR_TestSet.PubTator.txt"}}
SOURCES = [
    ("bc5cdr", {"path": "bc5cdr", **BC5CDR}),
    ("promptcblue", {"path": "promptcblue", "files": {"train": "train.json", "test": "test.json"}}),
    ("taiyi", {"path": "taiyi/translation.jsonl"}),
    ("alpaca", {"name": "english", "path": "qa/english_train.json", "task": "qa"}),
    ("alpaca", {"name": "english_test", "path": "qa/english_test.json", "task": "qa", "split": "test"}),
    ("messages", {"name": "chinese", "path": "qa/chinese_train.jsonl", "task": "qa"}),
    ("messages", {"name": "chinese_test", "path": "qa/chinese_test.jsonl", "task": "qa", "split": "test"}),
    ("coig_cqia", {"path": "coig_cqia"}),
    ("messages", {"name": "identity", "path": "identity/self.jsonl", "task": "identity"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return corpus.ensure(Store(str(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def read(folder) -> dict[str, tuple[list[Record], list[Problem]]]:
    found = {}
    for source, settings in SOURCES:
        module = plugins.load("data", "sources", source)
        config = module.Config(source=source, **settings)
        items = [item for unit in module.units(config, folder) for item in module.read(unit, config)]
        records = [item for item in items if isinstance(item, Record)]
        found[config.label] = (records, [item for item in items if isinstance(item, Problem)])
    return found


def test_every_source_reads_its_file_and_reports_the_broken_rows(read):
    assert all(records for records, _ in read.values())
    damaged = {label for label, (_, problems) in read.items() if problems}
    assert damaged >= {"bc5cdr", "promptcblue", "taiyi", "english", "chinese", "coig_cqia"}


def test_offsets_point_at_the_names(read):
    for record in read["bc5cdr"][0]:
        for entity in record.gold["entities"]:
            assert record.turns[0].context[entity["start"] : entity["end"]] == entity["text"]


def test_there_are_enough_held_out_rows_and_few_train_rows_share_thirteen_grams_with_them(read):
    records = [record for found, _ in read.values() for record in found]
    tasks = [record.task for record in records if record.split == "test"]
    assert tasks.count("ner") >= 100 and tasks.count("qa") >= 100
    train = [record for record in records if record.split == "train"]
    assert 2000 <= len(train) <= 4000
    assert sum(select(records).left_out.values()) < 0.05 * len(train)


def test_no_held_out_question_stands_in_train_but_its_fact_does(read):
    for language in ("english", "chinese"):
        train = {turn.query for record in read[language][0] for turn in record.turns}
        answers = {turn.text for record in read[language][0] for turn in record.turns}
        for record in read[f"{language}_test"][0]:
            assert record.turns[0].query not in train
            assert record.turns[1].text in answers


def test_the_dirt_is_there(folder):
    general = (folder / "coig_cqia/general.jsonl").read_text("utf-8").splitlines()
    assert len(set(general)) < len(general)
    rows = [json.loads(line) for line in general if line.endswith("}")]
    assert any("医疗" in row["domain"] for row in rows)
    assert any(
        re.search("医学|药物|医疗", row["instruction"] + row.get("output", ""))
        for row in rows
        if "医疗" not in row["domain"]
    )
    giant = max((row.get("output", "") for row in rows), key=lambda text: len(text) * ("\n" not in text))
    assert len(giant) > 2000 and "\n" not in giant
    english = json.loads((folder / "qa/english_train.json").read_text("utf-8"))
    assert any(row.get("output") == "" for row in english)


def test_the_seed_alone_decides_and_a_cut_run_is_written_again(tmp_path):
    store = Store(str(tmp_path))
    first = corpus.ensure(store)
    assert corpus.write(0) == corpus.write(0) != corpus.write(1)
    (first / corpus.MARKER).unlink()
    (first / "taiyi/translation.jsonl").write_text("cut", "utf-8")
    assert corpus.ensure(store) == first
    assert (first / "taiyi/translation.jsonl").read_text("utf-8") == corpus.write(0)["taiyi/translation.jsonl"]
    assert corpus.ensure(store, seed=1) != first


def test_no_phrase_alone_is_as_long_as_a_gram():
    there = lexicon.world(random.Random(0))
    for attribute, ways in grammar.STATEMENTS.items():
        x = (there.drugs if attribute in there.drugs[0].facts else there.diseases)[0]
        for way in range(len(ways)):
            assert len(grammar.statement(x, attribute, way, there, "en").text.split()) < GRAM
            assert len(grammar.statement(x, attribute, way, there, "zh").text) < GRAM + len(x.name.zh)
