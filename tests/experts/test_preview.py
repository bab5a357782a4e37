"""Plans and libraries as tables."""

from pathlib import Path

from medtrain.artifacts import Build, Identity, Policy, begin, locate
from medtrain.config import parse
from medtrain.experts import preview
from medtrain.experts.plan import Plan
from medtrain.storage import Store
from medtrain.tokens.shards import Samples, shard_path, write_shard

EXPERT = {"category": "question answering", "sources": [{"source": "alpaca", "path": "a.json"}]}


def plan(**train: object) -> Plan:
    return parse(Plan, {"name": "p", "train": train, "experts": {"a": EXPERT, "b": {**EXPERT, "non_commercial": True}}})


def test_a_plan_says_what_it_knows_and_what_its_schedule_refuses(made: Store) -> None:
    rows = Samples.open(locate(made, "tokens", "tiny"))
    tokens = begin(made, "tokens", "p-a", Identity({}, {}, ""), Policy())
    assert isinstance(tokens, Build)
    write_shard(tokens.store, shard_path(0), [rows[number] for number in range(64)])
    tokens.finish({"base": "x"})
    scaled = preview.table(made, plan(adapter={"schedule": "scaled"}, epochs=5)).splitlines()
    assert scaled[0] == "library/p: 2 experts"
    assert "64 rows     10 steps" in scaled[1] and "REFUSED" not in scaled[1]
    assert "size unknown" in scaled[2] and scaled[2].endswith("<- alpaca, non-commercial")
    assert "MISSING" not in "".join(scaled)
    refused = preview.table(made, plan()).splitlines()[1]
    assert "REFUSED: adapter.schedule: 20 optimizer steps - 1000 with a frozen pattern leaves -980" in refused


def test_a_plan_says_which_corpora_are_not_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('[{"instruction": "q", "output": "a"}]')
    there = {**EXPERT, "sources": [{"source": "alpaca", "path": "b.json"}]}
    given = parse(Plan, {"name": "p", "root": str(tmp_path), "experts": {"a": EXPERT, "b": there}})
    lines = preview.table(store, given).splitlines()
    assert "MISSING: " in lines[1] and "a.json" in lines[1] and "MISSING" not in lines[2]
    nowhere = given.model_copy(update={"root": str(tmp_path / "no")})
    assert preview.table(store, nowhere).count(f"MISSING: data.root={tmp_path}/no: no folder") == 2
