"""The claims of the papers: the rule that decides them, the places that they name, and the page."""

import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from benchmarks import claims, papers, studies
from benchmarks.claims import FAILS, HOLDS, OPEN, Claim, more, ordered, within
from trainers.configs import reproduction

ROOT = Path(__file__).parents[2]


def row(error=0.01, **figures):
    return {column: [(value, error) for value in values] for column, values in figures.items()}


def test_an_interval_is_that_of_the_images_and_of_a_mean_of_seeds():
    assert claims.figure([0.8], [0.01]) == pytest.approx((80, 1))
    three = claims.figure([0.7, 0.8, 0.9], [0.01, 0.02, 0.03])
    assert three == pytest.approx((80, 100 * math.sqrt(0.02**2 + 0.01 / 3)))


def test_the_error_of_a_share():
    assert claims.share_error(0.5, 9996) == pytest.approx(0.005)
    for share in (0.0, 1.0):
        assert claims.share_error(share, 96) == pytest.approx(math.sqrt(0.02 * 0.98 / 100))


@pytest.mark.parametrize(
    ("greater", "margin", "verdict"),
    [
        (0.85, 0, HOLDS),
        (0.75, 0, FAILS),
        (0.82, 0, OPEN),  # 2 points, and the difference is sure to 2.8
        (0.90, 10, OPEN),
        (0.95, 10, HOLDS),
        (0.82, 10, FAILS),
        (0.80, -4, HOLDS),
    ],
)
def test_a_claim_is_decided_by_the_interval_of_a_difference(greater, margin, verdict):
    rows = {"a": row(pgd=[greater]), "b": row(pgd=[0.8])}
    assert Claim("", (more("a", "b", "pgd", margin),)).decide(rows) == verdict


def test_seeds_that_disagree_leave_a_claim_open():
    rows = {"a": row(pgd=[0.9, 0.9]), "b": row(pgd=[0.8, 0.8]), "unsure": row(pgd=[0.8, 1.0])}
    assert Claim("", (more("a", "b", "pgd"),)).decide(rows) == HOLDS
    assert Claim("", (more("unsure", "b", "pgd"),)).decide(rows) == OPEN


def test_all_parts_of_a_claim_have_to_hold():
    rows = {name: row(pgd=[share], clean=[0.9]) for name, share in (("a", 0.9), ("b", 0.7), ("c", 0.5), ("d", 0.51))}
    assert Claim("", ordered("pgd", "a", "b", "c")).decide(rows) == HOLDS
    assert Claim("", ordered("pgd", "a", "c", "b")).decide(rows) == FAILS
    assert Claim("", ordered("pgd", "a", "d", "c")).decide(rows) == OPEN
    assert Claim("", within(5, "a", "b", "clean")).decide(rows) == HOLDS
    assert Claim("", within(5, "a", "b", "pgd")).decide(rows) == FAILS


def test_a_mean_of_columns_is_no_surer_than_one_of_them():
    rows = {"a": row(left=[0.85], right=[0.95])}
    assert claims.Place("a", ("left", "right")).within(rows) == pytest.approx((90, 1))
    assert Claim("", (claims.More(claims.Place("a", ("left",)), claims.NOTHING, 80),)).decide(rows) == HOLDS


NUMBERS = {
    "attacks": {"dra": {"images": 96, "figures": {"net-0": {"0.5": 0.5}}}},
    "gradient_map_test": {"test": {"images": 96, "figures": {"net-0": {"clipped": 0.0}}}},
    "relevance": {"net-0": {"test": {"block4": {"correlation": -0.3, "low": -0.3196, "high": -0.2804}}}},
    "hard_classes": {
        "net-0": {
            "counts": [[50, 30, 66], [0, 9, 0], [1, 0, 0]],
            "agreement": {"cosines": {"correlation": 0.5, "p_value": 0.1}},
            "weight_norms": [1.0, 1.1, 1.05],
        }
    },
}


def test_the_figures_of_a_study_become_rows():
    rows = studies.rows_of(NUMBERS)
    assert rows["success of DRA on net-0"] == {"p = 0.5": pytest.approx((0.5, 0.05))}
    assert rows["gradient maps of net-0"] == {"test, clipped": pytest.approx((0.0, 0.014))}
    assert rows["distance and attention of net-0"] == {"test, block4": pytest.approx((-0.3, 0.01))}
    hard = rows["hard classes of net-0"]
    assert hard["0 for 1"] == pytest.approx((30 / 96, claims.share_error(30 / 96, 96)))
    assert hard["rank correlation with cosines"] == pytest.approx((0.5, math.sqrt(1 / 5)))
    assert hard["spread of the weight norms"] == pytest.approx((0.1, 0.0))
    assert "1 for 0" not in hard  # no image of this class was fooled


def columns(config):
    """The columns that a row's config measures."""
    yield from ("clean", *config["evaluation"]["attacks"])
    tables = config["tables"]
    for column in ("clean", *tables.get("shifts", {}).get("attacks", ())):
        yield from (f"shifted {direction} {column}" for direction in ("left", "right", "up", "down"))
    for source in (transfer := tables.get("transfer", {})).get("sources", ()):
        yield from (f"{source} {attack}{end}" for attack in transfer["attacks"] for end in ("", " (plain)"))


def test_every_claim_is_of_measured_rows_and_columns():
    assert set(claims.CLAIMS) == set(papers.EXPERIMENTS) == set(reproduction.TABLES)
    for table, found in claims.CLAIMS.items():
        further = papers.EXPERIMENTS[table].evaluations
        for part in (part for claim in found for part in claim.parts):
            for place in (part.greater, part.lesser):
                if place.row in reproduction.TABLES[table].rows:
                    config = reproduction.get_config(f"{table}/{place.row}")
                    evaluated = [column for column, rows, _ in further if place.row in rows]
                    assert set(place.columns) <= {*columns(config.to_dict()), *evaluated}, place
                elif place.columns:
                    studied = {row for study in papers.EXPERIMENTS[table].studies for row in study.rows}
                    assert place.row.rsplit(" ", 1)[1] in studied, place


def budget(config: ConfigDict):
    """The updates of a row's own phase, and its network but for the head."""
    model = {key: value for key, value in config.model.to_dict().items() if key not in ("head", "attention", "form")}
    return config.data.to_dict(), model


@pytest.mark.parametrize("table", reproduction.TABLES)
def test_all_rows_of_a_table_have_the_same_data_and_network(table):
    rows = [reproduction.get_config(f"{table}/{row}") for row in reproduction.TABLES[table].rows]
    assert all(budget(config) == budget(rows[0]) for config in rows)


def test_the_page_is_that_of_the_measured_figures():
    folder = ROOT / "results" / "papers"
    tables = {
        table: json.loads((folder / f"{table}.json").read_text())
        for table in papers.EXPERIMENTS
        if (folder / f"{table}.json").exists()
    }
    if not tables:
        pytest.skip("no table is measured yet")
    assert papers.page(tables) == (ROOT / "results" / "papers.md").read_text()
