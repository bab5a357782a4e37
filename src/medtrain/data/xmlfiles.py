"""XML without surprises: no external DTD is fetched and no entity is expanded."""

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


class UnsafeXml(ValueError):
    """The document declares or uses entities of its own."""


def parse(content: bytes) -> Element:
    """The root element.

    Raises:
        UnsafeXml: an entity is declared, or one that is not among XML's own five is used.
        ValueError: the document is not well-formed.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse
    parser.SkippedEntityHandler = _refuse
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, UnicodeError, LookupError) as error:
        raise ValueError(f"not well-formed XML ({type(error).__name__})") from None


def _refuse(*_: object) -> NoReturn:
    raise UnsafeXml("declares or uses an entity of its own")
