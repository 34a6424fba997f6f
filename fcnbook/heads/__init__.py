"""Heads: `Features` -> logits (N, K, h, w). Layer 2, notebooks 02 and 04."""

from fcnbook.heads.fcn import FCNHead
from fcnbook.heads.fcn_skip import FCNSkipHead

__all__ = ["FCNHead", "FCNSkipHead"]
