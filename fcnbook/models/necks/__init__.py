"""Necks: `Features` of a backbone -> `Features` for the heads."""

from fcnbook.models.necks.fpn import FPN
from fcnbook.models.necks.jpu import JPU

__all__ = ["FPN", "JPU"]
