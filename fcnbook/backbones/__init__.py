"""Backbones: images (N, C, H, W) -> `Features`, one map a stage. Layer 2, notebooks 02 and 04."""

from fcnbook.backbones.caffenet import CaffeNet
from fcnbook.backbones.googlenet import GoogLeNet
from fcnbook.backbones.resnet import ResNet
from fcnbook.backbones.vgg import VGG16, TwoStreamVGG16

__all__ = ["VGG16", "CaffeNet", "GoogLeNet", "ResNet", "TwoStreamVGG16"]
