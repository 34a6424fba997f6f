"""Backbones: images (N, 3, H, W) -> `Features`, one map a stage. Layer 2, notebooks 02 and 04."""

from fcnbook.backbones.resnet import ResNet
from fcnbook.backbones.vgg import VGG16

__all__ = ["VGG16", "ResNet"]
