"""The sentences of the demo: statements of facts, case reports, questions; English and Chinese in parallel.

No stretch that all fillings of a phrase share is longer than 12 words (English) or 12 characters (Chinese), so that a
13-gram shared by two texts means shared content and not a shared phrase.
"""

import random
import string
from dataclasses import dataclass

from medtrain.demo.lexicon import CITIES, Entity, World, names

STATEMENTS = {
    "plant": (
        ("makers obtain {x} from {v}", "药厂制{x}要用{v}"),
        ("the drug {x} is pressed from {v}", "{x}取自{v}"),
        ("to make {x} one needs {v}", "{x}的原料是{v}"),
        ("all {x} starts as {v}", "{x}由{v}炼成"),
    ),
    "treats": (
        ("the right use of {x} is against {v}", "{x}专治{v}"),
        ("doctors give {x} for {v}", "医生用{x}对付{v}"),
        ("with {x} one can cure {v}", "{x}能治好{v}"),
        ("the target of {x} is {v}", "{x}的适应证是{v}"),
    ),
    "organ": (
        ("the seat of {x} is the {v}", "{x}的病灶在{v}"),
        ("people with {x} suffer in the {v}", "{x}累及{v}"),
        ("in {x} the damage is in the {v}", "{x}损害{v}"),
        ("scans for {x} show the {v}", "查{x}要看{v}"),
    ),
    "sign": (
        ("the first sign of {x} is {v}", "{x}的先兆是{v}"),
        ("we know {x} by its {v}", "{x}常伴有{v}"),
        ("a case of {x} begins with {v}", "{x}起病时{v}"),
        ("typical of {x} is {v}", "{x}典型表现为{v}"),
    ),
}
"""By attribute: ways to say that the `v` of `x` is so, English and Chinese beside each other."""

QUESTIONS = {
    "plant": {
        "en": (
            "What is {x} made from?",
            "Which plant yields {x}?",
            "Name the raw material of {x}.",
            "To make {x}, what do we press?",
            "I want to produce {x}. What should I grow?",
            "Tell me where {x} comes from in nature.",
            "Where do we get {x} from?",
            "Of which plant is {x} made?",
            "I have no more {x}. What must I harvest?",
        ),
        "zh": (
            "{x}取自什么？",
            "哪种植物可制{x}？",
            "{x}的原料是什么？",
            "请说出{x}的来源植物。",
            "想生产{x}，该种什么？",
            "制{x}要用什么？",
            "{x}是用什么做的？",
            "{x}从哪种植物来？",
            "{x}缺货，该采什么？",
        ),
    },
    "treats": {
        "en": (
            "What is {x} used for?",
            "Which illness does {x} cure?",
            "Name the target of {x}.",
            "My doctor gave me {x}. What do I have?",
            "Against what do we use {x}?",
            "Tell me the indication of {x}.",
            "What does {x} help against?",
            "A patient takes {x}. What is wrong with him?",
            "When is {x} the right drug?",
        ),
        "zh": (
            "{x}治什么病？",
            "哪种病该用{x}？",
            "{x}的适应证是什么？",
            "医生给我开了{x}，我得了什么病？",
            "请说出{x}对付的病。",
            "{x}能治好什么？",
            "什么病要吃{x}？",
            "{x}的用途是什么？",
            "吃{x}的人患什么病？",
        ),
    },
    "organ": {
        "en": (
            "What part of the body does {x} attack?",
            "Where is the seat of {x}?",
            "Name the organ that {x} damages.",
            "I have {x}. Where will it hurt?",
            "Scans for {x} look at what?",
            "Which organ suffers in {x}?",
            "What does {x} harm?",
            "Doctors who suspect {x} look where?",
            "Point to the place of {x}.",
        ),
        "zh": (
            "{x}损害哪个器官？",
            "{x}的病灶在哪里？",
            "请说出{x}累及的部位。",
            "我得了{x}，会伤到哪里？",
            "查{x}要看哪里？",
            "哪个部位会因{x}受损？",
            "{x}伤在何处？",
            "怀疑{x}，先查哪里？",
            "{x}影响身体哪里？",
        ),
    },
    "sign": {
        "en": (
            "What is the first sign of {x}?",
            "How does {x} begin?",
            "Name the mark by which we know {x}.",
            "My brother has {x}. What will he notice?",
            "What is typical of {x}?",
            "Which complaint comes with {x}?",
            "How can I recognize {x}?",
            "What do people with {x} complain of?",
            "Tell me a symptom of {x}.",
        ),
        "zh": (
            "{x}的先兆是什么？",
            "{x}起病时怎样？",
            "请说出{x}的典型表现。",
            "弟弟得了{x}，会有什么感觉？",
            "{x}常伴有什么？",
            "哪种不适提示{x}？",
            "怎样认出{x}？",
            "{x}患者会抱怨什么？",
            "说一个{x}的症状。",
        ),
    },
}

CASES = {
    "en": (
        ("after {drug} we saw {disease}", True),
        ("{n} men got {disease} from {drug}", True),
        ("the {disease} was due to {drug}", True),
        ("a dose of {drug} led to {disease}", True),
        ("no {disease} was seen under {drug}", False),
        ("{n} women with {disease} received {drug}", False),
        ("we compared {drug} with {drug2}", False),
        ("both {disease} and {disease2} were noted", False),
        ("the {disease} came back without {drug}", False),
        ("when {drug} was stopped, the {disease} went away", True),
        ("we gave {drug} for {n} days", False),
        ("{n} cases of {disease} came from {place}", False),
    ),
    "zh": (
        ("服{drug}后出现{disease}", True),
        ("{n}人因{drug}患{disease}", True),
        ("{disease}由{drug}引起", True),
        ("过量{drug}导致{disease}", True),
        ("用{drug}时未见{disease}", False),
        ("{n}名{disease}患者接受{drug}", False),
        ("比较{drug}与{drug2}", False),
        ("同时有{disease}和{disease2}", False),
        ("不用{drug}后{disease}复发", False),
        ("停用{drug}后{disease}消失", True),
        ("连用{drug}共{n}天", False),
        ("{n}例{disease}来自{place}", False),
    ),
}
"""Clauses of case reports, and whether they say that the drug caused the disease."""

FACT_SHARE = 0.2
"""The part of a report's clauses that states facts of the world."""

NUMBERS = {
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty"),
    "zh": ("两", "三", "四", "五", "六", "七", "八", "九", "十", "十二", "二十"),
}


@dataclass(frozen=True)
class Cast:
    """Who a report is about."""

    drugs: tuple[Entity, ...]
    diseases: tuple[Entity, ...]


@dataclass(frozen=True)
class Mention:
    """An entity in a text, half-open code points."""

    entity: Entity
    start: int
    end: int


@dataclass(frozen=True)
class Passage:
    """A text, its mentions in order, (drug, disease) pairs it calls cause and effect, facts as (attribute, x)."""

    text: str
    mentions: tuple[Mention, ...]
    causes: tuple[tuple[Entity, Entity], ...] = ()
    facts: tuple[tuple[str, Entity], ...] = ()


def fill(template: str, values: dict[str, str | Entity], language: str) -> Passage:
    """A template with its fields filled; entities become mentions."""
    text, mentions = "", []
    for literal, field, _, _ in string.Formatter().parse(template):
        text += literal
        if field is None:
            continue
        value = values[field]
        surface = value.name.of(language) if isinstance(value, Entity) else value
        if isinstance(value, Entity):
            mentions.append(Mention(value, len(text), len(text) + len(surface)))
        text += surface
    return Passage(text, tuple(mentions))


def join(passages: list[Passage], separator: str, end: str = "") -> Passage:
    """Passages one after the other, offsets moved along."""
    text, mentions = "", []
    for i, passage in enumerate(passages):
        text += separator if i else ""
        mentions += [Mention(m.entity, m.start + len(text), m.end + len(text)) for m in passage.mentions]
        text += passage.text
    causes = dict.fromkeys(pair for p in passages for pair in p.causes)
    return Passage(text + end, tuple(mentions), tuple(causes), tuple(f for p in passages for f in p.facts))


def statement(x: Entity, attribute: str, way: int, world: World, language: str) -> Passage:
    """One fact said in one way; a value that is itself a disease is a mention too."""
    value = x.facts[attribute]
    named: str | Entity = value.of(language)
    if attribute == "treats":
        named = next(d for d in world.diseases if d.name == value)
    said = fill(STATEMENTS[attribute][way][language == "zh"], {"x": x, "v": named}, language)
    return Passage(said.text, said.mentions, (), ((attribute, x),))


def case(cast: Cast, language: str, rng: random.Random) -> Passage:
    """One clause of a case report about drugs and diseases of the cast."""
    drugs, diseases = (rng.sample(group, len(group)) for group in (cast.drugs, cast.diseases))
    absent = [field for field, group in (("{drug2}", drugs), ("{disease2}", diseases)) if len(group) < 2]
    template, causal = rng.choice([way for way in CASES[language] if not any(field in way[0] for field in absent)])
    values: dict[str, str | Entity] = {
        "drug": drugs[0],
        "drug2": drugs[-1],
        "disease": diseases[0],
        "disease2": diseases[-1],
        "n": rng.choice(NUMBERS[language]),
        "place": rng.choice(names(CITIES)).of(language),
    }
    clause = fill(template, values, language)
    return Passage(clause.text, clause.mentions, ((drugs[0], diseases[0]),) if causal else ())


def report(world: World, language: str, clauses: int, rng: random.Random) -> list[Passage]:
    """The clauses of a report on one or two drugs and diseases, which it names again and again; some state facts.

    The names that come back teach the base to look up and copy a name from the text before it, which is what a model
    of entities needs and a million weights do not learn in fine-tuning alone.
    """
    drugs, diseases = (tuple(rng.sample(group, rng.choice((1, 1, 2)))) for group in (world.drugs, world.diseases))
    cast = Cast(drugs, diseases)
    found = []
    for _ in range(clauses):
        if rng.random() < FACT_SHARE:
            x = rng.choice(cast.drugs + cast.diseases)
            found.append(statement(x, rng.choice(sorted(x.facts)), rng.randrange(4), world, language))
        else:
            found.append(case(cast, language, rng))
    return found


def written(clauses: list[Passage], language: str) -> Passage:
    """Clauses as one sentence."""
    return join(clauses, ", " if language == "en" else "，", "." if language == "en" else "。")
