"""Heads: `Features` -> logits (N, K, h, w), or `SegLogits` where there are more. Notebooks 02 and 04."""

from fcnbook.models.heads.aspp import ASPPHead
from fcnbook.models.heads.enc import EncHead
from fcnbook.models.heads.fcn import FCNHead
from fcnbook.models.heads.fcn_skip import FCNSkipHead, LateFusionHead
from fcnbook.models.heads.psp import PSPHead
from fcnbook.models.heads.semantic_fpn import SemanticFPNHead

__all__ = ["ASPPHead", "EncHead", "FCNHead", "FCNSkipHead", "LateFusionHead", "PSPHead", "SemanticFPNHead"]
