"""XML that tries to reach beyond itself, or is none."""

from pathlib import Path

import pytest

from medtrain.data import xmlfiles


def test_plain_xml_with_attributes_over_lines() -> None:
    root = xmlfiles.parse('<?xml version="1.0"?>\n<a\n b="1"\n c="&lt;">文<d/>&amp;</a>'.encode())
    assert (root.tag, root.attrib, "".join(root.itertext())) == ("a", {"b": "1", "c": "<"}, "文&")


def test_an_external_dtd_is_not_fetched(tmp_path: Path) -> None:
    dtd = tmp_path / "own.dtd"
    dtd.write_text('<!ENTITY secret "stolen">')
    root = xmlfiles.parse(f"<!DOCTYPE a SYSTEM '{dtd}'><a>text</a>".encode())
    assert root.text == "text"
    with pytest.raises(ValueError, match="entity"):
        xmlfiles.parse(f"<!DOCTYPE a SYSTEM '{dtd}'><a>&secret;</a>".encode())


@pytest.mark.parametrize(
    "declared",
    ['<!ENTITY x SYSTEM "file:///etc/passwd">', '<!ENTITY x "ha">', '<!ENTITY % x SYSTEM "http://localhost/x"> %x;'],
)
def test_entities_are_refused(declared: str) -> None:
    with pytest.raises(xmlfiles.UnsafeXml):
        xmlfiles.parse(f"<!DOCTYPE a [{declared}]><a>&x;</a>".encode())


@pytest.mark.parametrize(
    "content", [b"", b"text", b"<a>", b"<a></b>", b"<a>\xff</a>", b'<?xml version="1.0" encoding="x"?><a/>']
)
def test_what_is_no_xml_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="well-formed"):
        xmlfiles.parse(content)
