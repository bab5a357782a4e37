"""A study's pictures hold what they are given, at the places where it belongs."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from medtrain.search import pictures
from medtrain.search.history import Ellipse
from medtrain.search.pictures import BLUE, GREY, RED, Mark
from medtrain.search.space import Range, Space

SPACE = Space(
    {
        "rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "share": {"low": 0.0, "high": 0.5},
        "rank": {"low": 4, "high": 64, "step": 4, "int": True},
        "kind": {"choices": ["<b>lora</b>", True, 1]},
        "size": {"fixed": 8},
    }
)
BASE = {"rate": 1e-4, "share": 0.25, "rank": 16, "kind": True, "size": 8}


def marks(values: list[float | None], counts: bool = True) -> list[Mark]:
    """Trials that differ in their rate."""
    return [
        Mark(n, {**BASE, "rate": 1e-5 * 10 ** (n % 4)}, value, counts and value is not None)
        for n, value in enumerate(values)
    ]


def ellipse(update: int = 0, mean: float = 0.5) -> Ellipse:
    """One in all six coordinates, whose first two go together."""
    covariance = np.eye(6) * 0.01
    covariance[0, 1] = covariance[1, 0] = 0.006
    return Ellipse(update, np.full(6, mean), covariance)


def numbers(points: str | None) -> list[tuple[float, float]]:
    """The points of a line."""
    pairs = (pair.split(",") for pair in (points or "").split())
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize("name", ["rate", "share", "rank"])
def test_an_axis_writes_real_values_where_the_space_has_them(name: str) -> None:
    parameter = SPACE.parameters[name]
    assert isinstance(parameter, Range)
    found = pictures.axis(name, parameter)
    assert 3 <= len(found.ticks) <= 7
    for at, text in found.ticks:
        assert at == pytest.approx(parameter.coordinate(float(text)))
    if name == "rate":  # decades are evenly apart
        assert [text for _, text in found.ticks] == ["1e-05", "0.0001", "0.001", "0.01"]
        assert [at for at, _ in found.ticks] == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    "given",
    [
        {"low": 0.011, "high": 0.019, "log": True},
        {"low": 2, "high": 3, "log": True, "int": True},
        {"low": 0, "high": 1, "int": True},
        {"low": 1e-5, "high": 1e-4, "log": True},
    ],
)
def test_an_axis_has_marks_however_short_it_is(given: dict[str, float]) -> None:
    parameter = Space({"x": given}).parameters["x"]
    assert isinstance(parameter, Range)
    found = pictures.axis("x", parameter)
    assert len(found.ticks) >= 2 and all(0 <= at <= 1 for at, _ in found.ticks)


def test_choices_that_python_holds_for_equal_have_places_of_their_own() -> None:
    found = pictures.axis("kind", SPACE.parameters["kind"])
    assert found.at(True) != found.at(1) and len({at for at, _ in found.ticks}) == 3


def test_the_history_s_line_is_the_best_so_far() -> None:
    for sign, mode in ((1.0, "min"), (-1.0, "max")):
        values = [sign * value if value is not None else None for value in (3.0, 4.0, None, 2.0, 2.5, 1e9)]
        picture = ElementTree.fromstring(pictures.history(marks(values), mode, "loss"))
        line = numbers(picture.findall("polyline")[0].get("points"))
        assert len(line) == 4  # the first, a step of two, the end
        assert line[0][1] == line[1][1] and line[2][1] == line[3][1] and (line[0][1] < line[2][1]) == (mode == "min")
        dots = picture.findall("circle")
        assert [dot[0].text for dot in dots] == [f"trial {n}: {values[n]:.6g}" for n in (0, 1, 3, 4)]
        assert {dot.get("fill") for dot in dots} == {GREY}
        # One without a value at the floor, one beyond the picture: the scale is that of the others.
        titles = [path[0].text for path in picture.findall("path")]
        assert titles == ["trial 2: no value", f"trial 5: {sign * 1e9:.6g}"]
        assert math.dist((0, line[0][1]), (0, line[2][1])) > 40
    # The scale is that of the trials that count.
    both = [*marks([1.0, 1.1, 1.2]), *marks([0.0], counts=False)]
    beyond = ElementTree.fromstring(pictures.history(both, "min", "loss")).findall("path")
    assert [(path[0].text, path.get("fill")) for path in beyond] == [("trial 0: 0", RED)]
    pruned = ElementTree.fromstring(pictures.history(marks([1.0, 2.0], counts=False), "min", "loss"))
    assert {dot.get("fill") for dot in pruned.findall("circle")} == {RED}
    assert pictures.history(marks([None, None]), "min", "loss") == ""


def test_parallel_lines_pass_each_axis_where_their_value_is_and_the_best_is_on_top() -> None:
    tried = [*marks([3.0, 1.0, 2.0, None]), *marks([0.1], counts=False)]
    picture = ElementTree.fromstring(pictures.parallel(SPACE, tried, "min", "loss"))
    lines = picture.findall("polyline")
    assert [line[0].text for line in lines] == ["trial 0: loss 3", "trial 2: loss 2", "trial 1: loss 1"]
    assert [line.get("stroke") for line in lines] == [BLUE, BLUE, RED]
    assert all(len(numbers(line.get("points"))) == 5 for line in lines)  # four that vary and the value
    heights = [numbers(line.get("points"))[0][1] for line in lines]  # 1e-5, 1e-3, 1e-4: evenly apart
    assert heights[0] > heights[2] > heights[1]
    assert heights[0] - heights[2] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert [numbers(line.get("points"))[4][1] for line in lines] == sorted(
        numbers(line.get("points"))[4][1] for line in lines
    )
    assert pictures.parallel(SPACE, marks([None]), "min", "loss") == ""


def test_an_outline_is_one_deviation_away() -> None:
    given = ellipse(mean=0.4)
    inverse = np.linalg.inv(given.covariance[:2, :2])
    for point in pictures.outline(given, (0, 1)):
        step = np.array(point) - 0.4
        assert step @ inverse @ step == pytest.approx(1)


def test_a_plane_has_the_first_and_the_last_ellipse_around_their_means() -> None:
    shape = [ellipse(n, 0.3 + 0.01 * n) for n in range(31)]
    picture = ElementTree.fromstring(pictures.plane(SPACE, ("rate", "share"), shape, marks([1.0, 2.0, None])))
    inner = picture.find("svg")
    assert inner is not None and len(inner.findall("circle")) == 3
    rings = inner.findall("polygon")
    assert len(rings) == pictures.DRAWN
    assert [rings[0][0].text, rings[-1][0].text] == ["update 0", "update 30"]
    way = numbers(inner.findall("polyline")[0].get("points"))
    assert len(way) == 31
    for ring, middle in ((rings[0], way[0]), (rings[-1], way[-1])):
        assert np.mean(numbers(ring.get("points")), axis=0) == pytest.approx(middle, abs=0.1)
    opacity = [float(ring.get("opacity") or 0) for ring in rings]
    assert opacity == sorted(opacity) and opacity[-1] == 1
    assert [e.update for e in pictures.picked(shape[:3])] == [0, 1, 2]


def test_a_band_is_as_wide_as_the_search() -> None:
    shape = [ellipse(n) for n in range(3)]
    picture = ElementTree.fromstring(pictures.band(SPACE, "rate", shape))
    edge = numbers(picture.findall("polygon")[0].get("points"))
    line = numbers(picture.findall("polyline")[0].get("points"))
    assert len(edge) == 6 and len(line) == 3
    assert (edge[0][1] - edge[-1][1]) / (250 - 10 - 28) == pytest.approx(0.2, abs=0.005)


def test_names_are_text() -> None:
    picture = pictures.parallel(SPACE, marks([1.0, 2.0]), "min", "<i>loss")
    assert "<b>" not in picture and "<i>" not in picture and "&lt;i&gt;loss" in picture
