"""Pictures hold what they are given, whatever it is called."""

import re
from xml.etree import ElementTree

import pytest

from medtrain import charts


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.83), (0.0, 97.0), (1.2, 1.2), (0.0, 1e-6), (-3.0, 2.0)])
def test_ticks_are_round_and_span_the_values(low: float, high: float) -> None:
    marks = charts.ticks(low, high)
    assert marks[0] <= low + 1e-9 and marks[-1] >= high - 1e-9
    assert 2 <= len(marks) <= 7


def test_a_heat_map_is_darkest_where_the_value_is_largest() -> None:
    picture = charts.heat(["a<b", "c"], ["x", "y"], [[0.25, 0.5], [-1.0, 0.0]], ["x", None])
    cells = ElementTree.fromstring(picture).findall("rect")
    assert [cell[0].text for cell in cells] == ["a<b, x: 0.2500", "a<b, y: 0.5000", "c, x: -1.0000", "c, y: 0.0000"]
    assert [float(cell.get("fill-opacity", "")) for cell in cells] == [0.25, 0.5, 1.0, 0.0]
    assert len({cell.get("fill") for cell in cells}) == 2 and cells[2].get("fill") != cells[0].get("fill")
    assert [cell.get("stroke") is not None for cell in cells] == [True, False, False, False]
    assert re.findall(r"[a-z]<b", picture) == []
