"""Image data sets as `tf.data` pipelines that repeat exactly: `load`, `info`, `Augment`."""

from tfrobust.data.augment import Augment as Augment
from tfrobust.data.load import Info as Info
from tfrobust.data.load import info as info
from tfrobust.data.load import load as load
