"""mmsegmentation 1.2.2 as the other side: networks from the configurations in its own package, with its own losses."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from comparison import Side
from torch import Tensor


class _CompiledOperators(types.ModuleType):
    """Stands in for the compiled part of mmcv, which none of these networks calls but the imports look for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(f"{name} is a compiled operator of mmcv")

        return refuse


sys.modules.setdefault("mmcv._ext", _CompiledOperators("mmcv._ext"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, not ours
    import mmseg
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)

CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"


def settings_of(config: str) -> dict[str, Any]:
    """The network of a configuration: its settings without training and test, and with ordinary batch norm.

    On one device the synchronised batch norm is the same function.

    Args:
        config: name in the spelling of the 1.x versions, without folder and ".py".
    """
    (path,) = CONFIGS.glob(f"*/{config}.py")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = Config.fromfile(path).model.to_dict()
    for name in ("pretrained", "data_preprocessor", "train_cfg", "test_cfg"):
        settings.pop(name, None)
    return _with_ordinary_batch_norm(settings)


def _with_ordinary_batch_norm(settings: Any) -> Any:
    if isinstance(settings, Mapping):
        return {key: _with_ordinary_batch_norm(value) for key, value in settings.items()}
    return "BN" if settings == "SyncBN" else settings


def mmseg_side(settings: dict[str, Any]) -> Side:
    """A network of mmsegmentation with its losses.

    They divide by the number of pixels plus the float32 epsilon, hence differences of 1e-11 from the mean.
    """
    init_default_scope("mmseg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = MODELS.build({**settings, "test_cfg": {"mode": "whole"}})
    return Side(network, lambda images: _logits(network, images), lambda *batch: _loss(network, *batch))


def _logits(network: Any, images: Tensor) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = network.extract_feat(images)
        main = network.decode_head(features)
        logits = {"main": main}
        if isinstance(main, tuple):
            logits = {"main": main[0], "scene": main[1]}
        if network.with_auxiliary_head:
            logits["aux"] = network.auxiliary_head(features)
    return logits


def _loss(network: Any, images: Tensor, labels: Tensor) -> Tensor:
    samples = []
    for one in labels:
        sample = SegDataSample(metainfo={"img_shape": one.shape, "ori_shape": one.shape})
        sample.gt_sem_seg = PixelData(data=one[None])
        samples.append(sample)
    # Their scene loss turns its target, and with it the loss, into float32: 1e-7 in the gradients. Here it stays.
    with warnings.catch_warnings(), mock.patch.object(Tensor, "float", Tensor.double):
        warnings.simplefilter("ignore")
        total, _ = network.parse_losses(network.loss(images, samples))
    return total
