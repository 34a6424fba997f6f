"""Backbones: images (N, C, H, W) -> `Features`, one map a stage. Notebooks 02 and 04."""

from fcnbook.models.backbones.caffenet import CaffeNet
from fcnbook.models.backbones.googlenet import GoogLeNet
from fcnbook.models.backbones.resnet import ResNet
from fcnbook.models.backbones.vgg import VGG16, TwoStreamVGG16

__all__ = ["VGG16", "CaffeNet", "GoogLeNet", "ResNet", "TwoStreamVGG16"]
