"""Image classifiers that stay right under attack: adversarial training under Keras 3, honest evaluation, export."""

from tfrobust import attacks, callbacks, data, interpret, layers, losses, models, objectives, schedules
from tfrobust.evaluation import Report, evaluate
from tfrobust.models import expose
from tfrobust.objectives import Objective, Term
from tfrobust.trainer import AdversarialTrainer
from tfrobust.utils.errors import InvalidArgument
from tfrobust.views import Observed, Views

__version__ = "0.1.0"

__all__ = [
    "AdversarialTrainer",
    "InvalidArgument",
    "Objective",
    "Observed",
    "Report",
    "Term",
    "Views",
    "attacks",
    "callbacks",
    "data",
    "evaluate",
    "expose",
    "interpret",
    "layers",
    "losses",
    "models",
    "objectives",
    "schedules",
]
