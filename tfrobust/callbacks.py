"""Callbacks for `fit`."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrobust import _tensorflow as backend
from tfrobust import attacks, losses
from tfrobust._adversaries import validation_adversary
from tfrobust._batch import prepare
from tfrobust._distribution import is_chief, wait_for_all
from tfrobust._guard import Guard
from tfrobust._registry import unknown
from tfrobust.attacks import Adversary
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.trainer import AdversarialTrainer

Tensor = Any


class Checkpoints(keras.callbacks.Callback):
    """Keeps all of a run's state once an epoch, so that a killed run goes on as if it had never stopped.

    All state is every variable of the trainer (weights, BatchNorm's statistics, dropout's seeds) and of its optimizer.
    Random starts and `tfrobust.data` pipelines need none: they are functions of the step and of the epoch. Give it as
    the last callback, so that what the others wrote of an epoch is there when the epoch counts as done.

    Args:
        trainer: a compiled `AdversarialTrainer`, or any compiled Keras model.
        directory: folder of the checkpoints; written by `tf.train.CheckpointManager`, each beside and then renamed.
        max_to_keep: how many of the newest are kept; the newest serves, the others stand in for a damaged one.

    Raises:
        ValueError: for a model that is not compiled or has no weights yet; in `fit`, for an `initial_epoch` before the
            newest checkpoint and for checkpoints of another model or objective. Nothing is overwritten.

    Example:

    >>> import tempfile
    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile("adam")
    >>> checkpoints = tfrobust.callbacks.Checkpoints(trainer, tempfile.mkdtemp())
    >>> first = checkpoints.restore()  # 0: nothing there yet
    >>> data = tfrobust.data.load("digits", "validation", first_epoch=first)
    >>> history = trainer.fit(data, initial_epoch=first, epochs=2, callbacks=[checkpoints], verbose=0)
    >>> checkpoints.restore()
    2
    """

    def __init__(self, trainer: keras.Model, directory: str | Path, max_to_keep: int = 2) -> None:
        super().__init__()
        if not (trainer.compiled and trainer.built):
            missing = "compiled" if not trainer.compiled else "built: call it on an input first"
            raise ValueError(f"Expected a compiled model that has its weights. Received: one that is not {missing}")
        with trainer.distribute_strategy.scope():
            trainer.optimizer.build(trainer.trainable_variables)
        variables = [*trainer.variables, *trainer.optimizer.variables]
        self._state = {f"{i:05d}": variable.value for i, variable in enumerate(variables)}
        self._run = _Run(
            {
                **(_config(trainer) if isinstance(trainer, AdversarialTrainer) else {}),
                "optimizer": type(trainer.optimizer).__name__,
                # Without the numbers that Keras gives to layers: a second model of one process has others.
                "variables": [f"{v.name} {v.dtype}{list(v.shape)}" for v in trainer.variables],
                "optimizer_variables": [f"{v.dtype}{list(v.shape)}" for v in trainer.optimizer.variables],
            }
        )
        self._checkpoint = tf.train.Checkpoint(run=self._run, **self._state)
        self._strategy = trainer.distribute_strategy
        self._directory = Path(directory)
        self._max_to_keep = max_to_keep
        self._manager: Any = None

    def restore(self) -> int:
        """Restores the newest checkpoint that is whole, if there is one; warns of newer ones that are damaged.

        Returns:
            How many epochs are done: the `initial_epoch` of `fit` and the `first_epoch` of `tfrobust.data.load`.

        Raises:
            ValueError: for a checkpoint of another model, objective, attack or optimizer, and where all are damaged.
        """
        newest, damaged = self._newest()
        for number, reason in damaged.items():
            instead = f"epoch {newest} is taken" if newest else "none is left"
            warnings.warn(
                f"The checkpoint of epoch {number} in {self._directory} is damaged, {instead}: {reason}", stacklevel=2
            )
        if newest:
            self._checkpoint.restore(self._prefix(newest)).expect_partial()
        return newest

    def on_train_begin(self, logs: Any = None) -> None:
        self._manager = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._manager is not None:
            return
        newest, _ = self._newest()
        if newest > epoch:
            raise ValueError(
                f"Expected `fit` with initial_epoch={newest}, as `restore()` returns it, or another folder than "
                f"{self._directory}, which holds a checkpoint of epoch {newest}. Received: initial_epoch={epoch}"
            )
        if _listed(self._directory) is None and is_chief(self._strategy):  # the manager would read it
            (self._directory / "checkpoint").unlink(missing_ok=True)
        # All workers take part in a save, for some variables are one on each; what the others write is nobody's.
        self._own = None if is_chief(self._strategy) else tempfile.TemporaryDirectory()
        directory = self._own.name if self._own else str(self._directory)
        self._manager = tf.train.CheckpointManager(self._checkpoint, directory, self._max_to_keep)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._run.epochs_done = epoch + 1
        self._manager.save(checkpoint_number=epoch + 1)
        self._sweep()
        wait_for_all(self._strategy)

    def _prefix(self, number: int) -> str:
        return str(self._directory / f"ckpt-{number}")

    def _newest(self) -> tuple[int, dict[int, str]]:
        """Returns the number of the newest whole checkpoint, 0 for none, and what is wrong with newer ones."""
        # By the files, not by the manager's list alone: that may be damaged as well.
        listed = _listed(self._directory)
        names = {path.name.split(".")[0] for path in self._directory.glob("ckpt-*.*")} | (listed or set())
        numbers = (name.removeprefix("ckpt-") for name in names)
        damaged: dict[int, str] = {}
        for number in sorted((int(n) for n in numbers if n.isdecimal()), reverse=True):
            try:
                run = _read(self._prefix(number))
            except Exception as error:  # the reader raises a class for each way in which a file can be damaged
                damaged[number] = " ".join(str(error).split())[:200]
                continue
            self._run.check(run, self._prefix(number))
            return number, damaged
        if listed == set():  # nothing, or a first save that was cut short
            return 0, {}
        found = "; ".join(f"epoch {number} is damaged: {reason}" for number, reason in damaged.items())
        raise ValueError(
            f"Expected a whole checkpoint in {self._directory}; delete the folder to train from the start. "
            f"Received: {found or 'none of those that are listed there'}"
        )

    def _sweep(self) -> None:
        """Deletes what the manager does not know: of killed saves, and of a list that was damaged."""
        kept = {Path(prefix).name for prefix in self._manager.checkpoints}
        for path in Path(self._manager.directory).glob("ckpt-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.split(".")[0] not in kept:
                path.unlink(missing_ok=True)


class _Run(tf.train.experimental.PythonState):
    """What a checkpoint is of, and how many epochs are done: stored in it, beside the variables."""

    KEY = "run/.ATTRIBUTES/py_state"

    def __init__(self, described: Mapping[str, Any]) -> None:
        super().__init__()
        self.epochs_done = 0
        self._described = json.loads(json.dumps(described, default=lambda value: type(value).__name__))

    def serialize(self) -> str:
        return json.dumps({"epochs_done": self.epochs_done, "described": self._described})

    def deserialize(self, string_value: bytes) -> None:
        self.epochs_done = json.loads(string_value)["epochs_done"]

    def check(self, stored: bytes, path: str) -> None:
        """Raises ValueError for a checkpoint of another run; it says what differs."""
        theirs = json.loads(stored)["described"]
        if theirs == self._described:
            return
        ours = self._described
        key = next(key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key))
        there, here = theirs.get(key), ours.get(key)
        if isinstance(there, list) and isinstance(here, list):
            differ = [(a, b) for a, b in zip(there, here, strict=False) if a != b]
            there, here = differ[0] if differ else (len(there), len(here))
        raise ValueError(
            f"Expected a checkpoint of this model, objective and optimizer, or another folder. Received: {path}, with "
            f"other {key}: {there!r} there, {here!r} here"
        )


def _config(trainer: AdversarialTrainer) -> dict[str, Any]:
    try:
        return trainer.get_config()
    except ValueError:  # of an objective or attack that was put together by hand
        return {"terms": list(trainer.objective.outer)}


def _read(prefix: str) -> bytes:
    """Reads all of a checkpoint, whose sums TensorFlow checks, and returns what it says of its run."""
    reader = tf.train.load_checkpoint(prefix)
    for key in reader.get_variable_to_shape_map():
        reader.get_tensor(key)
    return reader.get_tensor(_Run.KEY)


def _listed(directory: Path) -> set[str] | None:
    """Returns the names in the list that a manager keeps, none where there is no list, None for a damaged list."""
    try:
        state = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        return None
    if state is None:
        return None if (directory / "checkpoint").exists() else set()
    return {Path(path).name for path in state.all_model_checkpoint_paths}


class Divergence(keras.callbacks.Callback):
    """Ends `fit` at the update whose loss is not finite or explodes, and saves its batch.

    Every term of the loss, the regularizers' penalty and the norm of the gradient are looked at before the update
    touches a weight: those of the update before are kept. With XLA (`jit_compile=True`) and for a plain Keras model
    only the logged loss is seen, every hundred steps and at the end of an epoch, and no batch is saved.

    Args:
        directory: folder for the batch, `diverged-UPDATE.npz` with `x` `(B, H, W, C)`, `y` `(B,)` and, where there is
            an attack, `x_adv`.
        limit: the greatest size of a term that is not taken for an explosion.

    Raises:
        FloatingPointError: in `fit`; it names the update, the term, its value and the file.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile(keras.optimizers.SGD(1e9))
    >>> import tempfile
    >>> watch = tfrobust.callbacks.Divergence(tempfile.mkdtemp())
    >>> trainer.fit(tfrobust.data.load("digits", "validation"), callbacks=[watch], verbose=0)
    Traceback (most recent call last):
    FloatingPointError: Diverged at update 2: expected all terms finite and at most 1e+06. Received: ...
    """

    EVERY = 100  # steps; a look at the logs waits for the device

    def __init__(self, directory: str | Path, limit: float = 1e6) -> None:
        super().__init__()
        if not limit > 0:
            raise ValueError(f"Invalid value for `limit`: expected a positive number. Received: {limit!r}")
        self._guard = Guard(str(directory), float(limit))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if isinstance(model, AdversarialTrainer) and not model.jit_compile and model.guard != self._guard:
            model.guard = self._guard
            model.train_function = None  # traced without it

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if getattr(self.model, "guard", None) is None and batch % self.EVERY == self.EVERY - 1:
            self._look(f"by step {batch + 1} of the epoch", logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._look(f"by the end of epoch {epoch + 1}", logs)

    def _look(self, when: str, logs: Any) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not abs(loss) <= self._guard.limit:
            raise FloatingPointError(
                f"Diverged {when}: expected a finite loss of at most {self._guard.limit:g}. Received: loss={loss:g}; "
                "the update was made and its batch is not saved"
            )


class _Action(NamedTuple):
    """What is done about a training that has collapsed, and the sentence that says so."""

    sentence: str
    stops: bool
    restores: bool


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Finds a training that has learned to fool its attack: robust against one step, FGSM, and not against PGD.

    Single-step training collapses within an epoch: accuracy under PGD falls to near zero while that under FGSM rises.
    Once an epoch both are measured on the same images, in the ball of the trainer's attack; a gap between them is the
    sign. They are logged as `fgsm_accuracy` and `pgd_accuracy`.

    Wong et al. 2020 (Fast is Better than Free), section 5.4; Andriushchenko and Flammarion 2020 (Understanding and
    Improving Fast Adversarial Training), section 2.

    Args:
        data: images that are not trained on, as `fit` takes them: a dataset of batches, or `(x, y)`.
        action: "warn"; "stop" the training; or "restore" the weights of the last epoch before it, and stop.
        gap: the greatest accuracy under FGSM less that under PGD that is still sound. Adversarial training that works
            stays under 0.1.
        batches: of `data`, how many are read.

    Raises:
        ValueError: for an unknown action; in `fit`, for a trainer without an attack.

    Example:

    >>> held_out = tfrobust.data.load("digits", "validation")
    >>> tfrobust.callbacks.CatastrophicOverfitting(held_out, action="restore").action
    'restore'
    """

    ACTIONS: Mapping[str, _Action] = {
        "warn": _Action("", stops=False, restores=False),
        "stop": _Action(" The training stops.", stops=True, restores=False),
        "restore": _Action(" Its weights of the epoch before are put back.", stops=True, restores=True),
    }

    def __init__(self, data: Any, action: str = "warn", gap: float = 0.3, batches: int = 4) -> None:
        super().__init__()
        if action not in self.ACTIONS:
            raise unknown("value for `action`", action, self.ACTIONS)
        self.action = action
        self.gap = gap
        dataset = data if isinstance(data, tf.data.Dataset) else tf.data.Dataset.from_tensor_slices(data).batch(256)
        self._batches = list(dataset.take(batches))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if not isinstance(model, AdversarialTrainer) or model.attack is None:
            raise ValueError(f"Expected an AdversarialTrainer with an attack. Received: {model!r}")
        ball = model.attack.ball
        fgsm = attacks.Attack(ball, ball.steepest(attacks.OfEps(1.0)), 1, start="none")
        pgd = validation_adversary(model.attack, None, model.objective)
        assert pgd is not None
        self._accuracies = {
            "fgsm_accuracy": self._accuracy(fgsm.maximizing(adversarial_cross_entropy)),
            "pgd_accuracy": self._accuracy(pgd),
        }

    def on_train_begin(self, logs: Any = None) -> None:
        self._sound = self.model.classifier.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        fgsm, pgd = (measure(epoch + 1.0) for measure in self._accuracies.values())
        if logs is not None:
            logs.update(zip(self._accuracies, (fgsm, pgd), strict=True))
        if fgsm - pgd <= self.gap:
            self._sound = self.model.classifier.get_weights()
            return
        action = self.ACTIONS[self.action]
        warnings.warn(
            f"Catastrophic overfitting in epoch {epoch + 1}: the classifier is right on {fgsm:.2f} under FGSM and on "
            f"{pgd:.2f} under PGD.{action.sentence} Expected a gap of at most {self.gap:g}; train with smaller "
            "steps, more of them, or a smaller eps.",
            stacklevel=2,
        )
        if action.stops:
            self.model.stop_training = True
        if action.restores:
            self.model.classifier.set_weights(self._sound)

    def _accuracy(self, adversary: Adversary) -> Any:
        trainer = self.model

        @backend.compiled
        def right(x: Tensor, y: Tensor, epoch: Tensor) -> Tensor:
            batch = prepare((x, y), trainer._contract)
            z, _ = adversary.at(epoch).observe(trainer._classify, batch.x, batch.y)
            return losses.correct(trainer._classify(z)["logits"], batch.y)

        def measure(epoch: float) -> float:
            found = [right(x, y, tf.constant(epoch)) for x, y in self._batches]
            return float(tf.reduce_mean(tf.concat(found, axis=0)))

        return measure


class AveragedWeights(keras.callbacks.CallbackList):
    """Shows the averaged weights of an optimizer with `use_ema=True` to validation and to the callbacks inside.

    average <- m * average + (1 - m) * w after each update, m the optimizer's `ema_momentum`. Training goes on with w;
    at the end of `fit` Keras leaves the averages in the model. BatchNorm's moving statistics are not averaged: they are
    those of w. Weights are exchanged by copies; those of `keras.callbacks.SwapEMAWeights` go by sums, which round, so
    that a run would depend on how often it was validated.

    Args:
        *callbacks: those whose end of an epoch has to see the averages, such as `ModelCheckpoint`. `Checkpoints` stays
            outside.

    Raises:
        ValueError: in `fit`, for an optimizer without averages.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.9))
    >>> data = tfrobust.data.load("digits", "validation")
    >>> averaged = tfrobust.callbacks.AveragedWeights()
    >>> history = trainer.fit(data, validation_data=data, callbacks=[averaged], verbose=0)
    >>> again = trainer.evaluate(data, verbose=0, return_dict=True)  # the averages are in the model now
    >>> abs(history.history["val_loss"][0] - again["loss"]) < 1e-6
    True
    """

    def __init__(self, *callbacks: keras.callbacks.Callback) -> None:
        super().__init__(list(callbacks))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._optimizer: Any = backend.unscaled(getattr(model, "optimizer", None))
        if model and not self._optimizer.use_ema:
            raise ValueError("Expected an optimizer with use_ema=True. Received: one without averages of the weights")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._exchange()
        super().on_epoch_end(epoch, logs)
        self._exchange()

    def on_test_begin(self, logs: Any = None) -> None:
        self._exchange()
        super().on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        super().on_test_end(logs)
        self._exchange()

    def _exchange(self) -> None:
        averages = self._optimizer._model_variables_moving_average
        for weight, average in zip(self._optimizer._trainable_variables, averages, strict=True):
            weight_now, average_now = weight.numpy(), average.numpy()
            weight.assign(average_now)
            average.assign(weight_now)
