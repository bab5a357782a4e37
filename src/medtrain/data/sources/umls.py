"""UMLS Metathesaurus in Rich Release Format: what a concept is (EA), is also called (ES), and is related to (ER).

A row asks for one thing of one concept: its semantic types, its definition, its synonyms, or the concepts that one
relation leads to. MRREL is read from right to left, as its manual says: the row `CUI1 … CUI2 … RELA` means "CUI2 RELA
CUI1", and every relation also stands the other way round, so that the rows with a concept in CUI2 are all that it has.

Concepts are drawn by seed in one pass over MRCONSO, and named, with what they are related to, in a second one.
"""

import heapq
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from medtrain.data import rrf
from medtrain.data.draw import key
from medtrain.data.source import Example, Problem, SourceConfig, Unit, check_file, locate
from medtrain.data.text import decode
from medtrain.records import Language, Record, Split, Turn

LANGUAGES: dict[str, Language] = {"ENG": "en", "CHI": "zh"}
TABLES = {"attribute": ("MRSTY", "MRDEF"), "synonymy": (), "relation": ("MRREL",)}
"""What each kind of row needs beside MRCONSO."""
_CUI = re.compile(rb"C\d{7,}")
EXAMPLE = Example(
    {
        "MRCONSO.RRF": "C0000001|ENG|P|L1|PF|S1|Y|A1||M1|D1|MADE|MH|D1|Made fever|0|N||\n"
        "C0000001|ENG|S|L2|PF|S2|Y|A2||M1|D1|MADE|ET|D1|Pyrexia, made|0|N||\n"
        "C0000001|SPA|P|L3|PF|S3|Y|A3||M1|D1|MADESPA|MH|D1|Fiebre|0|N||\n"
        "C0000002|ENG|P|L4|PF|S4|Y|A4||M2|D2|MADE|MH|D2|Madecillin|0|N||\n"
        "C0000003|ENG|P|L5|PF|S5|Y|A5||M3|D3|MADE|MH|D3|Old name|0|O||\n",
        "MRSTY.RRF": "C0000001|T184|A2.2.2|Sign or Symptom|AT1||\nC0000002|T121|A1.4|Pharmacologic Substance|AT2||\n",
        "MRREL.RRF": "C0000001|A1|AUI|RO|C0000002|A4|AUI|may_treat|R1||MADE|MADE|||N||\n"
        "C0000002|A4|AUI|RO|C0000001|A1|AUI|may_be_treated_by|R2||MADE|MADE|||N||\n"
        "C0000002|A4|AUI|RB|C0000001|A1|AUI||R3||MADE|MADE|||N||\n",
        "MRDEF.RRF": "C0000001|A1|AT3||MADE|A made state of being warm.|N||\nC0000001|A3|AT4||MADESPA|Un estado.|N||\n",
        "MRFILES.RRF": "MRSTY.RRF|Semantic Types|CUI,TUI,STN,STY,ATUI,CVF|6|2|80|\n",
    },
    records=6,
)


class Config(SourceConfig):
    """A META folder; rows of a concept share the document `umls:<CUI>`, so that no split tears it."""

    kinds: tuple[Literal["attribute", "synonymy", "relation"], ...] = Field(
        ("attribute", "synonymy", "relation"), min_length=1
    )
    """What is asked: semantic types and definition (EA), synonyms (ES), one relation each (ER)."""
    concepts: int = Field(5000, ge=1)
    """How many concepts are drawn by seed from those with a name; about three rows come of each, so that `max_rows`
    can then take an exact number of rows."""
    seed: int = 42
    """Draws the concepts."""
    language: Literal["ENG", "CHI"] = "ENG"
    """LAT of the names and of the atoms that definitions belong to."""
    suppress: tuple[str, ...] = ("N",)
    """Values of SUPPRESS of the names, relations and definitions that are read; E, O and Y are suppressible ones."""
    vocabularies: tuple[str, ...] = ()
    """SABs that names, relations and definitions come from; empty takes all."""
    relations: tuple[str, ...] = ()
    """RELAs that are asked for; empty takes all. Rows of MRREL without a RELA are never asked for."""
    most_values: int = Field(20, ge=1)
    """A row with more answers goes: a broad concept's `inverse_isa` has thousands, and a cut list would be wrong."""
    split: Split = "train"
    """Which split its rows belong to; the corpus has none."""


@dataclass(slots=True)
class _Concept:
    """What the passes gather of a drawn concept."""

    names: dict[str, str] = field(default_factory=dict)  # by folded case
    atoms: set[bytes] = field(default_factory=set)
    types: dict[str, None] = field(default_factory=dict)
    definition: str = ""
    relations: dict[bytes, dict[bytes, None]] = field(default_factory=dict)  # RELA -> CUIs in the order of the file


def units(config: Config, root: Path) -> list[Unit]:
    """One unit: the tables are joined.

    Raises:
        DataError: a table that `kinds` needs is absent or empty.
    """
    folder = locate(config, root)
    needed = dict.fromkeys(("MRCONSO", *(table for kind in config.kinds for table in TABLES[kind])))
    first, *others = (check_file(folder / f"{table}.RRF", config.label) for table in needed)
    listing = folder / "MRFILES.RRF"
    if listing.exists():
        others.append(check_file(listing, config.label))
    return [Unit(str(first), first.name, config.split, also=tuple(map(str, others)))]


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """The rows of the drawn concepts, in the order of their CUIs."""
    tables = {path.stem: path for path in map(Path, (unit.path, *unit.also))}
    order, problems = rrf.orders(tables.get("MRFILES"))
    yield from problems
    drawn = {cui: _Concept() for cui in (yield from _draw(tables["MRCONSO"], order, config))}
    if "relation" in config.kinds:
        yield from _gather_relations(tables["MRREL"], order, config, drawn)
    names = yield from _gather_names(tables["MRCONSO"], order, config, drawn)
    if "attribute" in config.kinds:
        yield from _gather_types(tables["MRSTY"], order, drawn)
        yield from _gather_definitions(tables["MRDEF"], order, config, drawn)
    for cui in sorted(drawn):
        yield from _rows(cui.decode(), drawn[cui], names[cui][1], names, config)


def _usable(config: Config) -> Callable[[bytes, bytes], bool]:
    """Whether a line with this SUPPRESS and SAB is read."""
    flags = {flag.encode() for flag in config.suppress}
    vocabularies = {name.encode() for name in config.vocabularies}
    return lambda suppress, vocabulary: suppress in flags and (not vocabularies or vocabulary in vocabularies)


def _text(raw: bytes, position: str) -> Generator[Problem, None, str]:
    text, problems = decode(raw, position)
    yield from problems
    return " ".join(text.split())


def _draw(path: Path, order: rrf.Orders, config: Config) -> Generator[Problem, None, set[bytes]]:
    """The concepts of the smallest keys among those with a usable name; the order of the lines does not matter."""
    usable, language = _usable(config), config.language.encode()
    heap: list[tuple[int, bytes]] = []
    held: set[bytes] = set()
    last = b""
    for row in rrf.rows(path, order, ("CUI", "LAT", "SUPPRESS", "SAB")):
        if isinstance(row, Problem):
            yield row
            continue
        number, (cui, spoken, suppress, vocabulary) = row
        if cui == last or spoken != language or not usable(suppress, vocabulary):
            continue
        last = cui
        if not _CUI.fullmatch(cui):
            yield Problem(f"{path.name}:{number}", "bad_cui", "a CUI is C and at least seven digits")
        elif cui not in held:
            held.add(cui)
            heapq.heappush(heap, (-key(config.seed, "umls", cui.decode()), cui))
            if len(heap) > config.concepts:
                held.remove(heapq.heappop(heap)[1])
    return held


def _gather_relations(path: Path, order: rrf.Orders, config: Config, drawn: dict[bytes, _Concept]) -> Iterator[Problem]:
    usable, asked = _usable(config), {name.encode() for name in config.relations}
    for row in rrf.rows(path, order, ("CUI1", "CUI2", "RELA", "SUPPRESS", "SAB")):
        if isinstance(row, Problem):
            yield row
            continue
        value, cui, relation, suppress, vocabulary = row[1]
        if cui not in drawn or not relation or value == cui or not usable(suppress, vocabulary):
            continue
        if not asked or relation in asked:
            values = drawn[cui].relations.setdefault(relation, {})
            if len(values) <= config.most_values:  # one more than may be answered shows that there are too many
                values[value] = None


def _gather_names(
    path: Path, order: rrf.Orders, config: Config, drawn: dict[bytes, _Concept]
) -> Generator[Problem, None, dict[bytes, tuple[int, str]]]:
    """The best name of each concept that is drawn or related, with its rank: 0 is the canonical one."""
    usable, language = _usable(config), config.language.encode()
    related = (cui for concept in drawn.values() for cuis in concept.relations.values() for cui in cuis)
    names = dict.fromkeys((*drawn, *related), (8, ""))
    for row in rrf.rows(path, order, ("CUI", "LAT", "TS", "STT", "ISPREF", "AUI", "STR", "SUPPRESS", "SAB")):
        if isinstance(row, Problem):
            continue  # `_draw` told it
        number, (cui, spoken, status, kind, preferred, atom, raw, suppress, vocabulary) = row
        if cui not in names or spoken != language or not usable(suppress, vocabulary):
            continue
        name = yield from _text(raw, f"{path.name}:{number}")
        rank = 4 * (status != b"P") + 2 * (kind != b"PF") + (preferred != b"Y")
        if name and rank < names[cui][0]:
            names[cui] = rank, name
        if name and cui in drawn:
            drawn[cui].names.setdefault(name.casefold(), name)
            drawn[cui].atoms.add(atom)
    return names


def _gather_types(path: Path, order: rrf.Orders, drawn: dict[bytes, _Concept]) -> Iterator[Problem]:
    for row in rrf.rows(path, order, ("CUI", "STY")):
        if isinstance(row, Problem):
            yield row
        elif row[1][0] in drawn:
            name = yield from _text(row[1][1], f"{path.name}:{row[0]}")
            drawn[row[1][0]].types[name] = None


def _gather_definitions(
    path: Path, order: rrf.Orders, config: Config, drawn: dict[bytes, _Concept]
) -> Iterator[Problem]:
    """The first of each concept; MRDEF names no language, so it must belong to an atom of the wanted one."""
    usable = _usable(config)
    for row in rrf.rows(path, order, ("CUI", "AUI", "DEF", "SUPPRESS", "SAB")):
        if isinstance(row, Problem):
            yield row
            continue
        number, (cui, atom, raw, suppress, vocabulary) = row
        concept = drawn.get(cui)
        if concept and not concept.definition and atom in concept.atoms and usable(suppress, vocabulary):
            concept.definition = yield from _text(raw, f"{path.name}:{number}")


def _rows(
    cui: str, concept: _Concept, name: str, names: dict[bytes, tuple[int, str]], config: Config
) -> Iterator[Record | Problem]:
    """The rows of a concept that have an answer."""
    if not name:
        yield Problem(f"MRCONSO.RRF:{cui}", "no_name", "all of its names are empty", f"{config.label}:{cui}")
        return
    asked: list[tuple[str, str, str, list[str]]] = []
    if "attribute" in config.kinds:
        asked.append(("EA", "semantic_type", "semantic type", list(concept.types)))
        asked.append(("EA", "definition", "definition", [concept.definition]))
    if "synonymy" in config.kinds:
        others = [other for folded, other in concept.names.items() if folded != name.casefold()]
        asked.append(("ES", "synonyms", "synonyms", others))
    for raw, cuis in concept.relations.items():
        relation = yield from _text(raw, f"MRREL.RRF:{cui}")
        asked.append(("ER", f"relation/{relation}", relation.replace("_", " "), [names[other][1] for other in cuis]))
    for category, part, attribute, values in asked:
        id = f"{config.label}:{cui}/{part}"
        distinct: dict[str, str] = {}
        for value in values:
            distinct.setdefault(value.casefold(), value)
        distinct.pop("", None)  # a related concept without a name in this language and these vocabularies
        if len(values) > config.most_values:
            yield Problem(f"{cui}/{part}", "many_values", f"more than {config.most_values} answers", id)
        elif distinct:
            yield Record(
                id=id,
                document_id=f"umls:{cui}",
                source=config.label,
                task="attribute",
                category=category,
                language=LANGUAGES[config.language],
                split=config.split,
                turns=(Turn("user", query=name), Turn("assistant", trained=True)),
                gold={"attribute": attribute, "values": list(distinct.values())},
            )
