"""The whole network: images (N, 3, H, W) -> `SegLogits`.

Taught in notebooks 02 (without auxiliary head) and 04 (with one).
"""

from __future__ import annotations

from torch import Tensor, nn

from fcnbook.recipe import Recipe
from fcnbook.types import SegLogits


class Segmenter(nn.Module):
    """Backbone, neck if any, decode head, auxiliary head if any; nothing else.

    The attribute names are mmsegmentation's, so the names in a state dict are those of the published files.

    Attributes:
        recipe: the recipe that the network was built from; set by `fcnbook.build.build_segmenter`.
    """

    recipe: Recipe | None = None

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head

    def forward(self, images: Tensor) -> SegLogits:
        """Logits of normalised images, the same in training and in evaluation mode.

        Args:
            images: (N, 3, H, W) float, normalised as the recipe says.

        Returns:
            Logits at the heads' own resolutions, before resizing and softmax. `aux` is None without auxiliary
            head.
        """
        features = self.backbone(images)
        if self.neck is not None:
            features = self.neck(features)
        out = self.decode_head(features)
        logits = out if isinstance(out, SegLogits) else SegLogits(out)
        if self.auxiliary_head is None:
            return logits
        return logits._replace(aux=self.auxiliary_head(features))
