"""Makes tables of accuracy under corruptions, shifts, noise and transfer, and of distances of adversaries."""

from tfrobust.evaluation.tables.corrupt import corrupt
from tfrobust.evaluation.tables.corruptions import corruptions
from tfrobust.evaluation.tables.distances import distances
from tfrobust.evaluation.tables.noise import noise
from tfrobust.evaluation.tables.shifts import shift, shifts
from tfrobust.evaluation.tables.table import ACCURACY, Table
from tfrobust.evaluation.tables.transfer import transfer_table

__all__ = ["ACCURACY", "Table", "corrupt", "corruptions", "distances", "noise", "shift", "shifts", "transfer_table"]
