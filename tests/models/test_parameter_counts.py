"""Parameters of every network of the tables, in millions to three digits, against counts of mmsegmentation's models.

The counts were taken from mmsegmentation 1.2.2 built with the settings of its configurations, not from this code.
"""

import pytest
import torch

from fcnbook.build import build_model
from fcnbook.recipes._parts import R50_D32_OF_FASTFCN as JPU_BACKBONE
from fcnbook.recipes._parts import d8, d16, d32, deeplabv3, encnet, fcn, pspnet, semantic_fpn

NETWORKS = {
    "FCN R-18-D8": fcn(d8(18)),
    "FCN R-18b-D8": fcn(d8(18, "b")),
    "FCN R-50-D8": fcn(d8(50)),
    "FCN R-50b-D8": fcn(d8(50, "b")),
    "FCN R-101-D8": fcn(d8(101)),
    "FCN R-101b-D8": fcn(d8(101, "b")),
    "FCN-D6 R-50-D16": fcn(d16(50), dilation=6),
    "FCN-D6 R-50b-D16": fcn(d16(50, "b"), dilation=6),
    "FCN-D6 R-101-D16": fcn(d16(101), dilation=6),
    "FCN-D6 R-101b-D16": fcn(d16(101, "b"), dilation=6),
    "PSPNet R-50-D8": pspnet(d8(50)),
    "DeepLabV3 R-50-D8": deeplabv3(d8(50)),
    "EncNet R-50-D8": encnet(d8(50)),
    "JPU+PSP R-50-D32": pspnet(JPU_BACKBONE, jpu=True),
    "JPU+ASPP R-50-D32": deeplabv3(JPU_BACKBONE, jpu=True),
    "JPU+Enc R-50-D32": encnet(JPU_BACKBONE, jpu=True),
    "SemFPN R-50 (mmseg)": semantic_fpn(d32(50), norm=False),
    "SemFPN R-101 (mmseg)": semantic_fpn(d32(101), norm=False),
}

COUNTS = [
    # network, classes, in all, without auxiliary head, backbone, neck, decode head, auxiliary head, buffers, entries
    ("FCN R-18-D8", 19, 12.822, 12.674, 11.196, 0, 1.478, 0.149, 0.011, 160),
    ("FCN R-18b-D8", 19, 12.803, 12.654, 11.177, 0, 1.478, 0.149, 0.011, 148),
    ("FCN R-50-D8", 19, 49.498, 47.133, 23.527, 0, 23.606, 2.365, 0.057, 358),
    ("FCN R-50-D8", 21, 49.499, 47.134, 23.527, 0, 23.607, 2.365, 0.057, 358),
    ("FCN R-50-D8", 150, 49.599, 47.200, 23.527, 0, 23.673, 2.398, 0.057, 358),
    ("FCN R-50-D8", 60, 49.529, 47.154, 23.527, 0, 23.627, 2.375, 0.057, 358),
    ("FCN R-50-D8", 59, 49.529, 47.154, 23.527, 0, 23.626, 2.375, 0.057, 358),
    ("FCN R-50b-D8", 19, 49.479, 47.114, 23.508, 0, 23.606, 2.365, 0.057, 346),
    ("FCN R-101-D8", 19, 68.490, 66.125, 42.519, 0, 23.606, 2.365, 0.109, 664),
    ("FCN R-101-D8", 21, 68.491, 66.126, 42.519, 0, 23.607, 2.365, 0.109, 664),
    ("FCN R-101-D8", 150, 68.591, 66.192, 42.519, 0, 23.673, 2.398, 0.109, 664),
    ("FCN R-101-D8", 60, 68.521, 66.146, 42.519, 0, 23.627, 2.375, 0.109, 664),
    ("FCN R-101-D8", 59, 68.521, 66.146, 42.519, 0, 23.626, 2.375, 0.109, 664),
    ("FCN R-101b-D8", 19, 68.471, 66.106, 42.500, 0, 23.606, 2.365, 0.109, 652),
    ("FCN-D6 R-50-D16", 19, 49.498, 47.133, 23.527, 0, 23.606, 2.365, 0.057, 358),
    ("FCN-D6 R-50b-D16", 19, 49.479, 47.114, 23.508, 0, 23.606, 2.365, 0.057, 346),
    ("FCN-D6 R-101-D16", 19, 68.490, 66.125, 42.519, 0, 23.606, 2.365, 0.109, 664),
    ("FCN-D6 R-101b-D16", 19, 68.471, 66.106, 42.500, 0, 23.606, 2.365, 0.109, 652),
    ("PSPNet R-50-D8", 19, 48.975, 46.611, 23.527, 0, 23.084, 2.365, 0.059, 370),
    ("PSPNet R-50-D8", 21, 48.977, 46.612, 23.527, 0, 23.085, 2.365, 0.059, 370),
    ("PSPNet R-50-D8", 150, 49.076, 46.678, 23.527, 0, 23.151, 2.398, 0.059, 370),
    ("PSPNet R-50-D8", 60, 49.007, 46.632, 23.527, 0, 23.105, 2.375, 0.059, 370),
    ("PSPNet R-50-D8", 59, 49.006, 46.631, 23.527, 0, 23.104, 2.375, 0.059, 370),
    ("DeepLabV3 R-50-D8", 19, 68.113, 65.748, 23.527, 0, 42.221, 2.365, 0.060, 376),
    ("DeepLabV3 R-50-D8", 21, 68.115, 65.749, 23.527, 0, 42.222, 2.365, 0.060, 376),
    ("DeepLabV3 R-50-D8", 150, 68.214, 65.816, 23.527, 0, 42.288, 2.398, 0.060, 376),
    ("DeepLabV3 R-50-D8", 60, 68.145, 65.769, 23.527, 0, 42.242, 2.375, 0.060, 376),
    ("DeepLabV3 R-50-D8", 59, 68.144, 65.769, 23.527, 0, 42.242, 2.375, 0.060, 376),
    ("EncNet R-50-D8", 19, 35.892, 33.527, 23.527, 0, 10.000, 2.365, 0.056, 363),
    ("EncNet R-50-D8", 21, 35.895, 33.529, 23.527, 0, 10.002, 2.365, 0.056, 363),
    ("EncNet R-50-D8", 150, 36.060, 33.662, 23.527, 0, 10.134, 2.398, 0.056, 363),
    ("EncNet R-50-D8", 60, 35.945, 33.569, 23.527, 0, 10.042, 2.375, 0.056, 363),
    ("EncNet R-50-D8", 59, 35.943, 33.568, 23.527, 0, 10.041, 2.375, 0.056, 363),
    ("JPU+PSP R-50-D32", 19, 68.711, 66.346, 23.527, 19.736, 23.084, 2.365, 0.078, 436),
    ("JPU+PSP R-50-D32", 21, 68.713, 66.347, 23.527, 19.736, 23.085, 2.365, 0.078, 436),
    ("JPU+PSP R-50-D32", 150, 68.812, 66.414, 23.527, 19.736, 23.151, 2.398, 0.078, 436),
    ("JPU+PSP R-50-D32", 60, 68.743, 66.367, 23.527, 19.736, 23.105, 2.375, 0.078, 436),
    ("JPU+PSP R-50-D32", 59, 68.742, 66.367, 23.527, 19.736, 23.104, 2.375, 0.078, 436),
    ("JPU+ASPP R-50-D32", 19, 87.849, 85.484, 23.527, 19.736, 42.221, 2.365, 0.079, 442),
    ("JPU+ASPP R-50-D32", 21, 87.850, 85.485, 23.527, 19.736, 42.222, 2.365, 0.079, 442),
    ("JPU+ASPP R-50-D32", 150, 87.949, 85.551, 23.527, 19.736, 42.288, 2.398, 0.079, 442),
    ("JPU+ASPP R-50-D32", 60, 87.880, 85.505, 23.527, 19.736, 42.242, 2.375, 0.079, 442),
    ("JPU+ASPP R-50-D32", 59, 87.879, 85.504, 23.527, 19.736, 42.242, 2.375, 0.079, 442),
    ("JPU+Enc R-50-D32", 19, 55.628, 53.263, 23.527, 19.736, 10.000, 2.365, 0.075, 429),
    ("JPU+Enc R-50-D32", 21, 55.630, 53.265, 23.527, 19.736, 10.002, 2.365, 0.075, 429),
    ("JPU+Enc R-50-D32", 150, 55.796, 53.397, 23.527, 19.736, 10.134, 2.398, 0.075, 429),
    ("JPU+Enc R-50-D32", 60, 55.680, 53.305, 23.527, 19.736, 10.042, 2.375, 0.075, 429),
    ("JPU+Enc R-50-D32", 59, 55.679, 53.304, 23.527, 19.736, 10.041, 2.375, 0.075, 429),
    ("SemFPN R-50 (mmseg)", 19, 28.498, 28.498, 23.527, 3.344, 1.626, 0, 0.055, 390),
    ("SemFPN R-50 (mmseg)", 21, 28.498, 28.498, 23.527, 3.344, 1.627, 0, 0.055, 390),
    ("SemFPN R-50 (mmseg)", 150, 28.515, 28.515, 23.527, 3.344, 1.643, 0, 0.055, 390),
    ("SemFPN R-50 (mmseg)", 60, 28.503, 28.503, 23.527, 3.344, 1.632, 0, 0.055, 390),
    ("SemFPN R-50 (mmseg)", 59, 28.503, 28.503, 23.527, 3.344, 1.631, 0, 0.055, 390),
    ("SemFPN R-101 (mmseg)", 19, 47.490, 47.490, 42.519, 3.344, 1.626, 0, 0.107, 696),
    ("SemFPN R-101 (mmseg)", 21, 47.490, 47.490, 42.519, 3.344, 1.627, 0, 0.107, 696),
    ("SemFPN R-101 (mmseg)", 150, 47.507, 47.507, 42.519, 3.344, 1.643, 0, 0.107, 696),
    ("SemFPN R-101 (mmseg)", 60, 47.495, 47.495, 42.519, 3.344, 1.632, 0, 0.107, 696),
    ("SemFPN R-101 (mmseg)", 59, 47.495, 47.495, 42.519, 3.344, 1.631, 0, 0.107, 696),
]


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_parameters(row):
    name, num_classes, *published, entries = row
    with torch.device("meta"):
        model = build_model(NETWORKS[name], num_classes)

    def count(*parts):
        return sum(p.numel() for part in parts if part is not None for p in part.parameters())

    without_auxiliary = (model.backbone, model.neck, model.decode_head)
    counted = [
        count(model),
        count(*without_auxiliary),
        *(count(part) for part in (*without_auxiliary, model.auxiliary_head)),
        sum(b.numel() for b in model.buffers()),
    ]
    assert [round(number / 1e6, 3) for number in counted] == published
    assert len(model.state_dict()) == entries
