"""The demo's corpus: real-format files, written once by a seeded generator.

    bc5cdr/CDR_TrainingSet.PubTator.txt, CDR_TestSet.PubTator.txt   PubTator: English drugs and diseases, CID relations
    promptcblue/train.json, test.json                               JSON lines: CMeEE-V2 and CMeIE as prompts
    taiyi/translation.jsonl                                         Taiyi conversations MT-zh2en and MT-en2zh
    qa/english_train.json, english_test.json                        alpaca, a JSON array
    qa/chinese_train.jsonl, chinese_test.jsonl                      messages, JSON lines
    coig_cqia/general.jsonl                                         COIG-CQIA, JSON lines
    identity/self.jsonl                                             messages, JSON lines

A question in a test file is about a fact that train texts state, put in a way that no train question about it uses.
"""

import json
import random
from pathlib import Path
from typing import Any

from medtrain.artifacts import code_hash, room_code
from medtrain.config import fingerprint
from medtrain.demo import general
from medtrain.demo.grammar import QUESTIONS, STATEMENTS, Passage, join, report, statement, written
from medtrain.demo.lexicon import World, world
from medtrain.storage import Store

DOCUMENTS = {"train": 200, "test": 60}
NER_ROWS = {"train": 240, "test": 60}
RELATION_ROWS = {"train": 80, "test": 20}
TRANSLATIONS = 200
TEST_QUESTIONS = 70
"""Held-out questions in each language."""
NER_ZH = (
    ("找出{types}：\n{text}\n答：", "和"),
    ("实体识别：\n{text}\n类型：{types}\n答：", "，"),
    ("{text}\n有哪些{types}？", "，"),
)
RELATION_ZH = ("找{types}关系：\n{text}", "{text}\n列出{types}。")
RELATIONS_ZH = {"treats": "药物治疗", "organ": "发病部位", "sign": "临床表现"}
TO_CHINESE = ("Translate into Chinese: ", "Put this into Chinese:\n", "English to Chinese: ")
TO_ENGLISH = ("翻译成英文：", "译为英文：\n", "中译英：")
MARKER = "WHOLE"


def ensure(store: Store, seed: int = 0) -> Path:
    """The folder of the corpus under `<store>/demo/`, written now unless it is there whole.

    Raises:
        ConfigError: the storage root is remote.
    """
    code = code_hash(path for path in room_code("demo") if path.name != "base.py")
    folder = f"demo/corpus-{fingerprint([code, seed])}"
    if not store.exists(f"{folder}/{MARKER}"):
        store.delete(folder)
        files = write(seed)
        for path, text in files.items():
            store.write(f"{folder}/{path}", text.encode("utf-8"))
        store.write(f"{folder}/{MARKER}", "\n".join(files).encode("utf-8"))
    return store.local(folder)


def write(seed: int) -> dict[str, str]:
    """Every file of the corpus as relative path -> text, a pure function of `seed`."""
    there = world(random.Random(f"{seed} world"))
    parts = (bc5cdr, promptcblue, translation, questions, general_files)
    files: dict[str, str] = {}
    for part in parts:
        files |= part(there, random.Random(f"{seed} {part.__name__}"))
    return files


def bc5cdr(there: World, rng: random.Random) -> dict[str, str]:
    """PubTator files; in train one document is repeated, one is very long, one has a wrong offset, one a cut line."""
    train, test = (
        [pubtator(first + i, there, rng.randint(3, 5), rng) for i in range(DOCUMENTS[split])]
        for first, split in ((1000, "train"), (9000, "test"))
    )
    train.insert(40, train[7].replace("1007|", "2007|").replace("1007\t", "2007\t"))
    train.insert(90, pubtator(2001, there, 150, rng))
    broken = pubtator(2002, there, 3, rng).split("\n")
    train.insert(120, "\n".join([*broken[:2], "2002\t3\t5\tnowhere\tDisease\tX001"]))
    train.insert(150, "\n".join([*pubtator(2003, there, 2, rng).split("\n")[:2], "2003\t4"]))
    return {
        f"bc5cdr/CDR_{name}Set.PubTator.txt": "\n\n".join(documents) + "\n\n"
        for name, documents in (("Training", train), ("Test", test))
    }


def pubtator(number: int, there: World, clauses: int, rng: random.Random) -> str:
    """One document without the blank line that follows it."""
    title, *rest = report(there, "en", clauses + 1, rng)
    title = written([title], "en")
    whole = join([title, written(rest, "en")], " ")
    lines = [f"{number}|t|{title.text}", f"{number}|a|{whole.text[len(title.text) + 1 :]}"]
    for m in whole.mentions:
        kind, letter = ("Chemical", "C") if m.entity.kind == "drug" else ("Disease", "D")
        name = whole.text[m.start : m.end]
        lines.append(f"{number}\t{m.start}\t{m.end}\t{name}\t{kind}\t{letter}{m.entity.number:03d}")
    lines += [f"{number}\tCID\tC{drug.number:03d}\tD{disease.number:03d}" for drug, disease in whole.causes]
    return "\n".join(lines)


def promptcblue(there: World, rng: random.Random) -> dict[str, str]:
    """Prompts with targets; in train one row is cut and one has no target."""
    files = {}
    for split in ("train", "test"):
        texts = [written(report(there, "zh", rng.randint(4, 6), rng), "zh") for _ in range(NER_ROWS[split])]
        rows = [ner_zh(f"{split}-{n}", text, rng) for n, text in enumerate(texts)]
        rows += [relation_zh(f"{split}-{5000 + n}", there, rng) for n in range(RELATION_ROWS[split])]
        rng.shuffle(rows)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        if split == "train":
            lines.insert(30, lines[30][:50])
            lines.insert(60, json.dumps({**rows[60], "target": "", "sample_id": "train-9999"}, ensure_ascii=False))
        files[f"promptcblue/{split}.json"] = "\n".join(lines) + "\n"
    return files


def ner_zh(number: str, passage: Passage, rng: random.Random) -> dict[str, Any]:
    """A CMeEE-V2 row: the asked types in random order, each with its entities in the order of the text."""
    kinds = {"药物": "drug", "疾病": "disease"}
    asked = rng.sample(list(kinds), 2)
    template, comma = rng.choice(NER_ZH)
    target = "上述句子中的实体包含："
    for kind in asked:
        names = dict.fromkeys(m.entity.name.zh for m in passage.mentions if m.entity.kind == kinds[kind])
        target += f"\n{kind}实体：" + "，".join(names)
    if not passage.mentions:
        target = "上述句子没有指定类型实体"
    return {
        "input": template.format(types=comma.join(asked), text=passage.text),
        "target": target,
        "answer_choices": asked,
        "task_type": "ner",
        "task_dataset": "CMeEE-V2",
        "sample_id": number,
    }


def relation_zh(number: str, there: World, rng: random.Random) -> dict[str, Any]:
    """A CMeIE row about two or three facts; asked relations may have no pair."""
    parts, pairs = [], []
    for _ in range(rng.randint(2, 3)):
        x = rng.choice(there.drugs + there.diseases)
        key = "treats" if x.kind == "drug" else rng.choice(("organ", "sign"))
        parts.append(statement(x, key, rng.randrange(len(STATEMENTS[key])), there, "zh"))
        head, tail = x.name.zh, x.facts[key].zh
        pairs.append((RELATIONS_ZH[key], *((tail, head) if key == "treats" else (head, tail))))
    pairs = list(dict.fromkeys(pairs))
    asked = rng.sample(list(RELATIONS_ZH.values()), 2)
    said = {kind: "".join(f"头实体为{h}，尾实体为{t}。" for k, h, t in pairs if k == kind) for kind in asked}
    target = "\n".join(f"具有{kind}关系的头尾实体对如下：{text}" for kind, text in said.items())
    return {
        "input": rng.choice(RELATION_ZH).format(types="，".join(asked), text=join(parts, "，", "。").text),
        "target": target,
        "answer_choices": asked,
        "task_type": "spo_generation",
        "task_dataset": "CMeIE",
        "sample_id": number,
    }


def translation(there: World, rng: random.Random) -> dict[str, str]:
    """Every fact is translated in some of its wordings; one row is cut, one is very long."""
    sayings = [(x, key, way) for x in there.drugs + there.diseases for key in x.facts for way in range(4)]
    directed = [(*saying, to_chinese) for saying in sayings for to_chinese in (True, False)]
    rows = []
    for n, (x, key, way, to_chinese) in enumerate(rng.sample(directed, TRANSLATIONS)):
        en, zh = (statement(x, key, way, there, language).text for language in ("en", "zh"))
        rows.append(taiyi(n, en + ".", zh + "。", to_chinese=to_chinese, rng=rng))
    long = [statement(*rng.choice(sayings), there, "en").text for _ in range(300)]
    rows.append(taiyi(len(rows), ", ".join(long) + ".", "省略。", to_chinese=True, rng=rng))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines.insert(100, lines[100][: len(lines[100]) // 2])
    return {"taiyi/translation.jsonl": "\n".join(lines) + "\n"}


def taiyi(number: int, en: str, zh: str, *, to_chinese: bool, rng: random.Random) -> dict[str, Any]:
    """A conversation of one turn in the one direction or the other."""
    human = rng.choice(TO_CHINESE) + en if to_chinese else rng.choice(TO_ENGLISH) + zh
    return {
        "conversation_id": 70000 + number,
        "category": "MT-en2zh" if to_chinese else "MT-zh2en",
        "dataset": "demo_facts",
        "language": "en-zh" if to_chinese else "zh-en",
        "conversation": [{"human": human, "assistant": zh if to_chinese else en}],
    }


def questions(there: World, rng: random.Random) -> dict[str, str]:
    """Alpaca and messages files; in train some rows are repeated, some have no answer, one is over-long."""
    asked: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
    for language in ("en", "zh"):
        pairs = [
            (way.format(x=x.name.of(language)), value.of(language))
            for x in there.drugs + there.diseases
            for key, value in x.facts.items()
            for way in QUESTIONS[key][language]
        ]
        rng.shuffle(pairs)
        asked[language] = (pairs[TEST_QUESTIONS:], pairs[:TEST_QUESTIONS])
    train_en = [{"instruction": q, "input": "", "output": a} for q, a in asked["en"][0]]
    train_en += train_en[:25]
    train_en.insert(200, {"instruction": train_en[200]["instruction"], "input": "", "output": ""})
    train_en.insert(300, {"instruction": "This row has no output."})
    chatter = "\n".join(written(report(there, "en", 20, rng), "en").text for _ in range(8))
    train_en.insert(400, {"instruction": "Is this report long?", "input": chatter, "output": "Very."})
    train_zh = [json.dumps(row, ensure_ascii=False) for row in messages("train", asked["zh"][0])]
    train_zh += train_zh[:25]
    train_zh.insert(100, json.dumps({"id": "train-empty", "messages": []}))
    train_zh.insert(150, '{"id": "train-cut", "messages": [{"role": "user", "con')
    test_en = [{"instruction": q, "input": "", "output": a} for q, a in asked["en"][1]]
    test_zh = [json.dumps(row, ensure_ascii=False) for row in messages("test", asked["zh"][1])]
    return {
        "qa/english_train.json": json.dumps(train_en, ensure_ascii=False, indent=1),
        "qa/english_test.json": json.dumps(test_en, ensure_ascii=False, indent=1),
        "qa/chinese_train.jsonl": "\n".join(train_zh) + "\n",
        "qa/chinese_test.jsonl": "\n".join(test_zh) + "\n",
    }


def messages(split: str, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Dialogues of one question; in train, one in thirty has two."""
    rows = []
    for n, pair in enumerate(pairs):
        turns = [pair, pairs[n - 1]] if split == "train" and n % 30 == 29 else [pair]
        said = [
            (role, text) for question, answer in turns for role, text in (("user", question), ("assistant", answer))
        ]
        rows.append({"id": f"{split}-{n}", "messages": [{"role": role, "content": text} for role, text in said]})
    return rows


def general_files(there: World, rng: random.Random) -> dict[str, str]:
    """General Chinese with medical, very long, repeated and cut rows in it, and the identity rows."""
    rows = general.rows(rng)
    rows += general.medical_rows() + general.long_rows(rng) + rows[:8]
    rng.shuffle(rows)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines.insert(20, lines[20][:40])
    lines.insert(50, json.dumps({"instruction": "这一行没有回答。", "domain": ["生活"]}, ensure_ascii=False))
    identity = [json.dumps(row, ensure_ascii=False) for row in general.identity_rows()]
    return {"coig_cqia/general.jsonl": "\n".join(lines) + "\n", "identity/self.jsonl": "\n".join(identity) + "\n"}
