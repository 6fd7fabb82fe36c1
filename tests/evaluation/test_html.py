"""The page of a report: all parts, nothing from elsewhere, text that stays text, and what is missing left out."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from tfrobust.evaluation import Adversaries, Report, Result
from tfrobust.evaluation import html as _page
from tfrobust.evaluation.html import page as page_of
from tfrobust.utils import charts
from tfrobust.utils import html as _pages

HOSTILE = "<script>alert('$x_1')</script>&\"日本"


def results(names=("pgd", "apgd_ce", "square")):
    pgd, apgd, square = names
    parts = (
        Result(apgd, {"steps": 100}, 0.65, 4.0, attacked=170, fooled=20),
        Result(square, {"queries": 5000}, 0.6, 100.0, "black box", 150, 10),
    )
    settings = {"name": "pgd", "eps": 0.1, "norm": "linf", "steps": 50, "restarts": 3, "start": None}
    whole = Result("autoattack", {"version": "standard"}, 0.6, 140.0, attacked=170, fooled=30, runs=2, parts=parts)
    return Result(pgd, settings, 0.7, 3.2, attacked=190, fooled=20, runs=3), whole


def adversaries(n=120, classes=10, shape=(8, 8, 1), bounds=(0.0, 1.0), fooled=True):
    rng = np.random.default_rng(0)
    low, high = bounds
    y = np.arange(n) % classes
    x = rng.uniform(low, high, (n, *shape)).astype("float32")
    z = np.clip(x + 0.1 * (high - low) * rng.choice([-1, 1], x.shape), low, high).astype("float32")
    clean = np.where(np.arange(n) % 20 == 0, (y + 1) % classes, y)
    predicted = np.where((np.arange(n) % 3 == 1) & fooled, (y + 2) % classes, clean)
    fooled_by = np.where(clean != y, -2, np.where(predicted != y, np.arange(n) % 3, -1))
    return Adversaries(x, z, y, clean, predicted, fooled_by)


def report(found=None, **changes):
    fields = {
        "attacks": results(),
        "alarms": (),
        "checks": ("nan", "random"),
        "eps": 0.1,
        "norm": "linf",
        "bounds": (0.0, 1.0),
        "images": len(found.y) if found else 120,
        "classes": 10,
        "seed": 3,
        "batch_size": 64,
        "versions": {"keras": "3.15", "tensorflow": "2.21"},
        "clean_accuracy": float((found.fooled_by != -2).mean()) if found else 0.95,
        "robust_accuracy": float(found.robust.mean()) if found else 0.6,
        "robust_accuracy_8bit": 0.65,
        "curves": {"eps": [[0.0, 0.95], [0.1, 0.6], [0.5, 0.0]], "steps": [[1, 0.8], [10, 0.65], [100, 0.6]]},
        "probe_images": 77,
        "seconds": 200.0,
        "notes": ("FAB was left out.",),
        "adversaries": found,
    }
    return Report(**{**fields, **changes})


class Parsed(html.parser.HTMLParser):
    """Tags that are open, those that were met, sources, and the text of each section."""

    VOID = ("meta", "img", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.sections, self.rows = [], [], [], {}, {}
        self.section = None
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
            self.sections[self.section] = ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.section = None

    def handle_data(self, data):
        if self.section:
            self.sections[self.section] += data
            if "td" in self.open or "th" in self.open:
                self.rows[self.section][-1][-1] += data.replace("\N{NO-BREAK SPACE}", " ").strip()


@pytest.fixture(scope="module")
def full():
    page = page_of(report(adversaries(), alarms=("The logits look like probabilities: give the logits.",)))
    return page, Parsed(page)


def test_all_parts_are_there_and_the_alarms_come_first(full):
    page, parsed = full
    names = ["alarms", "accuracy", "attacks", "notes", "curves", "worst", "classes", "confusion", "reproduce"]
    assert list(parsed.sections) == names
    assert "The logits look like probabilities: give the logits." in parsed.sections["alarms"]
    assert "nan, random" in parsed.sections["alarms"]
    assert "FAB was left out." in parsed.sections["notes"]
    assert "77 images" in parsed.sections["curves"]
    assert "keras 3.15" in parsed.sections["reproduce"] and "seed=3" in parsed.sections["reproduce"]
    assert "width=device-width" in page and page.startswith("<!DOCTYPE html>")


def test_the_page_loads_nothing(full):
    page, parsed = full
    sources = [value for name, value in parsed.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert sources and all(value.startswith("data:image/") for value in sources)
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert not {"script", "iframe", "link", "object", "embed"} & set(parsed.tags)
    assert "default-src 'none'; img-src data:" in page
    assert len(page) < 400_000


def test_accuracies_stand_with_exact_intervals(full):
    _, parsed = full
    text = parsed.sections["accuracy"].replace("\N{NO-BREAK SPACE}", " ")
    assert "Clopper" in text and "114 of 120 images" in text and "95.00 %" in text
    low, high = _pages.interval(0.95, 120)
    assert f"{100 * low:.2f} % to {100 * high:.2f} %" in text


def test_the_interval_is_that_of_clopper_and_pearson():
    # Of 0 right ones the upper bound has a closed form: (1 - p)^n = alpha / 2.
    assert _pages.interval(0.0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert _pages.interval(1.0, 20, 0.9) == pytest.approx((0.05 ** (1 / 20), 1.0))
    low, high = _pages.interval(0.3, 10)
    tails = [
        sum(_choose(10, k) * p**k * (1 - p) ** (10 - k) for k in ks)
        for p, ks in ((low, range(3, 11)), (high, range(4)))
    ]
    assert tails == pytest.approx([0.025, 0.025])


def _choose(n, k):
    return np.prod([(n - i) / (i + 1) for i in range(k)])


def test_the_table_of_attacks(full):
    page, parsed = full
    rows = parsed.rows["attacks"][1:]
    assert [row[0] for row in rows] == ["pgd", "autoattack", "apgd_ce", "square"]
    assert rows[0][1:7] == ["white box", "70.00 %", "190", "20", "3", "3.2 s"]
    assert rows[0][7] == "steps=50, restarts=3"  # what stands elsewhere and what is not set is left out
    assert rows[1][6] == "2 min" and rows[3][1] == "black box"
    assert re.findall(r'class="name part">(\w+)', page) == ["apgd_ce", "square"]


def test_columns_are_told_from_a_cascade():
    right = 114
    columns = tuple(Result(name, {}, 0.5, 1.0, attacked=right, fooled=10) for name in ("a", "b"))
    assert "by itself" in page_of(report(clean_accuracy=right / 120, attacks=columns))
    assert "it and all before it left" in page_of(report())


def test_classes_and_confusion_are_counted(full):
    _, parsed = full
    found = adversaries()
    for c, row in enumerate(parsed.rows["classes"][1:]):
        mine = found.fooled_by[found.y == c]
        shares = [f"{100 * share:.2f} %" for share in ((mine != -2).mean(), (mine == -1).mean())]
        assert row[:4] == [str(c), "12", *shares]
    pairs = [row for row in parsed.rows["confusion"][1:] if len(row) == 4]
    counts = found.confusion(10)
    np.fill_diagonal(counts, 0)
    assert [int(row[2]) for row in pairs] == sorted(counts.ravel()[counts.ravel() > 0], reverse=True)[:10]
    assert all(counts[int(true), int(taken)] == int(count) for true, taken, count, _ in pairs)
    table = [row for row in parsed.rows["confusion"] if len(row) == 11]
    assert len(table) == 11 and table[3][5] == f"{100 * counts[2, 4] / 12:.0f}"


def test_worst_images_show_the_adversary_and_its_change():
    found = adversaries(shape=(6, 5, 3), bounds=(-1.0, 1.0))
    shown = _page.context(report(found, bounds=(-1.0, 1.0)))["worst"]
    assert shown["fooled"] == (found.fooled_by >= 0).sum() and len(shown["images"]) == 12
    assert len({(it["true"], it["after"]) for it in shown["images"]}) == 10  # each pair before a second of any
    assert 0.45 <= shown["factor"] * 0.1 <= 0.5 + 1e-6
    it = shown["images"][0]
    number = it["number"]
    x, z = (found.x[number] + 1) / 2, (found.z[number] + 1) / 2
    expected = {"clean": x, "attacked": z, "change": 0.5 + shown["factor"] * (z - x)}
    for name, pixels in expected.items():
        np.testing.assert_allclose(pixels_of(it[name]), pixels, atol=1.01 / 255)
    assert it["size"] == pytest.approx(np.abs(z - x).max())
    assert (it["true"], it["after"]) == (str(found.y[number]), str(found.predicted[number]))
    assert it["by"] == report().flat[found.fooled_by[number]].name


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.2), ("l2", 0.4), ("l1", 0.1)])
def test_the_size_of_a_change(norm, size):
    change = np.zeros((2, 2, 2))
    change[0] = 0.2
    assert _page._size(-change, norm) == pytest.approx(size)


def pixels_of(uri):
    kind, text = uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) / 255


def test_images_of_any_kind_and_size():
    gray = np.linspace(0, 1, 12).reshape(3, 4, 1)
    np.testing.assert_allclose(pixels_of(charts.image(gray)), np.repeat(gray, 3, -1), atol=1 / 255)
    two = np.stack([np.zeros((2, 2)), np.ones((2, 2))], axis=-1)
    np.testing.assert_allclose(pixels_of(charts.image(two)), 0.5, atol=1 / 255)
    assert pixels_of(charts.image(np.zeros((600, 400, 3)))).shape == (200, 134, 3)
    assert pixels_of(charts.image(np.full((2, 2, 1), 7.0))).max() == 1.0


def test_hostile_text_stays_text():
    found = adversaries()
    hostile = report(
        found,
        attacks=results((HOSTILE, "a", HOSTILE)),
        alarms=(HOSTILE,),
        notes=(HOSTILE,),
        checks=(HOSTILE,),
        norm=HOSTILE,
        versions={HOSTILE: HOSTILE},
    )
    page = page_of(hostile, [f"{HOSTILE}{c}" for c in range(10)])
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert HOSTILE in parsed.sections["alarms"] and HOSTILE in parsed.sections["notes"]
    assert parsed.rows["attacks"][1][0] == HOSTILE
    assert parsed.rows["classes"][1][0] == HOSTILE[:31] + "…"


def test_names_of_classes():
    names = [f"kind {chr(97 + c)}" for c in range(10)]
    parsed = Parsed(page_of(report(adversaries()), names))
    assert [row[0] for row in parsed.rows["classes"][1:]] == names
    with pytest.raises(ValueError, match=r"`class_names`: expected 10 names\. Received: 2"):
        page_of(report(adversaries()), ["a", "b"])


def test_of_many_classes_the_hardest_are_shown():
    found = adversaries(n=3000, classes=1000)
    page = page_of(report(found, classes=1000))
    parsed = Parsed(page)
    assert "The 20 hardest of 1000 classes" in parsed.sections["classes"]
    assert "Limited to the 20 hardest classes" in parsed.sections["confusion"]
    shown = parsed.rows["classes"][1:]
    by_class = np.array([found.robust[found.y == c].mean() for c in range(1000)])
    assert len(shown) == 20
    assert [row[3] for row in shown] == [f"{100 * share:.2f} %" for share in np.sort(by_class)[:20]]
    table = [row for row in parsed.rows["confusion"] if len(row) == 22]
    assert len(table) == 21 and table[0][-1] == "others"
    assert len(page) < 400_000


def test_a_table_of_many_classes_is_counted_without_one_cell_for_each_pair():
    found = adversaries(n=200, classes=100_000)  # all pairs in 64 bits would be 80 GB
    confusion = _page.context(report(found, classes=100_000))["confusion"]
    assert confusion["pairs"][:2] == [
        {"true": "0", "taken": "1", "count": 1, "share": 1.0},
        {"true": "1", "taken": "3", "count": 1, "share": 1.0},
    ]
    assert confusion["columns"][-1] == "others" and len(confusion["rows"]) == 20
    assert all(sum(cell["count"] for cell in row["cells"]) == 1 for row in confusion["rows"])


def test_large_images_are_few_and_thinned_out():
    tall = _page.context(report(adversaries(n=60, shape=(520, 20, 1))))["worst"]
    assert tall["thinning"] == 3 and len(tall["images"]) == 12
    large = _page.context(report(adversaries(n=24, shape=(224, 224, 3))))["worst"]
    assert large["thinning"] == 1 and len(large["images"]) == 6
    assert sum(len(it[name]) for it in large["images"] for name in ("clean", "change", "attacked")) < 5_000_000


def test_what_is_missing_is_said(tmp_path):
    bare = report(attacks=(), curves={}, robust_accuracy_8bit=None, notes=(), checks=())
    parsed = Parsed(page_of(bare))
    assert not {"notes", "classes", "confusion"} & set(parsed.sections)
    assert "No alarm was raised" in parsed.sections["alarms"] and "none" in parsed.sections["alarms"]
    assert "Not measured." in parsed.sections["accuracy"]
    assert "No attack was run" in parsed.sections["attacks"]
    assert "against eps was not measured" in parsed.sections["curves"]
    assert "against steps was not measured" in parsed.sections["curves"]
    assert "no adversaries" in parsed.sections["worst"]


def test_a_report_whose_adversaries_were_lost(tmp_path):
    report(adversaries()).save(tmp_path / "r.json")
    (tmp_path / "r.npz").unlink()
    parsed = Parsed(page_of(Report.load(tmp_path / "r.json")))
    assert "no adversaries" in parsed.sections["worst"] and "classes" not in parsed.sections


def test_a_report_looks_the_same_when_loaded(tmp_path, full):
    saved = report(adversaries(), alarms=("The logits look like probabilities: give the logits.",))
    saved.save(tmp_path / "r.json")
    assert page_of(Report.load(tmp_path / "r.json")) == full[0]


def test_nobody_fooled():
    parsed = Parsed(page_of(report(adversaries(n=19, fooled=False))))
    assert "No image that was right was fooled" in parsed.sections["worst"]


def test_predictions_that_are_none():
    found = adversaries()
    found.predicted = np.where(found.fooled_by >= 0, -1, found.predicted)
    parsed = Parsed(page_of(report(found)))
    assert "none (NaN)" in parsed.sections["worst"]


def test_curves_are_equal_for_equal_figures_and_leave_no_state():
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw = lambda: charts.curve([[0, 0.8], [4, 0.5]], "title", "steps", label="a", logarithmic=True)  # noqa: E731
    first = draw()
    assert first == draw() and dict(matplotlib.rcParams) == before
    assert b"<svg" in base64.b64decode(first.split(",")[1])
    assert first != charts.curve([[0, 0.8], [4, 0.4]], "title", "steps", label="a", logarithmic=True)


def test_a_template_that_lacks_something_is_an_error():
    with pytest.raises(Exception, match="'report' is undefined"):
        _pages.render("report.html", summary="")
