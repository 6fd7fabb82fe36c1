"""InfoFeature, table 6: transfer to WRN-28-10. A row is the target, trained as in table 3.

`tfrobust beyond --config=infofeature_t6:madry --workdir=DIR --source=standard=FILE.keras
--source=madry=FILE.keras` measures a run of `infofeature_t3.py:madry`; the sources are runs of `infofeature_t1.py`.
"""

from commands import config
from trainers.configs import _infofeature

# choice: steps of 2/255 and uniform starts.
ATTACKS = {"PGD-10": config.pgd_column(10, 2 / 255), "CW-10": config.cw_column(10, 2 / 255)}
SOURCES = {name: f"a ResNet-18: infofeature_t1.py:{name}" for name in ("standard", "madry")}

# Random noise (its kind is not described; choice: uniform in the ball); on each source PGD-10, CW-10.
LABELS = ("random noise", *(f"{source} {label}" for source in SOURCES for label in ATTACKS))
COLUMNS = [config.plain(label) for label in LABELS]
PAPER = {
    "standard": (92.1, 35.8, 30.1, 82.4, 81.1),
    "madry": (88.7, 88.6, 88.4, 75.3, 74.6),
    "infofeature": (89.8, 89.8, 88.3, 76.6, 75.2),
}
MEASURED = {"evaluation": {"eps": 8 / 255, "attacks": ""}, "tables": config.transfer_of(SOURCES, ATTACKS)}

get_config = _infofeature.table(__file__, PAPER, _infofeature.WRN, MEASURED, columns=COLUMNS)
