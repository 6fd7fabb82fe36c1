"""Measures what a network relies on: attention, gradients, classes and features, as arrays that `plots` draws.

Every function takes a classifier, or several by name, and images or a data set, which is read batch by batch. Invalid
classifiers, attacks and data raise ValueError.
"""

from tfrobust.interpret import plots, snapshot
from tfrobust.interpret.embedding import Embedding, embed
from tfrobust.interpret.gradient_measures import coverage, gradient_map_test
from tfrobust.interpret.gradients import clip_deviations, input_gradients, normalize, rescale, sign_picture
from tfrobust.interpret.hard_classes import (
    Agreement,
    HardClasses,
    agreement,
    class_prototypes,
    hard_classes,
    hard_classes_of,
    mean_probabilities,
    prototype_cosines,
    weight_norms,
)
from tfrobust.interpret.maps import attention_maps, class_activation_maps
from tfrobust.interpret.perturbations import attack_strength, dra_success, perturbation_distances
from tfrobust.interpret.relevance import Relevance, attention_against_robustness
from tfrobust.interpret.study import Study, study

__all__ = [
    "Agreement",
    "Embedding",
    "HardClasses",
    "Relevance",
    "Study",
    "agreement",
    "attack_strength",
    "attention_against_robustness",
    "attention_maps",
    "class_activation_maps",
    "class_prototypes",
    "clip_deviations",
    "coverage",
    "dra_success",
    "embed",
    "gradient_map_test",
    "hard_classes",
    "hard_classes_of",
    "input_gradients",
    "mean_probabilities",
    "normalize",
    "perturbation_distances",
    "plots",
    "prototype_cosines",
    "rescale",
    "sign_picture",
    "snapshot",
    "study",
    "weight_norms",
]
