"""AELF, figure 5: the weight beta of the features' norms in AELFs, on CIFAR-10 with CNN_B. A row's number is beta.

The rows differ in their second phase alone. Train the first one once, which is table 3's row `st`, and give it to each:

    tfrobust train --config=aelf_t3:st --workdir=runs/aelf_t3/st
    tfrobust train --config=aelf_f5:beta_0.1 --config.phases='()' \\
        --config.fine_tune=runs/aelf_t3/st/classifier.keras --workdir=runs/aelf_f5/beta_0.1

A row that is trained as it stands has both phases, and differs from this in the order of the batches. The figure is
drawn without numbers; beta 0.5 has those of table 3, which is the same training. The text names 0.1, 0.5, 0.6 and 0.8.
choice: 0.3 and 1.0 beside them.
"""

from commands import config
from trainers.configs import _aelf, aelf_t3

BETAS = (0.1, 0.3, 0.5, 0.6, 0.8, 1.0)
ROWS: dict[str, config.Settings] = {
    f"beta_{beta}": {**_aelf.joint(0.5, 0.5, beta, "aelfs"), **aelf_t3.FROZEN} for beta in BETAS
}
PAPER = {**dict.fromkeys(ROWS, ()), "beta_0.5": aelf_t3.PAPER["aelfs_0.5"]}

get_config = config.table(__file__, ROWS, PAPER, aelf_t3.COLUMNS, _aelf.CIFAR, aelf_t3.COMMON, default="beta_0.5")
