"""The claims of the papers: the rule that decides them, the places that they name, and the page."""

import json
import math
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from benchmarks import claims, papers
from benchmarks.claims import FAILS, HOLDS, OPEN, Claim, more, ordered, within
from trainers.configs import reproduction

ROOT = Path(__file__).parents[2]


def row(images=1000, **figures):
    return {"figures": {column: list(shares) for column, shares in figures.items()}, "images": images}


def test_an_interval_is_that_of_a_share_of_images_and_of_a_mean_of_seeds():
    one = claims.figure([0.8], 1000)
    assert one.mean == pytest.approx(80) and one.error == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 1000))
    three = claims.figure([0.7, 0.8, 0.9], 1000)
    assert three.mean == pytest.approx(80)
    assert three.error == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 1000 + 0.01 / 3))
    assert claims.figure([1.0], 10).error == 0


@pytest.mark.parametrize(
    ("greater", "margin", "verdict"),
    [
        (0.90, 0, HOLDS),
        (0.70, 0, FAILS),
        (0.82, 0, OPEN),  # 2 points, and each figure is sure to 2.5
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
    rows = {"a": row(left=[0.85], right=[0.95]), "b": row(left=[0.8], right=[0.8])}
    assert Claim("", (more("a", "b", ("left", "right")),)).decide(rows) == HOLDS
    assert claims.Place("a", ("left", "right")).within(rows) == pytest.approx(claims.figure([0.9], 1000))


def columns(config):
    """The columns that a row's config measures."""
    yield from ("clean", *config["evaluation"]["attacks"])
    tables = config["tables"]
    for column in ("clean", *tables.get("shifts", {}).get("attacks", ())):
        yield from (f"shifted {direction} {column}" for direction in ("left", "right", "up", "down"))
    for source in (transfer := tables.get("transfer", {})).get("sources", ()):
        yield from (f"{source} {attack}" for attack in transfer["attacks"])


def test_every_claim_is_of_measured_rows_and_columns():
    assert set(claims.CLAIMS) == set(papers.EXPERIMENTS) == set(reproduction.TABLES)
    for table, found in claims.CLAIMS.items():
        for part in (part for claim in found for part in claim.parts):
            for place in (part.greater, part.lesser):
                config = reproduction.get_config(f"{table}/{place.row}")
                assert set(place.columns) <= set(columns(config.to_dict())), place


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
