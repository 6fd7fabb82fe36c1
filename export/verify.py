"""Checks an exported classifier against its Keras model: `tfrobust verify DIR`.

DIR is a model's folder, whose latest version is checked, or the folder of one version. The hashes of all files have to
match. On images of the test split the network has to give the logits of the classifier, and a short attack the same
robust accuracy: a SavedModel by each signature, in a session of a fresh process as TensorFlow Serving runs it, a file
of LiteRT or ONNX in its runtime. Exits with 3 if something differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from commands import cli
from export.logits import apart, compare, largest

# Tolerances by the precision of the kernels: of logits as a share of the largest |logit|, and of probabilities. They
# are not 0, because in a session, or in another batch, operations are fused in another way.
TOLERANCES = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 5e-3}
# The same for files, whose runtimes compute in other orders, and in integers.
FILES = {"float32": 1e-4, "float16": 1e-2, "dynamic": 0.1, "int8": 0.2}
POINT = 0.01  # difference of accuracies that rounding may make
STEPS = 10  # of the attack


class Check(NamedTuple):
    """A comparison, which holds if `found` is at most `allowed`."""

    name: str
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Tells whether the comparison holds; a NaN never does."""
        return bool(self.found <= self.allowed)

    def __str__(self) -> str:
        return f"{'ok' if self.holds else 'FAILED':7}{self.name:72} {self.found:.3g} (at most {self.allowed:.3g})"


def verify_export(
    version: Path, classifier: Any, x: np.ndarray, y: np.ndarray, *, eps: float, norm: str, precision: str
) -> list[Check]:
    """Returns checks of a version's outputs, signature by signature, and of its clean and robust accuracy.

    `x` are images `(N, H, W, C)` float32 in [0, 1], `y` labels `(N,)`; `eps` and `norm` are the ball of the attack,
    `precision` is that of the version's kernels.
    """
    import tensorflow as tf

    from export import session
    from tfrobust import losses

    loaded = tf.saved_model.load(str(version))  # a reference to the signatures alone would free the weights
    exported = loaded.signatures
    in_graph = tf.function(lambda pixels: classifier(pixels, training=False)["logits"])
    networks = (classifier, lambda pixels: exported["logits"](pixels=pixels))
    ours, theirs = (_attacked(network, x, y, eps, norm) for network in networks)
    whole = np.rint(x * 255).astype("uint8")
    images = {"clean": x, "adversarial": theirs.adversaries.z, "8-bit": whole.astype("float32") / 255}
    logits = {name: in_graph(pixels).numpy() for name, pixels in images.items()}
    requests = {
        "serving_default/clean": x,
        "serving_default/adversarial": images["adversarial"],
        "logits/clean": x,
        "uint8/8-bit": whole,
    }
    if "predict_bytes" in exported:
        requests["predict_bytes/8-bit"] = np.array([tf.io.encode_png(image).numpy() for image in whole])
    answers = session.ask(version, requests)
    same_batch = exported["logits"](pixels=tf.constant(x))["logits"].numpy()
    tolerance = TOLERANCES[precision]
    exact = precision == "float32"
    allowed = 1e-9 if exact else 2 * POINT
    served = (answers[f"serving_default/{name}/logits"] for name in ("clean", "adversarial"))
    clean, adversarial = (np.asarray(losses.correct(found, y)) > 0 for found in served)
    return [
        Check("logits of the same batch", _distance(same_batch, logits["clean"]), 0.0 if exact else tolerance),
        *(c for name in requests for c in _compared(name, answers, logits[name.partition("/")[2]], tolerance)),
        _accuracies("clean accuracy", ours.clean_accuracy, clean.mean(), allowed),
        _accuracies(f"robust accuracy, PGD-{STEPS}", ours.robust_accuracy, (clean & adversarial).mean(), allowed),
    ]


def verify_file(
    version: Path, classifier: Any, x: np.ndarray, y: np.ndarray, *, eps: float, norm: str, precision: str
) -> list[Check]:
    """Returns checks of the logits of a file of LiteRT or ONNX, and of its accuracies; see `verify_export`.

    The robust accuracies are those under adversaries of the classifier, since a file has no gradients.
    """
    from tfrobust import classifiers, losses

    ours = _attacked(classifier, x, y, eps, norm)
    images = {"clean": x, "adversarial": ours.adversaries.z}
    opened = classifiers.open(version)
    logits = {name: np.asarray(classifier(z, training=False)["logits"], "float32") for name, z in images.items()}
    found = {name: np.asarray(opened(pixels)["logits"]) for name, pixels in images.items()}
    right = {name: np.asarray(losses.correct(values, y)) > 0 for name, values in found.items()}
    tolerance = FILES[precision]
    robust = (right["clean"] & right["adversarial"]).mean()
    return [
        *(Check(f"logits/{name}", _distance(found[name], logits[name]), tolerance) for name in images),
        _accuracies("clean accuracy", ours.clean_accuracy, right["clean"].mean(), POINT),
        _accuracies(f"robust accuracy, PGD-{STEPS} on the classifier", ours.robust_accuracy, robust, POINT),
    ]


def _attacked(network: Any, x: np.ndarray, y: np.ndarray, eps: float, norm: str) -> Any:
    import tfrobust

    attack = tfrobust.attacks.pgd(eps=eps, steps=STEPS, norm=norm)
    return tfrobust.evaluate(network, (x, y), eps=eps, norm=norm, attacks=[attack], probes=0, verbose=False)


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference of logits as a share of the largest |logit|."""
    return apart(found, expected) / max(largest(expected), 1e-30)


def _compared(request: str, answers: Mapping[str, np.ndarray], logits: np.ndarray, tolerance: float) -> list[Check]:
    """Compares the answers to a request with the logits of the classifier."""
    outputs = ("logits", "probabilities", "label")
    served = {name: answers[f"{request}/{name}"] for name in outputs if f"{request}/{name}" in answers}
    checks = [Check(f"{request}: logits", _distance(served["logits"], logits), tolerance)]
    if "label" in served:
        found = compare(logits, served, 2 * tolerance)  # both logits of a tie may differ by the tolerance
        checks.append(Check(f"{request}: probabilities", found.probabilities, tolerance))
        checks.append(Check(f"{request}: other labels, ties apart", float(found.labels - found.ties), 0.0))
    return checks


def _accuracies(name: str, ours: float, theirs: float, allowed: float) -> Check:
    shown = f"{name} {100 * ours:.2f} % and {100 * theirs:.2f} %: difference"
    return Check(shown, abs(ours - float(theirs)), allowed)


VERIFIERS = {".pb": verify_export}  # by the ending of the network's file


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("model", None, "The classifier, FILE.keras; default: classifier.keras beside DIR, in a run.")
    flags.DEFINE_string("data", None, "Data set whose test split is compared; default: the card's.")
    flags.DEFINE_integer("images", 200, "Number of its first images.", lower_bound=1)
    cli.define_number("eps", None, "Radius of the attack, a fraction of the pixel range; default: the evaluation's.")
    flags.DEFINE_string("norm", None, "Norm of the attack's ball, linf or l2; default: the evaluation's, else linf.")


def _classifier(version: Path, model: str | None, weights: str) -> Any:
    """Returns the classifier that was exported as a version."""
    path = Path(model) if model else version.resolve().parent.parent / "classifier.keras"
    if not model and not path.is_file():
        raise cli.Misuse(f"Expected --model=FILE.keras, the classifier. Received: none, and there is no {path}")
    classifier = cli.load_classifier(path)
    from tfrobust.classifiers import digest

    if digest(classifier) != weights:
        raise cli.Mistake(f"{version} was made of another classifier than {path}: their weights differ")
    return classifier


def main(arguments: list[str]) -> int:
    """Verifies the version that the argument names, prints the comparisons and returns the exit code."""
    given = flags.FLAGS
    from export import card as _card
    from export import extra
    from tfrobust.classifiers import runtimes

    file = runtimes.find(Path(arguments[1]))
    version = file.parent

    files = extra.check_sums(version)
    print(f"{version}: {files} files as they were written")
    card = _card.read(version)
    evaluation = card["evaluation"] if isinstance(card["evaluation"], dict) else {}
    ball = {"eps": given.eps or evaluation.get("eps"), "norm": given.norm or evaluation.get("norm", "linf")}
    data = {"name": given.data} if given.data else card["data"]
    if ball["eps"] is None or data is None:
        raise cli.Misuse(
            f"Expected --data=NAME and --eps: the card names none. Received: --data={given.data}, --eps={given.eps}"
        )
    classifier = _classifier(version, given.model, card["classifier"]["weights"])
    import tfrobust
    from commands.build import arrays_of, first_images

    x, y = arrays_of(first_images(tfrobust.data.load(split="test", **data), given.images))
    verify = VERIFIERS.get(file.suffix, verify_file)
    checks = verify(version, classifier, x, y, precision=card["classifier"]["precision"], **ball)
    print(*checks, f"{len(x)} images, {ball['norm']}, eps={ball['eps']:.4g}", sep="\n")
    return 0 if all(check.holds for check in checks) else cli.GATE_FAILED


if __name__ == "__main__":
    cli.run(main, define_flags, "DIR")
