"""The page of a search: all that it should show, whatever came out, nothing from elsewhere, text that stays text."""

import base64
import html.parser
import math
import re

import pytest

from tfrobust.evaluation import Report
from tfrobust.utils import charts
from tfrobust.utils import html as _pages
from tuning import page as _page
from tuning.aims import Aim
from tuning.configs import digits
from tuning.outcome import Entry, Outcome
from tuning.spaces import Choice, Range
from tuning.trials import Result, Trial

HOSTILE = "<script>alert('$x_1')</script>&\""
BETA = Range("objective.beta", 0.5, 20.0, "log")
SPACES = {
    "one range": ([BETA], [(1.0,), (4.0,), (20.0,)]),
    "all kinds": (
        [BETA, Range("ema", 0.0, 0.9), Range("attack.steps", 1, 9), Range("data.batch_size", 8, 64, "log")],
        [(0.5, 0.0, 1, 8), (6.0, 0.3, 5, 30), (20.0, 0.9, 9, 64)],
    ),
    "choices": (
        [
            Choice("model.name", ("digits", "$lenet_5$", HOSTILE)),
            Choice("mixed_precision", (True, False)),
            Choice("seed", (3,)),
        ],
        [("digits", True, 3), ("$lenet_5$", False, 3), (HOSTILE, False, 3)],
    ),
}
OUTCOMES = {
    "a winner": [(0.9, 0.4, ""), (0.8, 0.6, ""), (0.7, 0.5, "Ended early: robust accuracy near chance")],
    "one failed": [(0.9, 0.4, ""), (None, None, HOSTILE), (0.8, 0.6, "")],
    "all failed": [(None, None, "Training diverged at update 3")] * 3,
    "one trial": [(0.9, 0.4, "")],
    "all alike": [(1.0, 0.0, "")] * 3,
}


class Parsed(html.parser.HTMLParser):
    """Tags, attributes, the rows of tables and the text; all that is opened is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.rows, self.text = [], [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [tag] if tag not in self.VOID else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def pictures(self):
        return [value for name, value in self.attributes if name == "src"]


def page_of(space, values, results, *aim, winner=None, report=None, path="runs/search"):
    fields = [dimension.field for dimension in space]
    entries = [
        Entry(
            number,
            Trial(dict(zip(fields, value, strict=True)), 3),
            Result(clean, robust, 3, 2.0, 0.0, message),
            report=report if number == winner else None,
            winner=number == winner,
        )
        for number, (value, (clean, robust, message)) in enumerate(zip(values, results, strict=False), 1)
    ]
    context = _page.context(digits.get_config().to_dict(), space, Outcome(path, Aim(*aim), tuple(entries)))
    return _pages.render("search.html", **context)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("results", OUTCOMES)
def test_the_page_is_whole_and_self_contained(space, results):
    dimensions, values = SPACES[space]
    results = OUTCOMES[results]
    winner = 1 if results[0][0] is not None else None
    page = page_of(dimensions, values, results, winner=winner)
    parsed = Parsed(page)
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert parsed.pictures and all(source.startswith("data:image/svg+xml;base64,") for source in parsed.pictures)
    assert not [value for name, value in parsed.attributes if name == "href"]
    trials = [row for row in parsed.rows if row[0].isdigit()]
    assert [row[0] for row in trials] == [str(number) for number in range(1, len(results) + 1)]
    for _, _, message in results:
        assert message in parsed.text


def test_what_was_searched_stands_on_the_page():
    space, values = SPACES["all kinds"]
    parsed = Parsed(page_of(space, values, OUTCOMES["a winner"], 0.25, 0.75, winner=2))
    text = " ".join(parsed.text.split())
    assert "0.25 * clean + 0.75 * robust accuracy, of a clean accuracy of at least 75 %" in text
    assert ["objective.beta", "low 0.5, high 20, sampling log"] in parsed.rows
    assert "tunerrandom" in text.replace(" ", "") and "trades" in text


def test_the_table_tells_each_trials_values_and_remarks():
    space, values = SPACES["one range"]
    report = Report(0.8, 0.45, (), (), (), 0.1, "linf", (0.0, 1.0), 10, 2, 0, 10, {})
    parsed = Parsed(page_of(space, values, OUTCOMES["a winner"], 0.0, 0.75, winner=2, report=report))
    first, second, third = (row for row in parsed.rows if row[0].isdigit())
    nbsp = "\N{NO-BREAK SPACE}%"
    assert first[:5] == ["1", "1", "3", f"90.00{nbsp}", f"40.00{nbsp}"] and first[-1] == "On the Pareto front"
    assert second[5:7] == [f"80.00{nbsp}", f"45.00{nbsp}"] and second[-1] == "The best. On the Pareto front"
    assert third[-1] == "Below the least clean accuracy. Ended early: robust accuracy near chance"
    assert f"45.00{nbsp}" in parsed.text.split("Not figures to publish")[0], "the winner's figure is that of `standard`"


def test_the_winner_is_said_to_be_chosen_by_the_data_of_its_figures():
    space, values = SPACES["one range"]
    text = Parsed(page_of(space, values, OUTCOMES["a winner"], winner=2)).text
    assert "Not figures to publish" in text and "--workdir=runs/search/trials/" in text


def test_without_a_winner_the_page_says_why():
    space, values = SPACES["one range"]
    assert "No trial meets the constraint" in Parsed(page_of(space, values, OUTCOMES["a winner"], 0.0, 0.95)).text
    text = Parsed(page_of(space, values, OUTCOMES["all failed"])).text
    assert "All trials failed" in text and "no trial has accuracies" in text


def drawn(monkeypatch, draw, *arguments, **options):
    """The axes of a picture, as matplotlib has them."""
    kept = []

    def uri(figure):
        kept.append(figure.axes[0])
        return ""

    monkeypatch.setattr(charts, "uri", uri)
    draw(*arguments, **options)
    return kept[0]


def test_the_trade_off_has_every_trial_the_front_in_order_and_the_constraint(monkeypatch):
    points = [(0.9, 0.2), (0.7, 0.5), (0.6, 0.4), (0.7, 0.5)]
    axes = drawn(monkeypatch, charts.trade_off, points, ["1", "2", "3", "4"], front=[0, 1, 3], best=1, least=0.65)
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert sorted(lines["trial"]) == [[60.0, 40.0], [70.0, 50.0], [90.0, 20.0]]
    assert lines["Pareto front"] == [[70.0, 50.0], [90.0, 20.0]] and lines["best"] == [[70.0, 50.0]]
    assert {x for x, _ in lines["least clean accuracy"]} == {65.0}
    assert {text.get_text(): text.xy for text in axes.texts} == {
        "1": (90.0, 20.0),
        "2, 4": (70.0, 50.0),
        "3": (60.0, 40.0),
    }


def test_parallel_coordinates_place_values_as_their_ranges_are_sampled(monkeypatch):
    """The middle of a logarithmic range is the geometric mean, of a linear one the arithmetic one."""
    space = [Range("a", 1.0, 100.0, "log"), Range("b", 0.0, 8.0), Choice("c", (False, True))]
    values = [(10.0, 4.0, False), (100.0, 0.0, True)]
    entries = [
        Entry(n, Trial(dict(zip("abc", value, strict=True)), 3), Result(clean, robust, 3, 1.0, 0.0))
        for n, (value, clean, robust) in enumerate(zip(values, (0.6, None), (0.2, None), strict=True), 1)
    ]
    axes = drawn(monkeypatch, _page._parallel, space, entries, entries[0])
    first, second = (line.get_ydata().tolist() for line in axes.get_lines()[:2])
    assert first == pytest.approx([0.5, 0.5, 0.25, 1.0, 0.0])
    assert second[:3] == pytest.approx([1.0, 0.0, 0.75]) and all(map(math.isnan, second[3:]))
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["a", "b", "c"]
    ticks = [text.get_text() for text in axes.texts]
    assert ticks[:5] == ["1", "3.16", "10", "31.6", "100"] and {"False", "True"} < set(ticks)


def test_equal_outcomes_give_equal_pages_and_pictures_are_svg():
    space, values = SPACES["choices"]
    page = page_of(space, values, OUTCOMES["one failed"], winner=1)
    assert page == page_of(space, values, OUTCOMES["one failed"], winner=1)
    for encoded in re.findall(r"base64,([^\"]*)\"", page):
        assert b"<svg" in base64.b64decode(encoded)
