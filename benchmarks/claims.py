"""Holds the claims of the five papers, as inequalities between measured figures, and the rule that decides them."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from commands import config
from trainers.configs.reproduction import ITERATIONS, WEIGHTS

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
DEVIATIONS = 1.96  # half the width of an interval of 95 %, in standard errors
# Row -> column -> for each seed a value, in fractions of 1, and its standard error by the choice of the images.
Rows = Mapping[str, Mapping[str, Sequence[Sequence[float]]]]


class Figure(NamedTuple):
    """A measured quantity in percent: the mean of its seeds, and the standard error of that mean."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {DEVIATIONS * self.error:.1f}"


def share_error(share: float, images: int) -> float:
    """Returns the standard error of a share of so many images, by Agresti and Coull: that of 0 and of 1 is not zero."""
    images += 4
    share = (share * (images - 4) + 2) / images
    return math.sqrt(share * (1 - share) / images)


def figure(values: Sequence[float], errors: Sequence[float]) -> Figure:
    """Returns the figure of a value of each seed, measured on the same images, and its standard errors by the images.

    Its variance is that by the images plus that of a mean over the seeds: another draw of the images moves all seeds
    alike, another seed moves them one by one. With one seed the second part is unknown and is left out.
    """
    seeds = statistics.variance(values) / len(values) if len(values) > 1 else 0.0
    return Figure(100 * statistics.mean(values), 100 * math.hypot(statistics.mean(errors), math.sqrt(seeds)))


class Place(NamedTuple):
    """A row and its columns, of whose figures the mean is meant; without columns it is zero."""

    row: str
    columns: tuple[str, ...]

    def within(self, rows: Rows) -> Figure:
        """Returns the figure that stands here in the measured rows.

        The columns are of the same images, so that their mean is no surer than each of them.
        """
        if not self.columns:
            return Figure(0.0, 0.0)
        by_seed = list(zip(*(rows[self.row][column] for column in self.columns), strict=True))
        values, errors = ([statistics.mean(cell[part] for cell in cells) for cells in by_seed] for part in (0, 1))
        return figure(values, errors)


NOTHING = Place("", ())


class More(NamedTuple):
    """The inequality greater - lesser > margin, in percentage points."""

    greater: Place
    lesser: Place
    margin: float = 0.0

    def decide(self, rows: Rows) -> str:
        """Returns whether the interval of the difference lies above the margin, below it, or covers it.

        The two figures count as independent. They are of the same images, so that the interval is rather too wide.
        """
        greater, lesser = self.greater.within(rows), self.lesser.within(rows)
        excess = greater.mean - lesser.mean - self.margin
        reach = DEVIATIONS * math.hypot(greater.error, lesser.error)
        if abs(excess) <= reach:
            return OPEN
        return HOLDS if excess > 0 else FAILS


class Claim(NamedTuple):
    """A claim of a paper, which holds if all of its inequalities do, and fails if one of them does."""

    sentence: str
    parts: tuple[More, ...]

    def decide(self, rows: Rows) -> str:
        """Returns HOLDS, FAILS or OPEN."""
        verdicts = {part.decide(rows) for part in self.parts}
        return next(verdict for verdict in (FAILS, OPEN, HOLDS) if verdict in verdicts)


def more(greater: str, lesser: str, column: str | Sequence[str], margin: float = 0.0) -> More:
    """Returns the inequality of two rows in a column, or in the mean of several."""
    columns = (column,) if isinstance(column, str) else tuple(column)
    return More(Place(greater, columns), Place(lesser, columns), margin)


def ordered(column: str | Sequence[str], *rows: str) -> tuple[More, ...]:
    """Returns the inequalities by which the rows fall in a column, from the first to the last."""
    return tuple(more(*pair, column) for pair in itertools.pairwise(rows))


def within(points: float, row: str, other: str, column: str) -> tuple[More, ...]:
    """Returns the inequalities by which two rows differ by less than so many points."""
    return more(row, other, column, -points), more(other, row, column, -points)


SHIFTED, SHIFTED_PGD = (
    tuple(f"shifted {direction} {column}" for direction in config.DIRECTIONS) for column in ("clean", "PGD-16")
)
CAT, DOG = 3, 5
DRA_ON_VANILLA = "success of DRA on vanilla"
SCALES = ("s_1", "s_3", "s_5", "s_8", "s_10")
PUBLISHED = "PGD-20 on cosines (as published)"
HALF_STEP = {column: f"{column} at half the step" for column in ("PGD-20", "CW-20")}

# Table of trainers/configs/reproduction.py -> its claims.
CLAIMS: dict[str, tuple[Claim, ...]] = {
    "thesis_t4_2": (
        Claim("DRA's clean accuracy is not below vanilla's by 0.1 points", (more("dra", "vanilla", "clean", -0.1),)),
        Claim(
            "under PGD at 0.3: DRA > TRADES 1 > TRADES 0.5 > TRADES 0.1 > vanilla",
            ordered("PGD 3/10", "dra", "trades_1", "trades_0.5", "trades_0.1", "vanilla"),
        ),
    ),
    "thesis_t4_3": (
        Claim(
            "figure 3.1: a plain network takes dogs for cats twice as often as by chance, and cats for dogs",
            tuple(
                More(Place("hard classes of vanilla", (pair,)), NOTHING, 200 / 9)
                for pair in (f"{CAT} for {DOG}", f"{DOG} for {CAT}")
            ),
        ),
        *(
            Claim(
                f"{where}: classes are mistaken the more often, the greater {what}",
                (More(Place("hard classes of vanilla", (f"rank correlation with {predictor}",)), NOTHING),),
            )
            for where, what, predictor in (
                ("lemma 1", "their mean probability is", "probabilities"),
                ("figure 3.2", "the cosine of their prototypes is", "cosines"),
            )
        ),
        Claim(
            "table 3.1: the weight norms of the classes differ by less than 10 %",
            (More(NOTHING, Place("hard classes of vanilla", ("spread of the weight norms",)), -10.0),),
        ),
        Claim(
            "figure 4.4: DRA's success rises from p = 1/12 to 1/6",
            (More(Place(DRA_ON_VANILLA, ("p = 0.1667",)), Place(DRA_ON_VANILLA, ("p = 0.08333",))),),
        ),
        Claim(
            "figure 4.4: DRA's success rises by less than 5 points from p = 1/3 to 1",
            (More(Place(DRA_ON_VANILLA, ("p = 0.3333",)), Place(DRA_ON_VANILLA, ("p = 1",)), -5.0),),
        ),
        *(
            Claim(
                f"DRA at {eps}/255 is as strong as PGD at {paper}/255: between PGD at {less} and {more}/255",
                (
                    More(Place("vanilla", (f"PGD {less}/255",)), Place("vanilla", (f"DRA {eps}/255",))),
                    More(Place("vanilla", (f"DRA {eps}/255",)), Place("vanilla", (f"PGD {more}/255",))),
                ),
            )
            for eps, paper, less, more in ((1, "2.55", 2, 3), (2, "4 to 5", 3, 6))
        ),
        Claim("DRA's clean accuracy is not below vanilla's by 0.1 points", (more("dra", "vanilla", "clean", -0.1),)),
        Claim("DRA raises PGD at 2/255 by 10 points or more", (more("dra", "vanilla", "PGD 2/255", 10.0),)),
        Claim("TRADES 0.05 loses clean accuracy", (more("vanilla", "trades_0.05", "clean"),)),
        Claim("TRADES 0.01 loses clean accuracy", (more("vanilla", "trades_0.01", "clean"),)),
    ),
    "thesis_t3_6": (
        Claim("a larger s lowers the clean accuracy", ordered("clean", *SCALES)),
        *(
            Claim(f"a larger s raises the accuracy under {column}", ordered(column, *SCALES[::-1]))
            for column in (PUBLISHED, "PGD-20", "APGD-DLR")
        ),
    ),
    "thesis_t3_7": tuple(
        Claim(f"{sentence} under {column}", (more("spat", row, column),))
        for column in (PUBLISHED, "PGD-20", "APGD-DLR")
        for sentence, row in (
            ("SPAT is better than without the factors of the accuracy term", "plain_accuracy"),
            ("SPAT is better than without the factors of the robustness term", "plain_robustness"),
            ("SPAT is better than without both", "plain"),
        )
    ),
    "aelf_t2": (
        Claim("shifted, clean: ST > AELFs", (more("st", "aelfs", SHIFTED),)),
        Claim("shifted, clean: AELFs > JT", (more("aelfs", "jt", SHIFTED),)),
        Claim("shifted, clean: AELFs > AT", (more("aelfs", "at", SHIFTED),)),
        Claim("shifted, attacked: AELFs > JT", (more("aelfs", "jt", SHIFTED_PGD),)),
        Claim("shifted, attacked: AELFs > AT", (more("aelfs", "at", SHIFTED_PGD),)),
        Claim("shifted, attacked: AELFs > JT* > JT", ordered(SHIFTED_PGD, "aelfs", "jt_star", "jt")),
    ),
    "fpr_t1": (
        Claim("the regularizer keeps the clean accuracy to half a point", within(0.5, "at_reg", "madry", "clean")),
        Claim("the regularizer raises PGD-40 (paper: by 2.8)", (more("at_reg", "madry", "PGD-40"),)),
        Claim(
            "the regularizer raises PGD-40 as a black box (paper: by 0.9)",
            (more("at_reg", "madry", config.plain("black box PGD-40")),),
        ),
    ),
    "fpr_t2": (
        Claim("the regularizer raises PGD-20 (paper: by 4.5)", (more("at_reg", "madry", "PGD-20"),)),
        Claim("the regularizer costs clean accuracy (paper: 1.3)", (more("madry", "at_reg", "clean"),)),
        Claim("attention raises the clean accuracy (paper: by 2.0)", (more("at_att", "madry", "clean"),)),
        Claim("attention raises PGD-20 (paper: by 1.7)", (more("at_att", "madry", "PGD-20"),)),
        Claim("both together raise PGD-20 (paper: by 4.9)", (more("at_att_reg", "madry", "PGD-20"),)),
        Claim(
            "nonlinear attention is better than linear, without attacks in training (paper: by 1.5)",
            (more("natural_nonlinear", "natural_sum", "clean"),),
        ),
        Claim(
            "figure 2: attention is on positions that an attack moves less (rank correlation below 0)",
            tuple(
                More(NOTHING, Place(f"distance and attention of {row}", ("test, block4",)))
                for row in ("at_att", "at_att_reg")
            ),
        ),
        *(
            Claim(
                f"table 4: {form} gradient maps of the regularized network with attention are named more often than "
                "those of Madry's",
                (More(*(Place(f"gradient maps of {row}", (f"test, {form}",)) for row in ("at_att_reg", "madry"))),),
            )
            for form in ("clipped", "raw")
        ),
    ),
    "infofeature_t1": (
        Claim(
            "ALP is within 3 points of Madry in PGD-20",
            within(3.0, "alp_half_step", "madry_half_step", HALF_STEP["PGD-20"]),
        ),
        Claim(
            "FM is within 3 points of Madry in PGD-20",
            within(3.0, "fm_half_step", "madry_half_step", HALF_STEP["PGD-20"]),
        ),
        # "More than 8 %", says the text; its table has 7.2 for AdvInterp.
        *(
            Claim(f"{name} is 7 points or more above Madry in PGD-20", (more(row, "madry_half_step", column, 7.0),))
            for column in (HALF_STEP["PGD-20"],)
            for name, row in (
                ("Feature Scattering", "feature_scatter"),
                ("AdvInterp", "adv_interpolation"),
                ("InfoFeature", "infofeature_half_step"),
            )
        ),
        *(
            Claim(f"{name} is less than 4 points above Madry in CW-20", (more("madry_half_step", row, column, -4.0),))
            for column in (HALF_STEP["CW-20"],)
            for name, row in (("Feature Scattering", "feature_scatter"), ("AdvInterp", "adv_interpolation"))
        ),
        Claim(
            "InfoFeature is above Madry in CW-20 (paper: by 6.5)",
            (more("infofeature_half_step", "madry_half_step", HALF_STEP["CW-20"]),),
        ),
        *(
            Claim(
                f"figure 4: on {name}, InfoFeature with lambda {weight} beats PGD after 1, 3 and 7 iterations",
                tuple(
                    More(Place(row, (f"PGD after {steps}",)), Place(row, (f"InfoFeature {weight} after {steps}",)))
                    for steps in ITERATIONS
                ),
            )
            for name, row in (("a plain network", "standard"), ("Madry", "madry_half_step"))
            for weight in WEIGHTS
        ),
    ),
}
