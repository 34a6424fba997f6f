"""Heads: `Features` -> logits (N, K, h, w), or `SegLogits` where there are more. Layer 2, notebooks 02 and 04."""

from fcnbook.heads.aspp import ASPPHead
from fcnbook.heads.enc import EncHead
from fcnbook.heads.fcn import FCNHead
from fcnbook.heads.fcn_skip import FCNSkipHead, LateFusionHead
from fcnbook.heads.psp import PSPHead
from fcnbook.heads.semantic_fpn import SemanticFPNHead

__all__ = ["ASPPHead", "EncHead", "FCNHead", "FCNSkipHead", "LateFusionHead", "PSPHead", "SemanticFPNHead"]
