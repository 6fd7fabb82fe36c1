"""The family of attacks, by name."""

from tfrobust._registry import Registry
from tfrobust.attacks.attack import Adversary, Attack

ATTACKS = Registry("attack", Attack, Adversary)
register, get, names = ATTACKS.register, ATTACKS.get, ATTACKS.names
