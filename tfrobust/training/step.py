"""One step of training and one of validation, in the order in which they run.

1. `train_step`: the batch is checked outside XLA and brought to one form.
2. `_training_views`: the adversary searches; the views hold the forward passes, each of which runs when it is read.
3. `_update`: terms, total loss, gradients (at perturbed weights under AWP), guard, clipping, optimizer.
4. `_logs`: means of the terms and accuracies from the forward passes that ran.

`test_step` searches with the validation adversary and makes no update.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import GradientAttack
from tfrobust.classifiers import as_given
from tfrobust.data.batch import Batch, BatchSpec, prepare
from tfrobust.models import Augmentation
from tfrobust.objectives import Multiplier, Objective, perturbed
from tfrobust.schedules import value_at
from tfrobust.training.distribution import Distributed
from tfrobust.training.guard import Guard
from tfrobust.training.precision import computing_in
from tfrobust.training.replicas import Mean, clipped, side
from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Tensor
from tfrobust.views import Observed, Views


class TrainingStep(Distributed):
    """Inherited before `keras.Model`: `train_step` and `test_step`, which `fit` and `evaluate` call."""

    objective: Objective
    optimizer: Any
    jit_compile: Any
    seed: int
    search_in_training_mode: bool
    search_dtype: str
    guard: Guard | None
    trainable_variables: list[Any]
    get_metrics_result: Callable[[], dict[str, Tensor]]
    _adversary: GradientAttack | None
    _validation_adversary: GradientAttack | None
    _batch_spec: BatchSpec
    _augmentation: Augmentation | None
    _averages: dict[str, keras.metrics.Mean]
    _multipliers: dict[str, keras.Variable]
    _epoch: tf.Variable
    _epochs_per_step: tf.Variable
    _last_epoch: tf.Variable
    _batches: tf.Variable

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Checks a batch of pixels and labels, runs one search and one update, and returns the logs."""
        return self._checked(self._train, data)

    def test_step(self, data: Any) -> dict[str, Tensor]:
        """Checks a batch; returns clean accuracy, loss, terms and robust accuracy by the validation attack."""
        return self._checked(self._test, data)

    def _checked(self, step: Callable[[Batch], dict[str, Tensor]], data: Any) -> dict[str, Tensor]:
        """Runs a step on a batch after its checks, whatever the data's container and however the step is compiled.

        The checks stay outside XLA, where assertions are no-ops.
        """
        with plain_errors():  # for direct calls of a step; `fit` and the others have their own
            data = self._batch_spec.check(*keras.utils.unpack_x_y_sample_weight(data))

        def prepared(data: Any) -> dict[str, Tensor]:
            return step(prepare(data, self._batch_spec))

        if self.jit_compile and not tf.executing_eagerly():
            return tf.function(prepared, autograph=False, jit_compile=True)(data)
        return prepared(data)

    def make_function(self, step_function: Callable[[Any], Any]) -> Any:
        """Returns the function that `fit` and `evaluate` call; `_checked` compiles its part by XLA, Keras nothing."""
        if self.jit_compile and self.distribute_strategy.num_replicas_in_sync > 1:
            raise InvalidArgument(
                "XLA cannot compile the sums that several replicas form together in a step: expected "
                "compile(jit_compile=False). Received: jit_compile=True"
            )
        jit_compile, self.jit_compile = self.jit_compile, False
        try:
            return super().make_function(step_function)
        finally:
            self.jit_compile = jit_compile

    def _train(self, batch: Batch) -> dict[str, Tensor]:
        if self._augmentation is None:
            return self._update(batch)
        with self._augmentation.once(batch.x) as x:
            return self._update(batch._replace(x=x))

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        make_views, attacked = self._training_views(batch)
        variables = self.trainable_variables
        with self._perturbed(make_views, batch, attacked):
            views = make_views()
            with tf.GradientTape() as tape:
                terms = self._terms(views, batch, attacked)
                # Regularizers are read after this update's forward passes; gradients are summed over replicas.
                penalty = self._penalty()
                total = self._weighted(terms) + penalty / backend.replicas()
                scaled = self.optimizer.scale_loss(total)
            gradients = tape.gradient(scaled, variables)
        gradients = self._guarded(gradients, batch, views, terms, penalty)
        gradients = clipped(gradients, self.optimizer)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        backend.agree(self._statistics(), tf.reduce_sum(batch.present))
        self._update_multipliers(terms)
        self._epoch.assign_add(self._epochs_per_step * tf.cast(batch.one, tf.float32))
        self._batches.assign_add(batch.one)
        return self._logs(views, batch, attacked, terms, penalty)

    def _training_views(self, batch: Batch) -> tuple[Callable[[], Views], Tensor | None]:
        """Runs the search; returns a function that makes views, and the mask of attacked rows where only a share is.

        Each call of the function makes forward passes of its own.
        """
        make = functools.partial(self._views, batch, training=True)
        if self._adversary is None:
            return functools.partial(make, batch.x, None, None), None
        noise = batch.noise(self.seed).fold(self._batches)
        if self.objective.share == 1:
            x_adv, observed = self._search(self._adversary, batch.x, batch.y, noise)
            return functools.partial(make, batch.x, x_adv, observed), None
        rows = tf.shape(batch.x)[0]
        share = tf.cast(tf.round(self.objective.share * tf.cast(rows, tf.float32)), tf.int32)
        first = rows - tf.maximum(share, 1)
        x_adv, _ = self._search(self._adversary, batch.x[first:], batch.y[first:], noise)
        # One forward pass of clean and attacked rows together: they share BatchNorm's statistics.
        mixed = tf.ensure_shape(tf.concat([batch.x[:first], x_adv], axis=0), batch.x.shape)
        return functools.partial(make, mixed, mixed, None), tf.range(rows) >= first

    def _search(self, adversary: GradientAttack, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Observed | None]:
        def classify(x: Tensor) -> Mapping[str, Any]:
            with computing_in(self.search_dtype, self.classifier):
                return self._classify(x, training=self.search_in_training_mode)

        # A forward pass in training mode changes BatchNorm's statistics and dropout's seeds, which are restored.
        changing = self.classifier.non_trainable_variables if self.search_in_training_mode else []
        with backend.put_back(changing):
            return adversary.at(self._epoch).observe(classify, x, y, noise)

    def _classify(self, x: Tensor, training: bool = False) -> Mapping[str, Any]:
        return self.classifier(x, training=training)

    def _views(self, batch: Batch, x: Tensor, x_adv: Tensor | None, observed: Observed | None, training: bool) -> Views:
        clean, adv = backend.once_in_this_graph(lambda: self._classify(x, training)), None
        if x_adv is not None:
            adv = clean if x_adv is x else backend.once_in_this_graph(lambda: self._classify(x_adv, training))
        return Views(y=batch.y, x=batch.x, x_adv=x_adv, clean=clean, adv=adv, observed=observed, batch_mean=batch.mean)

    @contextlib.contextmanager
    def _perturbed(self, make_views: Callable[[], Views], batch: Batch, attacked: Tensor | None) -> Iterator[None]:
        """Moves the kernels by the objective's weight perturbation while an update computes its gradient."""
        gamma = self.objective.weight_perturbation
        if not callable(gamma) and gamma == 0:
            yield
            return
        kernels = [variable for variable in self.trainable_variables if len(variable.shape) > 1]
        with backend.put_back(kernels):
            # This forward pass changes neither BatchNorm's statistics nor dropout's seeds.
            with backend.put_back(self.classifier.non_trainable_variables), tf.GradientTape() as tape:
                loss = self.optimizer.scale_loss(self._weighted(self._terms(make_views(), batch, attacked)))
            ascent = tape.gradient(loss, kernels, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            backend.assign(kernels, perturbed(kernels, backend.global_sum(ascent), value_at(gamma, self._epoch)))
            yield

    def _terms(self, views: Views, batch: Batch, attacked: Tensor | None) -> dict[str, Mean]:
        terms = {}
        for name, term in self.objective.outer.items():
            views.reads.clear()
            values = tf.ensure_shape(term.loss(views), [None])
            rows = batch.present * side(name, views.sides, attacked)
            weight = tf.cast(self._multipliers.get(name, value_at(term.weight, self._epoch)), tf.float32)
            terms[name] = Mean(values if batch.weight is None else values * batch.weight, rows, weight)
        return terms

    @staticmethod
    def _weighted(terms: Mapping[str, Mean]) -> Tensor:
        return sum(term.weight * term.global_mean for term in terms.values())

    def _penalty(self) -> Tensor:
        return sum(tf.cast(loss, tf.float32) for loss in self.classifier.losses)

    def _guarded(
        self, gradients: list[Tensor], batch: Batch, views: Views, terms: Mapping[str, Mean], penalty: Tensor
    ) -> list[Tensor]:
        if self.guard is None:
            return gradients
        values = {name: term.weight * term.local_mean for name, term in terms.items()}
        values["regularization"] = penalty
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):  # it skips such updates itself
            values["gradient_norm"] = tf.linalg.global_norm(gradients)
        return self.guard(gradients, values, self.optimizer.iterations + 1, batch, views.x_adv)

    def _statistics(self) -> list[Any]:
        norms = keras_private.layers_inside(self.classifier)
        norms = [layer for layer in norms if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]
        return [variable for layer in norms for variable in (layer.moving_mean, layer.moving_variance)]

    def _update_multipliers(self, terms: Mapping[str, Mean]) -> None:
        share = 1 / backend.accumulated(self.optimizer)
        for name, term in self.objective.outer.items():
            if isinstance(term.weight, Multiplier):
                mu = self._multipliers[name]
                mu.assign(term.weight.next(mu, backend.global_sum(terms[name].global_mean), share))

    def _test(self, batch: Batch) -> dict[str, Tensor]:
        x_adv, observed = None, None
        if self._validation_adversary is not None:
            noise = batch.noise(self.seed).fold(-1)  # the same starts at every validation
            adversary = self._validation_adversary.at(self._last_epoch)
            x_adv, observed = adversary.observe(self._classify, batch.x, batch.y, noise)
        views = self._views(batch, batch.x, x_adv, observed, training=False)
        for outputs in (views.clean, *([views.adv] if x_adv is not None else [])):
            outputs.forward()  # validation logs both accuracies, whatever the objective reads
        terms = self._terms(views, batch, None)
        return self._logs(views, batch, None, terms, self._penalty())

    def _logs(
        self, views: Views, batch: Batch, attacked: Tensor | None, terms: dict[str, Mean], penalty: Tensor
    ) -> dict[str, Tensor]:
        means = dict(terms)
        total = sum(term.weight * term.local_mean for term in terms.values()) + penalty
        means["loss"] = Mean(tf.fill(tf.shape(batch.present), total), batch.present)
        logits = {view: outputs["logits"] for view, outputs in views.forwards().items()}
        for view, name in (("clean", "accuracy"), ("adv", "robust_accuracy")):
            if view in logits:
                means[name] = Mean(losses.correct(logits[view], batch.y), batch.present * side(name, {view}, attacked))
        for name, mean in means.items():
            self._averages[name].update_state(mean.local_mean, sample_weight=mean.count)
        computed = {*means}
        for view, outputs in logits.items():
            computed |= self._update_metrics(view, batch, outputs, attacked)
        absent = set(keras_private.compile_metrics(self).names()) - computed
        return {name: value for name, value in self.get_metrics_result().items() if name not in absent}

    def _update_metrics(self, view: str, batch: Batch, logits: Tensor, attacked: Tensor | None) -> set[str]:
        """Updates the compiled metrics of one side, "clean" or "adv", and returns their names."""
        data = [batch.given_y, as_given(self.classifier, logits), batch.weight]
        if attacked is not None or backend.replicas() > 1:  # padding rows come last, attacked ones after clean ones
            real = tf.cast(tf.reduce_sum(batch.present), tf.int32)
            clean = real if attacked is None else tf.minimum(tf.reduce_sum(tf.cast(~attacked, tf.int32)), real)
            rows = slice(clean, real) if attacked is not None and view == "adv" else slice(clean)
            data = [None if part is None else part[rows] for part in data]
        return keras_private.compile_metrics(self).update(view, *data)
