"""The family of attacks, by name."""

from tfrobust.attacks.base import Cascade, Evasion
from tfrobust.attacks.gradient import Attack
from tfrobust.utils.registry import Registry

ATTACKS = Registry("attack", Attack, Evasion, Cascade)
register, get, names = ATTACKS.register, ATTACKS.get, ATTACKS.names
