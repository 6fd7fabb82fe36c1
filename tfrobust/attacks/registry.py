"""The family of attacks, by name."""

from tfrobust._registry import Registry
from tfrobust.attacks.attack import Attack
from tfrobust.attacks.evasion import Cascade, Evasion

ATTACKS = Registry("attack", Attack, Evasion, Cascade)
register, get, names = ATTACKS.register, ATTACKS.get, ATTACKS.names
