"""Adversarial training as ordinary `compile` and `fit`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrobust import attacks, objectives
from tfrobust.attacks import GradientAttack
from tfrobust.classifiers import as_given, check_classifier
from tfrobust.data.batch import BatchSpec, enough_for
from tfrobust.data.containers import single_entry
from tfrobust.models import Augmentation
from tfrobust.objectives import Multiplier, Objective
from tfrobust.training import cost, precision
from tfrobust.training.adversaries import check_radii, training_adversary, validation_adversary
from tfrobust.training.copies import OwnState, from_an_older_version, reduced
from tfrobust.training.epochs import completed
from tfrobust.training.guard import Guard
from tfrobust.training.metrics import ACCURACIES, SidedMetrics
from tfrobust.training.step import TrainingStep
from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.files import replacing
from tfrobust.utils.types import Tensor


@keras.saving.register_keras_serializable(package="tfrobust")
class AdversarialTrainer(TrainingStep, keras.Model):
    """Trains a classifier by an objective against an attack: a Keras model whose `fit` is adversarial training.

    Each step searches x' = argmax over the ball of the objective's inner loss, with the classifier in inference mode,
    and then takes one gradient step on sum_t weight_t * mean(loss_t) plus the classifier's regularizers. The trainer
    holds the classifier; saving, exporting and predicting act on the classifier alone.

    Args:
        classifier: a functional Keras model with named outputs, of `tfrobust.models.get` or `tfrobust.expose`. Its
            pixels are `(B, H, W, C)` fractions of the range [0, 1].
        objective: name, config or `Objective`.
        attack: name, config or `GradientAttack` (a loss of its own takes the place of the inner loss). None only where
            nothing is attacked (`"standard"`); given there, validation measures `robust_accuracy` all the same.
        validation_attack: what `val_robust_accuracy` is measured by. None: 20 steps of PGD on cross entropy in the
            attack's ball at the end of its schedule, whatever the objective.
        search_in_training_mode: attack the training graph (BatchNorm by batch, dropout on). Its statistics and seeds
            are restored afterwards.
        search_dtype: "bfloat16" lets the classifier compute in 16 bits while a step searches, on the same weights in
            float32; "float32" leaves it as it is; "auto" is "float32" (docs/training.md says until when). Pixels, head,
            losses, update and validation stay in float32.
        seed: of random starts, which are functions of (seed, number of the batch, index in the global batch). Batches
            are counted over all calls of `fit`.

    Raises:
        ValueError: for a classifier without named outputs or without one that the objective reads, an objective that
            attacks without an attack, a targeted attack, and unknown names.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(
    ...     tfrobust.models.get("digits"), objective="trades", attack=tfrobust.attacks.pgd(eps=0.15, steps=2)
    ... )
    >>> trainer.compile(optimizer="adam")
    >>> history = trainer.fit(tfrobust.data.load("digits", "validation"), verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'clean_cross_entropy', 'kl_divergence', 'loss', 'robust_accuracy']
    """

    def __init__(
        self,
        classifier: keras.Model,
        objective: str | Mapping[str, Any] | Objective = "madry",
        attack: str | Mapping[str, Any] | GradientAttack | None = None,
        *,
        validation_attack: str | Mapping[str, Any] | GradientAttack | None = None,
        search_in_training_mode: bool = False,
        search_dtype: str = "auto",
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        backend.require("AdversarialTrainer")
        # The trainer's own dtype stays float32 under a mixed policy, or pixels would be rounded on their way in.
        super().__init__(name=name, dtype="float32")
        self.objective: Objective = objectives.get(objective)
        check_classifier(classifier, needs=self.objective.needs, reader=f"objective {self.objective.name!r}")
        self.classifier = classifier
        for advise in self.objective.advice:
            if advice := advise(classifier):
                warnings.warn(advice, stacklevel=2)
        self.attack = None if attack is None else attacks.get(attack)
        if self.objective.inner is not None and self.attack is None:
            raise InvalidArgument(
                f"The objective {self.objective.name!r} attacks: expected an `attack`, such as "
                "tfrobust.attacks.pgd(eps=8/255, step_size=2/255, steps=10). Received: attack=None"
            )
        self._adversary = training_adversary(self.attack, self.objective)
        self.validation_attack = None if validation_attack is None else attacks.get(validation_attack)
        self._validation_adversary = validation_adversary(self.attack, self.validation_attack, self.objective)
        validated = self._validation_adversary
        self._batch_spec = BatchSpec.of(classifier, (0.0, 1.0) if validated is None else validated.ball.bounds)
        # A step that calls the classifier once augments within that call.
        several = self._adversary is not None or self.objective.weight_perturbation != 0
        self._augmentation = Augmentation(classifier, self._batch_spec.bounds) if several else None
        if self._augmentation is not None and (advice := self._augmentation.advice):
            warnings.warn(advice, stacklevel=2)
        self.search_in_training_mode = search_in_training_mode
        self.search_dtype = precision.chosen(search_dtype, classifier)
        self.seed = seed
        self._averages = {name: keras.metrics.Mean(name=name) for name in ("loss", *self.objective.outer, *ACCURACIES)}
        for name, average in self._averages.items():
            keras_private.set_direction(average, "up" if name in ACCURACIES else "down")  # for Keras' callbacks
        keras_private.set_compile_metrics(self, SidedMetrics(self._averages))
        counter = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._epoch = tf.Variable(0.0, name="epoch", **counter)
        self._epochs_per_step = tf.Variable(0.0, name="epochs_per_step", **counter)
        # Validation attacks with the eps of this epoch, the last of `fit`; before any `fit` it is after all schedules.
        self._last_epoch = tf.Variable(1e9, name="last_epoch", **counter)
        # The number of the next batch, on which random starts depend. An optimizer counts updates: one for several
        # batches where it accumulates gradients, none where a loss scale skips it.
        self._batches = tf.Variable(0, dtype=tf.int64, name="batches", **counter)
        # Learned weights are variables of the trainer, so that checkpoints contain them.
        self._multipliers = {
            key: keras.Variable(term.weight.initial, dtype="float32", trainable=False, aggregation="only_first_replica")
            for key, term in self.objective.outer.items()
            if isinstance(term.weight, Multiplier)
        }
        self.guard: Guard | None = None  # of `callbacks.TerminateOnDivergence`; checks every update
        self._compiled_trainable: frozenset[int] = frozenset()
        self.built = True

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        *,
        metrics: Any = None,
        weighted_metrics: Any = None,
        jit_compile: bool | str = "auto",
        **options: Any,
    ) -> None:
        """Configures training, as `keras.Model.compile`.

        Args:
            optimizer: as in Keras.
            loss: refused: the objective is the loss.
            metrics: as in Keras. They receive y and predictions in the form of the user's model: probabilities where
                `expose` split off a softmax or a sigmoid, logits otherwise. A metric `m` of clean predictions is logged
                as `m`, of attacked ones as `robust_m`; a side that a step does not compute is absent from its log.
                The trainer itself logs `accuracy` and `robust_accuracy` where they are computed.
            weighted_metrics: as in Keras; for both sides, as `metrics`.
            jit_compile: "auto" uses XLA on a GPU only; on a CPU its loops run several times slower.
            **options: `run_eagerly`, `steps_per_execution`, `auto_scale_loss`, as in Keras.

        Raises:
            ValueError: if a loss is given, or a metric has the name of a term of the objective.
        """
        if loss is not None or "loss_weights" in options:
            raise InvalidArgument(
                f"`compile` takes no loss: expected the objective alone, here {self.objective!r}; weigh its terms with "
                f"its own arguments. Received: loss={loss!r}"
            )
        if jit_compile == "auto":  # XLA cannot compile the sums of several replicas
            single = self.distribute_strategy.num_replicas_in_sync == 1
            jit_compile = single and bool(tf.config.list_physical_devices("GPU"))
        super().compile(
            optimizer=optimizer, metrics=metrics, weighted_metrics=weighted_metrics, jit_compile=jit_compile, **options
        )
        keras_private.set_compile_metrics(self, SidedMetrics(self._averages, metrics, weighted_metrics))
        # Keras wraps the optimizer by the model's own policy, and the trainer's is float32.
        float16 = any(layer.dtype_policy.name == "mixed_float16" for layer in self.classifier.layers)
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if float16 and options.get("auto_scale_loss", True) and not scales:
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
        self._compiled_trainable = self._trainable_ids()

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Trains the classifier, as `keras.Model.fit`.

        The logs contain `loss`, each term by its name, `accuracy` and `robust_accuracy` where a step computes them, and
        with `validation_data` each of them with `val_`. Keras' callbacks know that accuracies should rise and that
        the loss and its terms should fall: `EarlyStopping("val_robust_accuracy")` needs no `mode`.

        Args:
            x: pixels `(N, H, W, C)` within the attack's bounds, [0, 1] if it has no others; or a `tf.data.Dataset`, a
                `PyDataset`, a generator or a torch `DataLoader` of (x, y) or (x, y, sample_weight). Whatever the
                container, every batch is checked. x may be a dict of one entry.
            y: labels `(N,)`, `(N, 1)` or one-hot `(N, C)`, beside an array x.
            batch_size, epochs, verbose: as in Keras.
            callbacks: as in Keras; `ModelCheckpoint("x.keras")` writes the classifier, with `save_weights_only=True` a
                file that `load_weights` of the trainer and of the classifier read.
            **options: `validation_data`, `sample_weight`, `initial_epoch`, ... as in Keras.

        Returns:
            Keras' `History`.

        Raises:
            ValueError: for pixels outside the bounds, labels out of range, soft labels, wrong shapes, no data, and a
                callback without `mode` that monitors what the trainer does not log.
        """
        x = self._checked_data(x, y, batch_size)
        validates = options.get("validation_data") is not None or bool(options.get("validation_split"))
        if options.get("validation_data") is not None:
            options["validation_data"] = self._checked_validation_data(options["validation_data"])
        check_radii(self.attack, self._validation_adversary if validates else None, epochs)
        self._last_epoch.assign(epochs)
        if isinstance(x, tf.data.Dataset):
            options.setdefault("shuffle", False)  # Keras warns of its own default
        if not self.trainable_variables:
            raise InvalidArgument(
                "Expected a classifier with trainable variables. Received: one whose layers are all frozen"
            )
        if self.compiled and self._trainable_ids() != self._compiled_trainable:
            warnings.warn(
                "`trainable` was changed after `compile`: expected `compile` again, or it has no effect.", stacklevel=2
            )
        if self.compiled:  # otherwise Keras raises
            with self.distribute_strategy.scope():  # the first step would build it and be traced twice
                self.optimizer.build(self.trainable_variables)
            if not self._batches.numpy():  # a file of an older version has the optimizer's count only
                self._batches.assign(int(self.optimizer.iterations.numpy()) * backend.accumulated(self.optimizer))
        callbacks = completed(callbacks, self, validates)
        try:
            with plain_errors():
                return super().fit(x, y, batch_size, epochs, verbose, callbacks, **options)
        except ValueError:
            # A function traced for data of unknown shapes would refuse the data of the next call, too.
            self.train_function = self.test_function = None
            raise

    def evaluate(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Returns loss, terms, clean and robust accuracy by the validation attack, as `keras.Model.evaluate`.

        Without `return_dict=True` it returns a list in the order of `metrics_names`: the loss first, then the compiled
        metrics of clean predictions. Figures to publish come from `tfrobust.evaluate`.
        """
        if not options.get("_use_cached_eval_dataset"):  # else Keras calls at the end of an epoch, after `fit`'s checks
            x = self._checked_data(x, y)
            check_radii(None, self._validation_adversary, float(self._last_epoch.numpy()))
        with plain_errors():
            return super().evaluate(x, y, **options)

    def train_on_batch(self, *args: Any, **options: Any) -> Any:
        """Takes one step on one batch, as `keras.Model.train_on_batch`."""
        with plain_errors():
            return super().train_on_batch(*args, **options)

    def test_on_batch(self, *args: Any, **options: Any) -> Any:
        """Tests on one batch, as `keras.Model.test_on_batch`."""
        check_radii(None, self._validation_adversary, float(self._last_epoch.numpy()))
        with plain_errors():
            return super().test_on_batch(*args, **options)

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """Returns the classifier's logits, `(B, C)`."""
        return self.classifier(single_entry(x, "x"), training=training)["logits"]

    def save(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """Saves the classifier atomically: an interrupted save leaves the previous file unchanged.

        Raises:
            FileExistsError: with `overwrite=False`, if the file exists.
        """
        self._refuse_to_overwrite(filepath, overwrite)
        with replacing(filepath) as beside:
            self.classifier.save(beside, **options)

    def save_weights(self, filepath: str | Path, overwrite: bool = True, **options: Any) -> None:
        """Saves the classifier's weights, the optimizer's state and learned multipliers, atomically as `save`.

        `load_weights` of a trainer reads all of it, `load_weights` of a classifier only the weights.
        """
        self._refuse_to_overwrite(filepath, overwrite)
        with replacing(filepath) as beside, self._with_own_state():
            self.classifier.save_weights(beside, **options)

    def load_weights(self, filepath: str | Path, **options: Any) -> None:
        """Loads a file of a trainer's or a classifier's `save_weights`, or the weights of a `.keras` file."""
        if self.compiled:
            with self.distribute_strategy.scope():  # the optimizer loads only variables that exist
                self.optimizer.build(self.trainable_variables)
        self._batches.assign(0)  # a file of an older version lacks it; `fit` then computes it
        if from_an_older_version(filepath):
            super().load_weights(filepath, **options)
            return
        with self._with_own_state():
            self.classifier.load_weights(filepath, **options)

    @contextlib.contextmanager
    def _with_own_state(self) -> Iterator[None]:
        """Attaches the trainer's own state to the classifier, so that a file of its weights contains it."""
        state = OwnState({"batches": self._batches, **self._multipliers})
        carried = {"optimizer": getattr(self, "optimizer", None), "trainer": state}
        attributes = vars(self.classifier)  # avoids Keras' tracking: nothing becomes a part of the classifier
        before = {name: attributes[name] for name in carried if name in attributes}
        attributes.update(carried)
        try:
            yield
        finally:
            for name in carried:
                del attributes[name]
            attributes.update(before)

    def export(self, filepath: Any, **options: Any) -> None:
        """Exports the classifier."""
        self.classifier.export(filepath, **options)

    def get_config(self) -> dict[str, Any]:
        """Returns the objective, the attacks, the search's settings and the seed. The classifier has its own config."""
        members = {name: getattr(self, name) for name in ("objective", "attack", "validation_attack")}
        return {
            **{name: None if member is None else member.get_config() for name, member in members.items()},
            "search_in_training_mode": self.search_in_training_mode,
            "search_dtype": self.search_dtype,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> AdversarialTrainer:
        """Returns the trainer of a config to which the classifier was added.

        Raises:
            ValueError: for a config without a classifier.
        """
        if "classifier" not in config:
            raise InvalidArgument(
                "The config of a trainer leaves its classifier out. Expected AdversarialTrainer(classifier, "
                "**trainer.get_config()) for another one, copy.deepcopy(trainer) for a copy, and trainer.save(path), "
                "which saves the classifier, in place of keras.saving.save_model(trainer, path). "
                f"Received: a config of {sorted(config)}"
            )
        return cls(**config)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns what `copy.deepcopy` and `pickle` need for a trainer with its own classifier and optimizer."""
        return reduced(self)

    def set_epoch(self, epoch: float, steps_per_epoch: int | None = None) -> None:
        """Sets the fractional epoch that schedules of weights and eps read; `fit` sets it by itself."""
        self._epoch.assign(float(epoch))
        self._epochs_per_step.assign(1.0 / steps_per_epoch if steps_per_epoch else 0.0)

    def cost(self, training: bool = True) -> tuple[float, float]:
        """Returns the numbers of forwards and backwards of a full batch in a step.

        A search of K steps takes K of each, and a forward where its loss reads the clean side; an update as many of
        each as its losses read sides of the batch, twice that under `objectives.awp`. The sides are found by calling
        the losses.

        Args:
            training: whether the step is `train_step`; False: `test_step`, which computes both sides.

        Example:

        >>> trainer = tfrobust.AdversarialTrainer(
        ...     tfrobust.models.get("digits"), "trades", tfrobust.attacks.pgd(eps=0.15, steps=10)
        ... )
        >>> trainer.cost()  # ten steps, the clean forward of the search, clean and adversarial side of the update
        (13.0, 12.0)
        """
        adversary = self._adversary if training else self._validation_adversary
        searched = cost.of_search(adversary, self.classifier)
        if not training:
            return searched[0] + (1 if adversary is None else 2), searched[1]
        updated = cost.of_update(self.objective, self.classifier)
        share = self.objective.share
        return share * searched[0] + updated[0], share * searched[1] + updated[1]

    @staticmethod
    def _refuse_to_overwrite(filepath: str | Path, overwrite: bool) -> None:
        if not overwrite and Path(filepath).exists():
            raise FileExistsError(f"Expected a new file, or overwrite=True. Received: {filepath}, which exists")

    def _checked_data(self, x: Any, y: Any = None, batch_size: int | None = None) -> Any:
        """Returns the data; raises ValueError if they are known to be empty, or have labels that are not numbers."""
        is_dataset = isinstance(x, tf.data.Dataset)
        size = int(x.cardinality()) if is_dataset else len(x) if hasattr(x, "__len__") else None
        if size == 0:
            raise InvalidArgument("Invalid data: expected at least one batch. Received: an empty dataset")
        if getattr(getattr(y, "dtype", None), "kind", "") in tuple("OSU"):  # Keras' own error has no reason
            raise InvalidArgument(f"Invalid labels: expected integers or one-hot rows. Received: dtype {y.dtype}")
        replicas = self.distribute_strategy.num_replicas_in_sync
        return enough_for(replicas, x, batch_size) if replicas > 1 else x

    def _checked_validation_data(self, data: Any) -> Any:
        if isinstance(data, (tuple, list)):
            return (self._checked_data(*data[:2]), *data[1:])
        return self._checked_data(data)

    def compute_metrics(self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> dict[str, Tensor]:
        """Updates the metrics of both sides by the same logits; Keras builds their variables so under a strategy."""
        for view in ("clean", "adv"):
            keras_private.compile_metrics(self).update(view, y, as_given(self.classifier, y_pred), sample_weight)
        return self.get_metrics_result()

    @property
    def metrics(self) -> list[Any]:
        """Returns the loss, one object with all other means and the compiled metrics, and metrics of layers."""
        own = {id(metric) for metric in (*self._averages.values(), keras_private.loss_tracker(self))}
        layers = [m for m in super().metrics if id(m) not in own and not isinstance(m, SidedMetrics)]
        return [self._averages["loss"], keras_private.compile_metrics(self), *layers]

    @property
    def metrics_names(self) -> list[str]:
        """The names of a validation's log, without `val_`, in the order of the list that `evaluate` returns."""
        return keras_private.compile_metrics(self).names(attacked=self._validation_adversary is not None)

    def logs_in_order(self, logs: Mapping[str, Any]) -> list[Any]:
        known = [name for name in self.metrics_names if name in logs]
        return [logs[name] for name in [*known, *sorted(set(logs) - set(known))]]

    def completed_logs(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        # Keras compares all metrics' names with the logs'; a metric that a step does not compute is absent from ours.
        results = self.get_metrics_result()
        return {name: results.get(name, value) for name, value in logs.items()}

    def _trainable_ids(self) -> frozenset[int]:
        return frozenset(id(variable) for variable in self.trainable_variables)
