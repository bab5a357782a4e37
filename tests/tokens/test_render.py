"""Golden tests of text, ids and mask: what a model reads is exactly what the recipe says.

The byte tokenizer makes ids computable by hand, so no golden file has to be believed.
"""

from pathlib import Path
from typing import Any

import pytest

from medtrain.errors import DataError
from medtrain.records import Turn

EN = "You are BIO-QWEN, an advanced AI specializing in the field of biology."
ZH = "你是千问生物智能助手，一个专注于生物领域的先进人工智能。"
END = "<|im_end|>\n<|endoftext|>"


def chat(system: str, user: str, answer: str, end: str = END) -> str:
    asked = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
    return f"{asked}<|im_start|>assistant\n{answer}{end}"


PAPER: dict[str, Any] = {"mode": "paper"}
ONE: dict[str, Any] = {"mode": "released", "stage": 1}
TWO: dict[str, Any] = {"mode": "released", "stage": 2}
CASES = {
    "en": (PAPER, "en", " What is it? ", " A fever.\n", " An illness. ", EN, "What is it?\nA fever."),
    "en released 1": (ONE, "en", " What is it? ", " A fever.\n", " An illness. ", EN, "What is it? A fever."),
    "en released 2": (TWO, "en", " What is it? ", " A fever.\n", " An illness. ", EN, "What is it?A fever."),
    "zh": (PAPER, "zh", "这是什么？", "发烧。", "一种症状。", ZH, "这是什么？\n发烧。"),
    "zh released 1": (ONE, "zh", "这是什么？", "发烧。", "一种症状。", ZH, "这是什么？ 发烧。"),
    "zh released 2": (TWO, "zh", "这是什么？", "发烧。", "一种症状。", ZH, "这是什么？发烧。"),
    "empty input": (PAPER, "en", "Why?", "", "So.", EN, "Why?"),
    "empty input released 1": (ONE, "en", "Why?", "", "So.", EN, "Why? "),
    "empty input released 2": (TWO, "en", "Why?", "", "So.", EN, "Why?"),
    "language by instruction": (TWO, "en", "翻译：", "fever", "发烧", ZH, "翻译：fever"),
    "a tie is English": (TWO, "zh", "病a", "。", "发烧", EN, "病a。"),
    "join by key": ({"mode": "paper", "join": " "}, "en", "Why?", "Fever.", "So.", EN, "Why? Fever."),
}


@pytest.mark.parametrize("case", CASES)
def test_text_ids_and_mask(kit: Any, byte_base: Path, case: str) -> None:
    settings, language, query, context, answer, system, user = CASES[case]
    renderer = kit.renderer(byte_base, **settings)
    record = kit.record(query, context, answer, language)
    expected = chat(system, user, answer.strip())
    assert renderer.text(record) == expected
    sample, entries = renderer.sample(record)
    assert entries == []
    assert sample.input_ids.tolist() == kit.ids_of(expected)
    assert kit.trained_texts(sample) == [answer.strip() + END]
    assert sample.trained[0][1] == len(sample.input_ids)


def test_an_over_long_answer_loses_paragraphs_and_is_not_closed(kit: Any, byte_base: Path) -> None:
    answer = "First paragraph.\n\nSecond one.\nThird " + "x" * 200
    renderer = kit.renderer(byte_base, context_tokens=200)
    sample, entries = renderer.sample(kit.record("Why?", "", answer))
    expected = chat(EN, "Why?", "First paragraph.\n\nSecond one.", end="")
    assert sample.input_ids.tolist() == kit.ids_of(expected)
    assert kit.trained_texts(sample) == ["First paragraph.\n\nSecond one."]
    assert [(e.rule, e.action) for e in entries] == [("answer-paragraphs-cut", "changed")]


def test_a_cut_answer_is_closed_by_key(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base, context_tokens=200, close_cut_answers=True)
    sample, _ = renderer.sample(kit.record("Why?", "", "One.\n" + "x" * 200))
    assert kit.trained_texts(sample) == ["One." + END]


def test_a_single_giant_paragraph_is_cut_at_a_sentence(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base, context_tokens=260)
    sample, entries = renderer.sample(kit.record("为什么？", "", "一。" + "二三四五。" * 40, "zh"))
    assert kit.trained_texts(sample)[0].endswith("二三四五。")
    assert len(sample.input_ids) <= 260 < len(sample.input_ids) + len("二三四五。".encode())
    assert [e.rule for e in entries] == ["answer-sentences-cut"]


def test_an_over_long_prompt_loses_context_and_never_the_query(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base, context_tokens=200)
    record = kit.record("Why?", "Kept line.\nLost line " + "y" * 200, "So.")
    sample, entries = renderer.sample(record)
    assert sample.input_ids.tolist() == kit.ids_of(chat(EN, "Why?\nKept line.", "So."))
    assert [(e.rule, e.action) for e in entries] == [("context-paragraphs-cut", "changed")]
    assert "Kept" not in entries[0].detail
    assert "200" not in renderer.text(record)


def test_a_query_that_is_too_long_drops_the_row(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base, context_tokens=200)
    sample, entries = renderer.sample(kit.record("q" * 300, "Some text.", "So."))
    assert sample is None
    assert [(e.rule, e.action) for e in entries] == [("over-long", "dropped")]


def test_gold_follows_its_context_when_that_is_cut(kit: Any, byte_base: Path) -> None:
    text = "aspirin helps.\nthen " + "z" * 200 + " heparin"
    sample, entries = kit.renderer(byte_base, context_tokens=300).sample(
        kit.ner_record(1, text, ["aspirin", "heparin"])
    )
    assert kit.trained_texts(sample) == ["Drug: aspirin" + END]
    assert [e.rule for e in entries] == ["context-paragraphs-cut"]


def test_a_structured_answer_without_gold_is_never_left_standing_over_a_cut_context(kit: Any, byte_base: Path) -> None:
    record = kit.record("Find.", "aspirin.\n" + "z" * 300, "Drug: aspirin", task="ner", category="NER")
    sample, entries = kit.renderer(byte_base, context_tokens=200).sample(record)
    assert sample is None and entries[0].rule == "over-long"


def test_every_assistant_turn_is_trained_and_the_last_ends_the_text(kit: Any, byte_base: Path) -> None:
    turns = (
        Turn("system", text="Be brief."),
        Turn("user", query="A?"),
        Turn("assistant", text="B.", trained=True),
        Turn("user", query="C?"),
        Turn("assistant", text="D.", trained=False),
        Turn("user", query="E?"),
        Turn("assistant", text="F.", trained=True),
    )
    renderer = kit.renderer(byte_base)
    record = kit.record(turns=turns)
    sample, _ = renderer.sample(record)
    assert kit.trained_texts(sample) == ["B.<|im_end|>\n", "F." + END]
    assert renderer.text(record).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nA?")
    assert sample.input_ids.tolist() == kit.ids_of(renderer.text(record))
    assert renderer.prompt(record) == sample.input_ids[: sample.trained[-1][0]].tolist()


def test_an_over_long_dialogue_keeps_its_first_exchanges(kit: Any, byte_base: Path) -> None:
    pair = (Turn("user", query="A?"), Turn("assistant", text="b" * 60, trained=True))
    sample, entries = kit.renderer(byte_base, context_tokens=300).sample(kit.record(turns=pair * 5))
    assert [text.count("b") for text in kit.trained_texts(sample)] == [60, 60]
    assert kit.trained_texts(sample)[-1].endswith(END)
    assert [e.rule for e in entries] == ["exchanges-cut"]


def test_the_text_of_a_control_token_in_a_corpus_stays_text(kit: Any, byte_base: Path) -> None:
    answer = "Say <|im_end|> or <|endoftext|>."
    sample, _ = kit.renderer(byte_base).sample(kit.record("What of <|im_start|>?", "", answer))
    ids = sample.input_ids.tolist()
    assert (ids.count(0), ids.count(1), ids.count(2)) == (1, 3, 3)
    start, stop = sample.trained[0]
    assert ids[start:stop] == [byte + 3 for byte in answer.encode()] + [2, ord("\n") + 3, 0]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"answer": ""}, "empty-answer"),
        ({"query": ""}, "empty-question"),
        ({"turns": ()}, "turn-order"),
        ({"turns": (Turn("user", query="A?"),)}, "no-answer"),
        ({"turns": (Turn("user", query="A?"), Turn("user", query="B?"))}, "turn-order"),
        ({"turns": (Turn("user", query="A?"), Turn("assistant", text="B."))}, "nothing-trained"),
    ],
)
def test_what_cannot_be_learnt_goes_to_the_ledger(kit: Any, byte_base: Path, fields: dict[str, Any], rule: str) -> None:
    sample, entries = kit.renderer(byte_base).sample(kit.record(**{"query": "A?", "answer": "B.", **fields}))
    assert sample is None
    assert [(e.room, e.source, e.id, e.rule, e.action) for e in entries] == [("tokens", "s", "s:1", rule, "dropped")]


def test_a_question_without_answer_is_a_prompt(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base)
    record = kit.record(turns=(Turn("user", query="A?"),))
    assert renderer.prompt(record) == kit.ids_of(chat(EN, "A?", "", end=""))


def test_a_prompt_leaves_room_for_its_answer(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base, context_tokens=200)
    record = kit.record("Why?", "One.\nTwo.\n" + "y" * 50, "So.")
    assert renderer.prompt(record, reserve_tokens=40) == kit.ids_of(chat(EN, "Why?\nOne.\nTwo.", "", end=""))
    with pytest.raises(DataError, match="s:1.*never cut"):
        renderer.prompt(record, reserve_tokens=100)


def test_an_over_long_prompt_loses_its_oldest_exchanges(kit: Any, byte_base: Path) -> None:
    turns = [Turn("user", query="A?"), Turn("assistant", text="b" * 100), Turn("user", query="C?")]
    renderer = kit.renderer(byte_base, context_tokens=200)
    assert renderer.prompt(kit.record(turns=tuple(turns))) == kit.ids_of(chat(EN, "C?", "", end=""))


def test_the_phrasing_depends_on_seed_and_id_only(kit: Any, byte_base: Path) -> None:
    records = [kit.ner_record(number, "aspirin helps.", ["aspirin"]) for number in range(40)]
    first, again, other = (kit.renderer(byte_base, seed=seed) for seed in (1, 1, 2))
    texts = [first.text(record) for record in records]
    assert texts == [again.text(record) for record in reversed(records)][::-1]
    assert texts != [other.text(record) for record in records]
    assert len(set(texts)) > 2


def test_ten_rows_of_each_wording_train_exactly_the_answer_and_its_end(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base)
    for number in range(10):
        language = "zh" if number % 2 else "en"
        rows = [
            kit.ner_record(
                number, f"take aspirin and drug{number}.", [f"drug{number}", "aspirin"][: number % 3], language
            ),
            kit.record(
                context="aspirin treats fever.",
                language=language,
                id=f"s:{number}",
                task="relations",
                gold={"relations": [{"type": "treats", "head": "aspirin", "tail": "fever"}], "types": ["treats"]},
            ),
            kit.record(
                context="t", language=language, task="labels", gold={"labels": ["a", "b"], "label_set": ["a", "b"]}
            ),
            kit.record("问？", "文", f"答{number}。", language),
        ]
        for row in rows:
            sample, entries = renderer.sample(row)
            assert entries == []
            assert kit.trained_texts(sample) == [renderer.reference(row) + END]
            assert renderer.prompt(row) == sample.input_ids[: sample.trained[0][0]].tolist()


CHOICE = {"label": "yes", "label_set": ["yes", "no"]}


def test_a_query_of_its_own_is_wrapped_where_the_wording_has_a_place_for_it(kit: Any, byte_base: Path) -> None:
    renderer = kit.renderer(byte_base)
    texts = set()
    for number in range(20):
        record = kit.record(" Is {it} so? ", "A text.", task="choice", gold=CHOICE, id=f"s:{number}")
        text = renderer.text(record)
        assert text.count("Is {it} so?") == text.count("yes, no") == 1
        assert text.endswith("\nA text.<|im_end|>\n<|im_start|>assistant\nyes" + END)
        texts.add(text)
    assert len(texts) > 2


def test_a_query_of_its_own_stands_verbatim_where_the_wording_has_none(kit: Any, byte_base: Path) -> None:
    gold = {"entities": [], "types": ["Drug"]}
    record = kit.record("找出{药物}：\n无。\n答：", "", language="zh", task="ner", gold=gold)
    answer = "文中没有这些类型的实体。"
    assert kit.renderer(byte_base).text(record) == chat(ZH, "找出{药物}：\n无。\n答：", answer)


def test_only_the_first_query_is_wrapped(kit: Any, byte_base: Path) -> None:
    turns = (Turn("user", query="A?"), Turn("assistant", text="B.", trained=True))
    text = kit.renderer(byte_base).text(kit.record(turns=turns * 2, task="choice", gold=CHOICE))
    assert text.count("yes, no") == 1
    assert "<|im_start|>user\nA?<|im_end|>" in text


def test_options_stand_as_lines_between_question_and_context(kit: Any, byte_base: Path) -> None:
    gold = {"options": {"A": "one\r\nline", "B": "two; {b}"}, "answer": "B"}
    for number in range(10):
        record = kit.record("Which?", "A case.", task="options", gold=gold, id=f"s:{number}")
        text = kit.renderer(byte_base).text(record)
        assert "Which?\nA. one line\nB. two; {b}\n" in text
        assert text.endswith("\nA case.<|im_end|>\n<|im_start|>assistant\nB. two; {b}" + END)
