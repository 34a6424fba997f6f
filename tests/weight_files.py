"""State dicts of other projects, made from the names and shapes that they document, never by our converter."""

import torch

W, C = 4, 8
"""Channels of the first stage and of the heads: published networks have 64 and 512."""
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def conv(name, out, into, kernel, bias=False):
    entries = {f"{name}.weight": torch.randn(out, into, kernel, kernel)}
    return entries | ({f"{name}.bias": torch.randn(out)} if bias else {})


def bn(name, n):
    values = {f"{name}.{key}": torch.rand(n) for key in ("weight", "bias", "running_mean", "running_var")}
    return values | {f"{name}.num_batches_tracked": torch.tensor(40_000)}


def cm(name, out, into, kernel):
    return conv(f"{name}.conv", out, into, kernel) | bn(f"{name}.bn", out)


def resnet(prefix, depth, stem, w=W):
    if stem == "v1c":
        half = w // 2
        entries = conv(f"{prefix}stem.0", half, 3, 3) | bn(f"{prefix}stem.1", half)
        entries |= conv(f"{prefix}stem.3", half, half, 3) | bn(f"{prefix}stem.4", half)
        entries |= conv(f"{prefix}stem.6", w, half, 3) | bn(f"{prefix}stem.7", w)
    else:
        entries = conv(f"{prefix}conv1", w, 3, 7) | bn(f"{prefix}bn1", w)
    into = w
    for s, blocks in enumerate(BLOCKS[depth], 1):
        width = w * 2 ** (s - 1)
        for j in range(blocks):
            q = f"{prefix}layer{s}.{j}"
            shapes = [(width, into, 1), (width, width, 3), (4 * width, width, 1)]
            if depth == 18:
                shapes = [(width, into, 3), (width, width, 3)]
            for n, shape in enumerate(shapes, 1):
                entries |= conv(f"{q}.conv{n}", *shape) | bn(f"{q}.bn{n}", shape[0])
            out = shapes[-1][0]
            if into != out or (j == 0 and s > 1):
                entries |= conv(f"{q}.downsample.0", out, into, 1) | bn(f"{q}.downsample.1", out)
            into = out
    return entries


def mmseg_fcn(depth=50, stem="v1c", classes=19, w=W, c=C, aux=W):
    c5, c4 = (8 * w, 4 * w) if depth == 18 else (32 * w, 16 * w)
    return (
        resnet("backbone.", depth, stem, w)
        | conv("decode_head.conv_seg", classes, c, 1, bias=True)
        | cm("decode_head.convs.0", c, c5, 3)
        | cm("decode_head.convs.1", c, c, 3)
        | cm("decode_head.conv_cat", c, c5 + c, 3)
        | conv("auxiliary_head.conv_seg", classes, aux, 1, bias=True)
        | cm("auxiliary_head.convs.0", aux, c4, 3)
    )


def ssseg_fcn(depth=50, classes=21, w=W, c=C):
    return (
        resnet("backbone_net.", depth, "v1c", w)
        | conv("decoder.0", c, 32 * w, 3)
        | bn("decoder.1", c)
        | conv("decoder.3", c, c, 3)
        | bn("decoder.4", c)
        | conv("decoder.7", classes, c, 1, bias=True)
        | conv("auxiliary_decoder.0", c, 16 * w, 3)
        | bn("auxiliary_decoder.1", c)
        | conv("auxiliary_decoder.4", classes, c, 1, bias=True)
    )


def ssseg_fpn(depth=50, classes=21, w=W, c=C, scale=6):
    entries = resnet("backbone_net.", depth, "v1c", w)
    for i in range(4):
        entries |= conv(f"fpn_neck.lateral_convs.{i}.0", c, 4 * w * 2**i, 1)
        entries |= bn(f"fpn_neck.lateral_convs.{i}.1", c)
        entries |= conv(f"fpn_neck.fpn_convs.{i}.0", c, c, 3) | bn(f"fpn_neck.fpn_convs.{i}.1", c)
    for place in ("0.0", "1.0", "2.0", "2.2", "3.0", "3.2", "3.4"):
        into = c if place.endswith(".0") else scale
        entries |= conv(f"scale_heads.{place}.0", scale, into, 3) | bn(f"scale_heads.{place}.1", scale)
    return entries | conv("decoder.1", classes, scale, 1, bias=True)


def autodrive_fcn(classes=21, w=W, c=C):
    return (
        resnet("backbone.", 101, "b", w)
        | conv("classifier.0", c, 32 * w, 3)
        | bn("classifier.1", c)
        | conv("classifier.4", classes, c, 1, bias=True)
    )


VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def torchvision_vgg16(w=W, fc=16):
    widths = [n * w for n in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)]
    entries = {}
    for layer, into, out in zip(VGG_LAYERS, [3, *widths], widths, strict=False):
        entries |= conv(f"features.{layer}", out, into, 3, bias=True)
    for layer, into, out in ((0, 8 * w * 49, fc), (3, fc, fc), (6, fc, 1000)):
        entries |= {
            f"classifier.{layer}.weight": torch.randn(out, into),
            f"classifier.{layer}.bias": torch.randn(out),
        }
    return entries


def save(path, contents, legacy=False):
    """The path of a file as `torch.save` writes it today, or wrote it before PyTorch 1.6."""
    torch.save(contents, path, _use_new_zipfile_serialization=not legacy)
    return path
