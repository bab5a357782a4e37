"""MedQuAD, questions and answers of NIH websites (Ben Abacha, Demner-Fushman 2019): an XML file for each page.

Three schemas stand side by side: `<Document>` and `<DiseaseFile>` with `<QAPairs><QAPair>`, and `<doc>` with
`<qaPairs><pair>` and lower-case names. File names repeat between collections, so ids are folder and file.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from medtrain.data import archive, xmlfiles
from medtrain.data.source import Example, Problem, SourceConfig, Unit, locate
from medtrain.records import Record, Split, Turn

SUFFIX = ".xml"
EXAMPLE = Example(
    {
        "1_A/0000001.xml": '<?xml version="1.0" encoding="UTF-8"?>\n<Document id="0000001" source="A"\n url="made">'
        '<QAPairs><QAPair pid="1"><Question qid="1-1" qtype="information">What is it ?</Question>'
        "<Answer>It is\n        - made.</Answer></QAPair></QAPairs></Document>",
        "2_B/0000001.xml": '<doc docid="0000001"><qaPairs><pair pid="1"><question qid="1-1">Where ?</question>'
        "<answer>Here.</answer></pair></qaPairs></doc>",
        "3_C/0000001.xml": '<DiseaseFile fid="0000001"><QAPairs><QAPair pid="1"><Question>Who ?</Question>'
        "<Answer>Me.</Answer></QAPair></QAPairs></DiseaseFile>",
    },
    records=3,
)


class Config(SourceConfig):
    """A folder of collections, or the zip in which they were published."""

    split: Split = "train"
    """Which split its rows belong to; the corpus has none."""


def units(config: Config, root: Path) -> list[Unit]:
    """Groups of files.

    Raises:
        DataError: there is no XML file, or the zip is damaged or unsafe.
    """
    return archive.units(locate(config, root), config.label, config.split, SUFFIX)


def read(unit: Unit, config: Config) -> Iterator[Record | Problem]:
    """One record for each pair with an answer; many answers of the full corpus are withheld for copyright."""
    for item in archive.contents(unit, SUFFIX):
        if isinstance(item, Problem):
            yield item
            continue
        name, content = item
        try:
            root = xmlfiles.parse(content)
        except ValueError as error:
            yield Problem(name, "bad_xml", str(error))
            continue
        pairs = [element for element in root.iter() if element.tag in ("QAPair", "pair")]
        if not pairs:
            known = any(element.tag.casefold() == "qapairs" for element in root.iter())
            detail = "an empty list of pairs" if known else "there is no list of pairs in it"
            yield Problem(name, "no_pairs" if known else "unknown_schema", detail)
        for number, pair in enumerate(pairs, 1):
            yield _record(pair, f"{name}#{number}", unit, config)


def _record(pair: Element, position: str, unit: Unit, config: Config) -> Record | Problem:
    parts = {child.tag.casefold(): child for child in pair}
    question, answer = (_text(parts.get(name)) for name in ("question", "answer"))
    asked = parts.get("question")
    kind = asked.get("qtype", "") if asked is not None else ""
    if not question:
        return Problem(position, "no_question", "the pair has no question")
    if not answer:
        return Problem(position, "empty_answer", "the answer is withheld or missing")
    return Record(
        id=f"{config.label}:{position}",
        document_id=f"{config.label}:{position.rpartition('#')[0]}",
        source=config.label,
        task="qa",
        category="QA",
        language="en",
        split=unit.split,
        turns=(Turn("user", query=question), Turn("assistant", text=answer, trained=True)),
        meta={"qtype": kind},
    )


def _text(element: Element | None) -> str:
    """An element's text; the files' hard indentation is taken off line by line, empty lines go."""
    if element is None:
        return ""
    lines = ("".join(element.itertext())).replace("\r", "").split("\n")
    return "\n".join(" ".join(line.split()) for line in lines if line.strip())
