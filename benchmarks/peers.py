"""The same classifier for other libraries: a copy in PyTorch, weight for weight, and theirs around the Keras model.

Imported by what compares with them; needs `pip install tfrobust[peers]`, and torchattacks for its users.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks.torch_loop import pixels, trainable_copy

Attack = Callable[[Any, Any], Any]  # pixels (B, H, W, C), labels (B,) -> adversaries


def torch_copy(classifier: keras.Model) -> torch.nn.Module:
    """Returns a copy to attack, after a check that its logits are those of the classifier."""
    copy = trainable_copy(classifier).eval().requires_grad_(False)
    x = np.random.default_rng(0).uniform(0, 1, (8, *classifier.input_shape[1:])).astype("float32")
    with torch.no_grad():
        difference = np.abs(copy(pixels(x)).numpy() - np.asarray(classifier(x)["logits"])).max()
    if difference > 1e-4:
        raise ValueError(f"The copy is none: expected logits within 1e-4. Received: a difference of {difference:.2g}")
    return copy


def art_classifier(classifier: keras.Model, loss: Any = None, optimizer: Any = None) -> Any:
    """Returns ART's estimator around the Keras model."""
    from art.estimators.classification import TensorFlowV2Classifier

    return TensorFlowV2Classifier(
        model=keras.Model(classifier.input, classifier.output["logits"]),
        nb_classes=int(classifier.output["logits"].shape[-1]),
        input_shape=classifier.input_shape[1:],
        loss_object=loss or keras.losses.CategoricalCrossentropy(from_logits=True),
        optimizer=optimizer,
        clip_values=(0.0, 1.0),
    )


def art_pgd(classifier: keras.Model, eps: float, steps: int, step_size: float, batch_size: int) -> Attack:
    """Returns ART's PGD."""
    from art.attacks.evasion import ProjectedGradientDescentTensorFlowV2

    attack = ProjectedGradientDescentTensorFlowV2(
        art_classifier(classifier), np.inf, eps, step_size, max_iter=steps, num_random_init=1, batch_size=batch_size,
        verbose=False,
    )  # fmt: skip
    return lambda x, y: attack.generate(x, np.eye(10, dtype="float32")[y])


def art_autoattack(classifier: keras.Model, eps: float, batch_size: int) -> Attack:
    """Returns ART's AutoAttack, as it comes but for the size of a first step."""
    from art.attacks.evasion import AutoAttack

    attack = AutoAttack(art_classifier(classifier), np.inf, eps, eps_step=2 * eps, batch_size=batch_size)
    return lambda x, y: attack.generate(x, np.eye(10, dtype="float32")[y])


def foolbox_pgd(classifier: keras.Model, eps: float, steps: int, step_size: float) -> Attack:
    """Returns Foolbox' PGD."""
    import foolbox

    model = foolbox.TensorFlowModel(lambda z: classifier(z)["logits"], bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=True)
    return lambda x, y: attack(model, tf.convert_to_tensor(x), tf.cast(y, tf.int64), epsilons=eps)[1]


def torchattacks_autoattack(classifier: keras.Model, eps: float) -> Attack:
    """Returns torchattacks' AutoAttack, the standard version, of the copy."""
    import torchattacks

    attack = torchattacks.AutoAttack(torch_copy(classifier), norm="Linf", eps=eps, version="standard", n_classes=10)
    for member in attack._autoattack.attacks:  # it would take 10 steps, where the suite has 100
        if hasattr(member, "steps"):
            member.steps = 100

    def adversaries(x: Any, y: Any) -> Any:
        found = attack(pixels(x), torch.tensor(np.asarray(y), dtype=torch.int64))
        return found.detach().permute(0, 2, 3, 1).numpy()

    return adversaries
