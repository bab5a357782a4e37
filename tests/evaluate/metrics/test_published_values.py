"""The numbers that BioQwen published, recomputed from the outputs it released; skipped where there is no real data."""

import ast
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from medtrain.evaluate.cases import Case
from medtrain.evaluate.metrics import bleu_char, entity_f1, gleu_char, rouge_char

CMEDQA2 = {
    "BioQwen-0.5B": (16.899, 8.963, 4.800, 2.512, 6.666, 29.466, 8.040, 18.148),
    "BioQwen-1.8B": (17.811, 9.545, 5.084, 2.633, 7.083, 31.013, 8.389, 18.315),
    "qwen-chat": (14.247, 7.914, 4.487, 2.488, 5.290, 28.730, 7.003, 17.890),
    "taiyi": (17.459, 9.561, 5.333, 3.135, 6.882, 29.929, 8.756, 17.615),
    "medchatzh": (15.730, 8.061, 4.170, 2.171, 6.332, 28.547, 7.520, 18.844),
    "huatuogpt2": (16.446, 9.139, 5.147, 2.725, 6.274, 30.651, 8.073, 19.194),
}
"""BLEU-1 to -4, GLEU, ROUGE-1, -2, -L of 50 cMedQA2 answers; the first three rows are Table 3 of the paper."""

BC5CDR = {"taiyi": (0.7421, 0.6306), "BioQwen-1.8B-stage2": (0.6298, 0.4596)}
BC5CDR_PLAIN = {"taiyi": (0.7424, 0.6410), "BioQwen-1.8B-stage2": (0.6302, 0.4621)}
"""Chemical and Disease F1, with and without the names of composite mentions in the gold."""


def table(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(10**7)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


LONG = {"qwen-chat", "taiyi", "huatuogpt2", "medchatzh"}
"""Their answers are long, and ROUGE-L takes seconds on them."""


@pytest.mark.parametrize("system", [pytest.param(s, marks=[pytest.mark.long] if s in LONG else []) for s in CMEDQA2])
def test_character_scores_equal_the_published_table(shared: Path, system: str) -> None:
    rows = table(shared / f"data/bioqwen_outputs/qa/cmedqa2/{system}-qa-cmedqa2.csv")
    cases = [Case(str(i), "", row["answer"], row["response"], True) for i, row in enumerate(rows)]
    found: list[float] = []
    for metric in (bleu_char, gleu_char, rouge_char):
        statistics = metric.measure(cases)
        found += [float(value) for value in statistics.scores(statistics.counts.sum(axis=0)).values()]
    assert len(rows) == 50
    assert [f"{value:.3f}" for value in found] == [f"{value:.3f}" for value in CMEDQA2[system]]


def gold_of_bc5cdr(folder: Path, *, composites: bool) -> dict[str, list[dict[str, str]]]:
    """Entities by abstract: the mentions of title and abstract and, if asked for, the parts of composites."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.glob("CDR_*Set.PubTator.txt")):
        texts: dict[str, str] = {}
        mentions: dict[str, list[dict[str, str]]] = defaultdict(list)
        for line in path.read_text(encoding="utf-8").splitlines():
            if "|a|" in line[:20]:
                number, _, text = line.split("|", 2)
                texts[number] = text
            columns = line.split("\t")
            if len(columns) >= 6:
                parts = columns[6].split("|") if composites and len(columns) > 6 and columns[6] else []
                mentions[columns[0]] += [{"type": columns[4], "text": text} for text in [columns[3], *parts]]
        found.update({text: mentions[number] for number, text in texts.items()})
    return found


@pytest.mark.parametrize("system", sorted(BC5CDR))
@pytest.mark.parametrize("composites", [True, False])
def test_entity_f1_equals_the_values_of_the_released_outputs(shared: Path, system: str, composites: bool) -> None:
    gold = gold_of_bc5cdr(shared / "data/bc5cdr/pubtator", composites=composites)
    cases = []
    for row in table(shared / f"data/bioqwen_outputs/ner/bc5cdr/{system}-ner-bc5cdr.csv"):
        given = [{"type": p["type"], "text": t} for p in ast.literal_eval(row["result"]) for t in p["response"]]
        cases.append(
            Case(row["prompt"][:40], row["prompt"], {"entities": gold[row["prompt"]]}, {"entities": given}, True)
        )
    statistics = entity_f1.measure(cases)
    scores = statistics.scores(statistics.counts.sum(axis=0))
    expected = (BC5CDR if composites else BC5CDR_PLAIN)[system]
    assert len(cases) == 1500
    assert tuple(f"{scores[f'ner_f1_set[{kind}]']:.4f}" for kind in ("Chemical", "Disease")) == tuple(
        f"{value:.4f}" for value in expected
    )
    assert scores["ner_macro_f1_set"] == pytest.approx(
        np.mean([scores["ner_f1_set[Chemical]"], scores["ner_f1_set[Disease]"]])
    )
