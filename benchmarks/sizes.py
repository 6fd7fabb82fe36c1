"""Time, memory and arithmetic of steps and searches by image size, classes and images: `python -m benchmarks.sizes`.

A training step (Madry, PGD-2), the suite `quick`, FAB-T and DeepFool of a ResNet-18 of 16 filters, each in a process of
its own: seconds over the floor (`benchmarks.floor`), the memory by which the process grows at most, and arithmetic a
second beside that of a large matrix product and a large convolution of the same run. In searches a bias of the last
layer keeps the label the likeliest class whatever the pixels, so that no search ends early.

Writes --out; a benchmark that was killed goes on with the rows that are missing. `--write=FILE.md` measures nothing and
puts the tables of --out into a document, between its two marks.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks import documents
from benchmarks.subprocesses import isolated
from commands import cli

BEGIN = "<!-- figures: python -m benchmarks.sizes -->"
FILTERS = 16  # of the first stage
EPS = 8 / 255
STEPS = {"PGD": 2, "FAB-T": 3, "DeepFool": 3}  # few, so that the benchmark ends
ALWAYS = 1e4  # logits by which the label is ahead of the other classes
NEAR = 1e-2  # so few that an adversary is near
DTYPES, CONVOLUTION = ("float32", "bfloat16"), "convolution"
BATCH = 4  # of an evaluation


class Case(NamedTuple):
    """Names what is measured, and the size of its images, the number of its classes and of its images."""

    kind: str
    pixels: int
    classes: int
    images: int


def _cases(kind: str, images: int) -> list[Case]:
    """Returns cases in which the size of images, the classes, and the images grow, each by itself."""
    fewer = (max(images // 4, 1), max(images // 16, 1))  # large images take too long otherwise
    larger = [Case(kind, pixels, 10, count) for pixels, count in zip((96, 224), fewer, strict=True)]
    more_classes = [Case(kind, 32, classes, images) for classes in (100, 1000)]
    return [Case(kind, 32, 10, images), *larger, *more_classes, Case(kind, 32, 10, 4 * images)]


CASES = {
    "Madry's step, PGD-{PGD}": _cases("step", 32),
    "`quick`": _cases("quick", BATCH),
    "FAB-T, {FAB-T} steps to each of 9 classes": [Case("FAB-T", 32, classes, 16) for classes in (10, 1000)],
    "DeepFool, {DeepFool} steps": [Case("DeepFool", 32, classes, 16) for classes in (10, 1000)],
}
KINDS = [cases[0].kind for cases in CASES.values()]


def define_flags() -> None:
    """Defines the flags of the command."""
    documents.define_flags("sizes")
    flags.DEFINE_list("kinds", KINDS, f"Which of {', '.join(KINDS)}.")
    flags.DEFINE_integer("repeats", 3, "Number of measurements of each function.", lower_bound=1)
    flags.DEFINE_string("workdir", "runs/benchmark_sizes", "Where rows are kept; remove it to measure them anew.")


def measured() -> dict[str, Any]:
    """Returns all figures of a run and their origin."""
    repeats, kinds = flags.FLAGS.repeats, flags.FLAGS.kinds
    if not set(kinds) <= set(KINDS):
        raise cli.Misuse(f"Invalid value for --kinds: expected some of {', '.join(KINDS)}. Received: {','.join(kinds)}")
    origin = documents.origin("benchmarks.sizes")
    settings = {"repeats": repeats, "filters": FILTERS, "steps": STEPS, "batch": BATCH}
    same = json.dumps([settings, origin["machine"], origin["versions"]]).encode()
    measures: dict[str, Callable[[], Any]] = {"peaks": functools.partial(isolated, peaks, repeats)}
    for case in (case for cases in CASES.values() for case in cases if case.kind in kinds):
        measures[_name(case)] = functools.partial(isolated, MEASURES.get(case.kind, search), repeats, *case)
    kept = Path(flags.FLAGS.workdir) / f"{hashlib.sha256(same).hexdigest()[:16]}.json"
    return {**origin, "settings": settings, "rows": documents.resumed(kept, measures)}


def _large_operations(dtype: str) -> dict[str, tuple[Callable[[], Any], int]]:
    """Returns a large matrix product and a large convolution as functions, each with its number of operations."""
    import tensorflow as tf

    def ones(*shape: int) -> Any:
        return tf.ones(shape, dtype)

    side, images, pixels, filters = 2048, 16, 64, 64
    matrix, maps, kernel = ones(side, side), ones(images, pixels, pixels, filters), ones(3, 3, filters, filters)
    product = tf.function(lambda: tf.matmul(matrix, matrix), autograph=False)
    convolved = tf.function(lambda: tf.nn.conv2d(maps, kernel, 1, "SAME"), autograph=False)
    return {
        "matrix product": (lambda: product().numpy(), 2 * side**3),
        CONVOLUTION: (lambda: convolved().numpy(), 2 * images * pixels**2 * 9 * filters**2),
    }


def peaks(repeats: int) -> dict[str, list[float]]:
    """Returns the operations a second of a large matrix product and a large convolution, by the type of numbers."""
    from benchmarks.floor import medians

    made = {(name, dtype): each for dtype in DTYPES for name, each in _large_operations(dtype).items()}
    seconds = medians({" ".join(key): function for key, (function, _) in made.items()}, repeats)
    names = dict.fromkeys(name for name, _ in made)
    return {name: [made[name, dtype][1] / seconds[f"{name} {dtype}"] for dtype in DTYPES] for name in names}


def step(repeats: int, *values: Any) -> dict[str, Any]:
    """Returns the figures of a training step."""
    import tfrobust
    from benchmarks.floor import Floor, medians, multiply_adds, step_function
    from tfrobust.training import cost

    case, (x, y) = Case(*values), _images(Case(*values))
    classifier, objective = _classifier(case), tfrobust.objectives.get("madry")
    attack = tfrobust.attacks.pgd(EPS, steps=STEPS["PGD"])
    take = step_function(classifier, objective, attack, (x, y))
    memory = documents.growth(lambda: [take() for _ in range(3)])
    beside, operations = _large_operations("float32")[CONVOLUTION]
    functions = {**Floor(_classifier(case), x, y).functions, "step": take, CONVOLUTION: beside}
    seconds = medians(functions, repeats)
    # A backward of the update is two passes: to the weights, and to what each layer reads.
    passes = sum(cost.of_search(attack, classifier)) + 3 * cost.of_update(objective, classifier)[0]
    floor = Floor.of(objective, attack, seconds, classifier)
    rate = operations / seconds[CONVOLUTION]
    return _row(case, seconds["step"], floor, memory, passes * 2 * multiply_adds(classifier), rate)


def quick(repeats: int, *values: Any) -> dict[str, Any]:
    """Returns the figures of `quick`: memory and seconds of an evaluation, and its searches of one batch."""
    import tfrobust
    from tfrobust.evaluation import suites

    case, (x, y) = Case(*values), _images(Case(*values))
    classifier = _ahead(case)
    options = {"eps": EPS, "attacks": "quick", "batch_size": BATCH, "probes": 0, "verbose": False}
    start = time.perf_counter()
    memory = documents.growth(lambda: tfrobust.evaluate(classifier, (x.numpy(), y.numpy()), **options))
    seconds = time.perf_counter() - start
    first = case._replace(images=min(case.images, BATCH))
    row = _searches(first, suites.get("quick", eps=EPS, norm="linf"), classifier, repeats)
    return {**row, **case._asdict(), "memory": memory, "evaluation": seconds}


def search(repeats: int, *values: Any) -> dict[str, Any]:
    """Returns the figures of FAB-T or DeepFool, which look for the nearest adversary."""
    import tfrobust

    case = Case(*values)
    steps = STEPS[case.kind]
    if case.kind == "DeepFool":
        return _searches(case, [tfrobust.attacks.deepfool(steps=steps)], _ahead(case), repeats)
    # FAB makes all steps of a search for the nearest adversary, also on images that it fools.
    return _searches(case, [tfrobust.attacks.fab(None, steps, targets=9)], _ahead(case, NEAR), repeats)


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"step": step, "quick": quick}  # the others are searches


def _searches(case: Case, attacks: Sequence[Any], classifier: Any, repeats: int) -> dict[str, Any]:
    """Returns the figures of attacks on one batch; tracing is not among them."""
    from benchmarks.floor import Floor, medians, multiply_adds

    x, y = _images(case)

    def search_all(labels: Any) -> None:
        for attack in attacks:
            attack(classifier, x, labels).numpy()

    search_all(y + 1)  # traces them; images that are wrong are not searched
    start = time.perf_counter()
    memory = documents.growth(lambda: search_all(y))
    seconds = time.perf_counter() - start
    beside, operations = _large_operations("float32")[CONVOLUTION]
    functions = {**Floor(classifier, x, y).functions, CONVOLUTION: beside}
    parts = medians({name: functions[name] for name in ("gradients_10", "forward", CONVOLUTION)}, repeats)
    gradient, forward = parts["gradients_10"] / 10, parts["forward"]
    costs = [(attack.runs(case.classes), *attack.cost(case.classes)) for attack in attacks]
    forwards, backwards = (sum(cost[0] * cost[place] for cost in costs) for place in (1, 2))
    # Where one forward serves many gradients, as in DeepFool, the floor is that of their backwards.
    floor = backwards * (gradient - forward) + forwards * forward
    rate = operations / parts[CONVOLUTION]
    return _row(case, seconds, floor, memory, (forwards + backwards) * 2 * multiply_adds(classifier), rate)


def _row(case: Case, seconds: float, floor: float, memory: float | None, flop: int, rate: float) -> dict[str, Any]:
    """Returns the figures of a case: seconds of the batch and its floor, FLOP of an image, FLOP/s of a convolution."""
    by_image = {"seconds": seconds / case.images, "floor": floor / case.images, "flop": flop}
    return {**case._asdict(), **by_image, "memory": memory, CONVOLUTION: rate}


def _images(case: Case) -> tuple[Any, Any]:
    """Returns pixels and labels, all of class 0."""
    import tensorflow as tf

    shape = (case.images, case.pixels, case.pixels, 3)
    return tf.random.stateless_uniform(shape, (0, 0)), tf.zeros(case.images, tf.int32)


def _classifier(case: Case) -> Any:
    import keras
    import tensorflow as tf

    import tfrobust

    tf.get_logger().setLevel("ERROR")  # it warns that a function is traced again
    keras.utils.set_random_seed(0)
    shape = (case.pixels, case.pixels, 3)
    return tfrobust.models.get("resnet18", input_shape=shape, classes=case.classes, filters=FILTERS)


def _ahead(case: Case, lead: float = ALWAYS) -> Any:
    """Returns a classifier whose logit of class 0 leads by so much on the first image, and by about that on others."""
    from tfrobust.classifiers import head_of

    classifier, (x, _) = _classifier(case), _images(case._replace(images=1))
    logits = classifier(x, training=False)["logits"].numpy()[0]
    head_of(classifier).dense.bias.assign([lead + max(logits) - logits[0]] + [0.0] * (case.classes - 1))
    return classifier


def _name(case: Case) -> str:
    return " ".join(map(str, case))


def tables(results: Mapping[str, Any]) -> str:
    """Returns the tables of all figures in Markdown."""
    rows, settings = results["rows"], results["settings"]
    by_type = [[name, *(f"{rate / 1e9:.0f}" for rate in rates)] for name, rates in rows["peaks"].items()]
    parts = [documents.table(("GFLOP/s of a large", *DTYPES), by_type)]
    for title, cases in CASES.items():
        if found := [rows[_name(case)] for case in cases if _name(case) in rows]:
            parts += [f"{title.format(**settings['steps'])}:", _table(found)]
    note = (
        f"`resnet18` of {settings['filters']} filters; `quick` in batches of {settings['batch']} images; medians of "
        f"{settings['repeats']}; "
    )
    return "\n\n".join([*parts, documents.signature(results, note)])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = ["pixels", "classes", "images", "ms an image", "over the floor", "memory, MB", "GFLOP an image"]
    heads += ["GFLOP/s", "of a convolution"]
    heads += ["whole evaluation, s"] if "evaluation" in rows[0] else []
    return documents.table(heads, (list(_cells(row)) for row in rows))


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    rate = row["flop"] / row["seconds"]
    yield from (f"{row['pixels']}x{row['pixels']}", f"{row['classes']}", f"{row['images']}")
    yield from (f"{1000 * row['seconds']:.1f}", f"{row['seconds'] / row['floor']:.2f}")
    yield "" if row["memory"] is None else f"{row['memory']:.0f}"
    yield from (f"{row['flop'] / 1e9:.2f}", f"{rate / 1e9:.0f}", f"{100 * rate / row[CONVOLUTION]:.0f} %")
    if "evaluation" in row:
        yield f"{row['evaluation']:.0f}"


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measured, tables), define_flags)
