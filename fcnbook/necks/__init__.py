"""Necks: `Features` of a backbone -> `Features` for the heads. Layer 2."""

from fcnbook.necks.fpn import FPN
from fcnbook.necks.jpu import JPU

__all__ = ["FPN", "JPU"]
