"""Makes the sections of a study; each function measures, draws, and collects numbers and omissions."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfrobust import attacks
from tfrobust.attacks.view_losses import margin
from tfrobust.classifiers import REMEDIES
from tfrobust.evaluation import Table
from tfrobust.evaluation.tables import ACCURACY
from tfrobust.interpret import plots
from tfrobust.interpret.batches import batches
from tfrobust.interpret.embedding import embed
from tfrobust.interpret.gradient_measures import coverage as measure_coverage
from tfrobust.interpret.gradient_measures import gradient_map_test
from tfrobust.interpret.gradients import clip_deviations, input_gradients, normalize, rescale, sign_picture
from tfrobust.interpret.hard_classes import agreement, mean_probabilities, prototype_cosines, weight_norms
from tfrobust.interpret.hard_classes import hard_classes as count_hard_classes
from tfrobust.interpret.maps import attention_maps, class_activation_maps
from tfrobust.interpret.perturbations import attack_strength, dra_success, perturbation_distances
from tfrobust.interpret.relevance import attention_against_robustness
from tfrobust.utils import html
from tfrobust.utils.errors import invalid_value

STEPS = 20  # steps of PGD in sections with one attack
SIDE_BY_SIDE = 10  # steps of attacks that are compared
# Raw |G|, in loss per unit of the pixels, above which its sign is painted: gradients of networks differ by decades, and
# the values of AELF's figure 4 are not printed.
SIGNS = (1e-3, 1e-2, 1e-1, 1.0)
EMBEDDED = 300  # number of images in a map of features
# What predicts the hard classes: the key of its numbers -> its text.
PREDICTORS = {"probabilities": "mean probability of the class", "cosines": "cosine of the two prototypes"}
OF_DRA = 4  # quotient of eps and the eps of DRA, which is a mean absolute change


class Drawn(NamedTuple):
    """A figure of matplotlib, its caption, and whether it is too wide for a narrow screen."""

    figure: Any
    caption: str
    wide: bool = False


class Section(NamedTuple):
    """A part of the page: text, figures, tables of (head, rows), numbers for JSON, and sentences on omissions."""

    title: str
    text: str
    figures: Sequence[Drawn] = ()
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]] = ()
    numbers: Mapping[str, Any] = {}
    missing: Sequence[str] = ()


@dataclasses.dataclass(eq=False)
class Subject:
    """The classifiers, data and attacks of a study; see `study` for the arguments."""

    classifiers: dict[str, Any]
    splits: dict[str, Any]
    eps: float
    norm: str
    judge: Any
    names: Sequence[str] | None
    shown: int
    seed: int
    signs: Sequence[float] = SIGNS

    def __post_init__(self) -> None:
        self.data = self.splits["test"]
        ball: dict[str, Any] = {"eps": self.eps, "norm": self.norm}
        self.attack = attacks.pgd(steps=STEPS, **ball)
        self.compared = {
            "PGD": attacks.pgd(steps=SIDE_BY_SIDE, **ball),
            "CW": attacks.pgd(steps=SIDE_BY_SIDE, loss=margin, **ball),
            "MIM": attacks.mim(steps=SIDE_BY_SIDE, **ball),
        }
        self.on_maps = attacks.infofeature(steps=SIDE_BY_SIDE, **ball)
        first = next(batches(self.classifiers.values(), self.data, "study", (), self.shown))
        self.x, self.y = (np.asarray(part[: self.shown]) for part in first[:2])
        classes = next(iter(self.classifiers.values())).output["logits"].shape[-1]
        if self.names is not None and len(self.names) != classes:
            raise invalid_value("class_names", f"{classes} names", len(self.names))
        self.captions = [self.called(label) for label in self.y]

    def called(self, label: int) -> str:
        """Returns the name of a class, or its number where there are no names."""
        return str(label if self.names is None else self.names[label])

    @functools.cached_property
    def images(self) -> dict[str, int]:
        """Number of images of each split."""
        readers = self.classifiers.values()
        return {
            split: sum(len(batch.y) for batch in batches(readers, data, "study")) for split, data in self.splits.items()
        }

    def giving(self, *outputs: str) -> tuple[dict[str, Any], list[str]]:
        """Returns the classifiers that have all outputs, and a sentence on those that lack one."""
        having: dict[str, Any] = {}
        lacking: dict[str, list[str]] = {}
        for name, classifier in self.classifiers.items():
            if first := next((output for output in outputs if output not in classifier.output), None):
                lacking.setdefault(first, []).append(name)
            else:
                having[name] = classifier
        return having, [
            f"Left out for {', '.join(names)}, without the output {output!r}. {REMEDIES[output]}"
            for output, names in lacking.items()
        ]

    def grids(
        self, classifiers: Mapping[str, Any], maps: Callable[[Any], dict[str, Any]], title: str, caption: str
    ) -> list[Drawn]:
        """Returns a figure for each classifier: the first images above their maps."""
        figures = []
        for name, classifier in classifiers.items():
            figure = plots.grid({"image": self.x, **maps(classifier)}, f"{title} of {name}", self.captions)
            figures.append(Drawn(figure, f"{name}{caption}", True))
        return figures

    def attacks_on(self, classifier: Any) -> dict[str, Any]:
        """Returns the attacks that are compared, with InfoFeature for a classifier with class activation maps."""
        return {**self.compared, **({"InfoFeature": self.on_maps} if "cam" in classifier.output else {})}


def attention(of: Subject) -> Section:
    having, missing = of.giving("attention")
    figures = of.grids(having, lambda classifier: attention_maps(classifier, of.x), "Attention", ", by block.")
    text = "Attention weights of each block, enlarged to the image; those of a block sum to 1 over its positions."
    return Section("Attention maps", text, figures, missing=missing)


def activation(of: Subject) -> Section:
    having, missing = of.giving("cam", "feature_map")

    def maps(classifier: Any) -> dict[str, Any]:
        return {form: class_activation_maps(classifier, of.x, of.y, form) for form in ("clipped", "signed")}

    figures = of.grids(having, maps, "Class activation", ": maps of the true class.")
    text = (
        "The contribution of each position to the true class. Clipped: only positive contributions. Signed: all "
        "contributions, whose mean over the positions is the logit without its bias."
    )
    return Section("Class activation maps", text, figures, missing=missing)


def gradients(of: Subject) -> Section:
    def maps(classifier: Any) -> dict[str, Any]:
        g = input_gradients(classifier, of.x, of.y)
        scaled = normalize(g)
        return {
            "raw": rescale(g),
            "clipped": clip_deviations(g),
            "G / max |G|": np.take_along_axis(scaled, np.abs(scaled).argmax(-1)[..., None], -1)[..., 0],
            **{f"sign, |G| > {least:g}": sign_picture(g, least) for least in of.signs},
        }

    text = (
        "Gradients of the cross entropy by the pixels. Raw: rescaled, the least value to 0 and the greatest to 1. "
        "Clipped: clipped to the mean +- 3 standard deviations, then rescaled. Signs: green is +, red is -, where the "
        "raw |G|, in loss per unit of the pixels, exceeds a threshold. The thresholds are the same for all classifiers."
    )
    return Section("Input gradients", text, of.grids(of.classifiers, maps, "Input gradients", "."))


def gradient_test(of: Subject) -> Section:
    title = "Gradient-map test"
    text = (
        "How often a judge, a classifier trained on clean images alone, predicts the label for the gradient map of "
        "another classifier. The papers read a high accuracy as good alignment of gradients and images. A gradient "
        "points away from the label: for strokes on a dark ground the map is a negative of the image."
    )
    if of.judge is None:
        missing = ["Left out: it needs a judge, a classifier of the same data trained by the objective `standard`."]
        return Section(title, text, missing=missing)
    tables = {split: gradient_map_test(of.judge, of.classifiers, data) for split, data in of.splits.items()}
    own = ", ".join(f"{table.settings['judge_accuracy']:.1%} of {split}" for split, table in tables.items())
    caption = f"With 95 % intervals. Accuracy of the judge on the images themselves: {own}."
    figures = [Drawn(plots.gradient_map_test(tables), caption)]
    return Section(title, text, figures, [_stacked(tables)], {k: _numbers(t) for k, t in tables.items()})


def relevance(of: Subject) -> Section:
    having, missing = of.giving("attention", "local_features")
    figures, numbers, rows = [], {}, []
    for name, classifier in having.items():
        found = {
            split: attention_against_robustness(classifier, data, of.attack, seed=of.seed)
            for split, data in of.splits.items()
        }
        numbers[name] = {split: {block: r._asdict() for block, r in part.items()} for split, part in found.items()}
        for block in next(iter(found.values())):
            own = {split: part[block] for split, part in found.items()}
            figures.append(Drawn(plots.relevance(own, f"{name}, {block}"), f"{name}, {block}, under PGD-{STEPS}."))
            rows += [
                [name, block, split, f"{r.correlation:.3f}", f"{r.low:.3f} to {r.high:.3f}", str(r.images)]
                for split, r in own.items()
            ]
    text = (
        "Mean attention weights of the positions, ranked by how far an attack moves their local features. The rank "
        "correlation of distance and weight is the mean over the images, with a bootstrap interval; if it is negative, "
        "robust positions have more attention."
    )
    head = ["classifier", "block", "split", "rank correlation", "95 % interval", "images"]
    tables = [(head, rows)] if rows else []
    return Section("Attention against robustness", text, figures, tables, numbers, missing)


def hard_classes(of: Subject) -> Section:
    figures, rows, missing, norms = [], [], [], {}
    numbers: dict[str, Any] = {}
    for name, classifier in of.classifiers.items():
        found = count_hard_classes(classifier, of.data, of.attack, seed=of.seed)
        caption = f"{name}: predictions for the images that PGD-{STEPS} fools."
        figures.append(Drawn(plots.hard_classes(found, of.names, name), caption))
        numbers[name] = {**found._asdict(), "pairs": found.pairs(), "agreement": {}}
        pairs = ", ".join(f"{of.called(i)} → {of.called(j)} ({share:.0%})" for i, j, share in found.pairs(3))
        test = "-" if found.p_value is None else f"{found.statistic:.1f} ({found.degrees}), p = {found.p_value:.2g}"
        predictors = {"probabilities": mean_probabilities(classifier, of.data)}
        try:
            norms[name], predictors["cosines"] = weight_norms(classifier), prototype_cosines(classifier)
            numbers[name]["weight_norms"] = norms[name]
        except ValueError as error:
            missing.append(f"Prototypes are left out for {name}. {error}")
        correlations = dict.fromkeys(PREDICTORS, "-")
        for key, predictor in predictors.items():
            agrees = agreement(found.shares, predictor, seed=of.seed)
            numbers[name][key] = predictor
            numbers[name]["agreement"][key] = agrees._asdict()
            if np.isfinite(agrees.correlation):
                correlations[key] = f"{agrees.correlation:.2f}, p = {agrees.p_value:.2g}"
                figure = plots.agreement(found.shares, predictor, name, PREDICTORS[key])
                figures.append(Drawn(figure, f"{name}: one point for each pair of classes."))
        least = f"{found.least_expected:.1f}"
        rows.append([name, str(found.fooled.sum()), test, least, *correlations.values(), pairs or "-"])
    if norms:
        figures.append(Drawn(plots.weight_norms(norms, of.names), "Norms of the head's weight vectors."))
    text = (
        f"Predictions for the images that were right and that PGD-{STEPS} fools. The chi-square test asks whether all "
        "wrong classes are equally likely (rough if fewer than 5 images are expected in a cell). The rank correlations "
        "ask whether a class is mistaken more often for one whose mean probability is greater on its clean images, "
        "which is the weight of that class in the gradient, and for one whose prototype is nearer."
    )
    test_columns = ["chi-square (degrees)", "least expected", *(f"correlation with {key}" for key in PREDICTORS)]
    head = ["classifier", "fooled", *test_columns, "hardest pairs"]
    return Section("Hard classes", text, figures, [(head, rows)], numbers, missing)


def embedding(of: Subject) -> Section:
    having, missing = of.giving("features")
    figures = []
    for name, classifier in having.items():
        found = embed(classifier, of.data, of.attack, images=EMBEDDED, seed=of.seed)
        caption = f"{name}: the first {len(found.labels) // 2} images; hollow marks are predicted wrong."
        figures.append(Drawn(plots.embedding(found, of.names, f"Features of {name} (t-SNE)"), caption, True))
    text = f"Features of clean images and of the same after PGD-{STEPS}, in one map of two dimensions by t-SNE."
    return Section("Features in two dimensions", text, figures, missing=missing)


def coverage(of: Subject) -> Section:
    table = measure_coverage(of.classifiers, of.data)
    text = "The share of an image's pixels whose gradient exceeds a fraction of the image's greatest (AELF)."
    figures = [Drawn(plots.coverage(table), "Mean over the images.")]
    return Section("Coverage", text, figures, [_stacked({"": table})], {"test": _numbers(table)})


def strength(of: Subject) -> Section:
    figures, numbers, by_steps = [], {}, {}
    for name, classifier in of.classifiers.items():
        compared = of.attacks_on(classifier)
        apart = perturbation_distances(classifier, of.data, compared, seed=of.seed)
        left = attack_strength(classifier, of.data, compared, seed=of.seed)
        title = f"Distances of adversaries on {name}"
        figures.append(Drawn(plots.perturbation_distances(apart, title), f"{name}, {SIDE_BY_SIDE} iterations each."))
        figures.append(Drawn(plots.attack_strength(left, f"Iterations on {name}"), f"{name}: accuracy under attack."))
        numbers[name] = {"distances": _numbers(apart), "strength": _numbers(left)}
        by_steps[name] = left
    dra = dra_success(of.classifiers, of.data, eps=of.eps / OF_DRA, seed=of.seed)
    figures.append(Drawn(plots.dra_success(dra), "Success among the images that were right."))
    numbers["dra"] = _numbers(dra)
    tables = [_stacked(by_steps, "accuracy by iterations"), _stacked({"": dra}, "success of DRA by p")]
    text = (
        f"Distances between the adversaries of attacks ({SIDE_BY_SIDE} iterations), accuracy by the number of "
        "iterations, and DRA's success by the share of values that it changes (mean absolute change of "
        f"{of.eps / OF_DRA:.4g})."
    )
    _, missing = of.giving("cam")
    missing = [sentence.replace("Left out", "InfoFeature's attack is left out") for sentence in missing]
    return Section("Attacks side by side", text, figures, tables, numbers, missing)


# The names are the keys of the sections in the numbers.
ALL: Mapping[str, Callable[[Subject], Section]] = {
    "attention_maps": attention,
    "class_activation_maps": activation,
    "gradients": gradients,
    "gradient_map_test": gradient_test,
    "relevance": relevance,
    "hard_classes": hard_classes,
    "embedding": embedding,
    "coverage": coverage,
    "attacks": strength,
}


def _numbers(table: Table) -> dict[str, Any]:
    rows = zip(table.rows, table.figures, strict=True)
    figures = {row: dict(zip(table.columns, cells, strict=True)) for row, cells in rows}
    return {"measure": table.measure, "images": table.images, "settings": table.settings, "figures": figures}


def _stacked(tables: Mapping[str, Table], label: str = "") -> tuple[list[str], list[list[str]]]:
    """Returns head and rows of tables with the same columns; the name of its table precedes that of a row."""
    first = next(iter(tables.values()))
    shown = html.percent if first.measure in (ACCURACY, "success rate", "share of pixels") else html.number
    rows = [
        [" · ".join(filter(None, (name, row))), *("-" if figure is None else shown(figure) for figure in figures)]
        for name, table in tables.items()
        for row, figures in zip(table.rows, table.figures, strict=True)
    ]
    return [label, *first.columns], rows
