"""Learned perceptual distances of two doses, slice by slice: ST-LPIPS, and LPIPS for who has its weights.

Ghildyal and Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022: LPIPS (Zhang et al., CVPR 2018) on
an AlexNet whose convolutions keep their stride at 1 and whose down-sampling is blurred. Written from the
papers; of the wheel `stlpips-pytorch` (extra `perceptual`) only the weight file is read, none of its code.
Its values are not comparable with published LPIPS values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

PACKAGE = "stlpips-pytorch"
WEIGHTS = "alex_shift_tolerant.pth"
LPIPS_SHIFT, LPIPS_SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
HEADS = tuple(f"lin{number}.model.1.weight" for number in range(5))
ALEXNET = tuple(f"features.{n}.{part}" for n in (0, 3, 6, 8, 10) for part in ("weight", "bias"))
Distance = Callable[[NDArray[Any], NDArray[Any]], float]
Features = Callable[[dict[str, Tensor], Tensor], list[Tensor]]
SLICES = 16  # images in one pass
EPSILON = 1e-10


def st_lpips(path: Path | None = None, device: str = "cpu") -> Distance:
    """The distance of two volumes (d, h, w) with values in [0, 1]: the mean over axial slices, 0 for equal
    ones. path: the weight file, default the installed wheel's. ValueError if there is none or it is another
    network's."""
    weights = _loaded(path or _weight_file(), KEYS, "ST-LPIPS AlexNet")
    return _by_slice(_features, {key: value.float().to(device) for key, value in weights.items()})


def lpips(trunk: Path, heads: Path) -> Distance:
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018, arXiv 1801.03924), used as `st_lpips`. trunk:
    torchvision's AlexNet weights (features.*); heads: LPIPS' linear heads (lin0 to lin4.model.1.weight).
    ValueError if either file is another network's. Not checked against the authors' code: their weights
    cannot be had here."""
    weights = _loaded(trunk, ALEXNET, "AlexNet")
    return _by_slice(_alexnet, weights | _loaded(heads, HEADS, "LPIPS heads"))


def _loaded(path: Path, keys: Sequence[str], what: str) -> dict[str, Tensor]:
    weights = torch.load(path, map_location="cpu", weights_only=True)
    missing = sorted(set(keys) - set(weights))
    if missing:
        raise ValueError(f"{path}: no {what} weights ({missing[0]} is not there)")
    return {key: weights[key] for key in keys}


def _by_slice(features: Features, weights: dict[str, Tensor]) -> Distance:
    @torch.no_grad()
    def distance(reference: NDArray[Any], prediction: NDArray[Any]) -> float:
        device = next(iter(weights.values())).device
        values = [np.clip(v, 0, 1).astype(np.float32) for v in (reference, prediction)]
        images = [torch.from_numpy(value).to(device) for value in values]
        parts = zip(*(image.split(SLICES) for image in images), strict=True)
        return float(torch.cat([_distances(features, weights, a, b) for a, b in parts]).mean())

    return distance


def _distances(features: Features, weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Distance of every pair of grey images (n, h, w) in [0, 1]."""
    total = a.new_zeros(len(a))
    for number, (x, y) in enumerate(zip(features(weights, a), features(weights, b), strict=True)):
        apart = (_unit(x) - _unit(y)) ** 2
        total += F.conv2d(apart, weights[f"lin{number}.model.1.weight"]).mean(dim=(1, 2, 3))
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.pow(2).sum(dim=1, keepdim=True).sqrt() + EPSILON)


def _features(weights: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The five activations of AlexNet."""
    x = (images[:, None].expand(-1, 3, -1, -1) * 2 - 1 - weights["scaling_layer.shift"]) / weights[
        "scaling_layer.scale"
    ]
    x = F.relu(_blurred(_convolved(weights, "net.slice1.0", x, 2), weights["net.slice1.1.filt"]))
    taps = [x]
    for blur, convolution in (("net.slice2.4.filt", "net.slice2.5"), ("net.slice3.8.filt", "net.slice3.9")):
        x = _blurred(F.max_pool2d(x, 3, stride=1), weights[blur])
        x = F.relu(_convolved(weights, convolution, x, 2 if convolution.endswith("5") else 1))
        taps.append(x)
    for convolution in ("net.slice4.11", "net.slice5.13"):
        x = F.relu(_convolved(weights, convolution, x, 1))
        taps.append(x)
    return taps


def _alexnet(weights: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The five activations of torchvision's AlexNet; images scaled as LPIPS does."""
    shift, scale = (torch.tensor(v)[:, None, None] for v in (LPIPS_SHIFT, LPIPS_SCALE))
    x, taps = (images[:, None].expand(-1, 3, -1, -1) * 2 - 1 - shift) / scale, []
    for number, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        if number in (3, 6):
            x = F.max_pool2d(x, 3, stride=2)
        kernel, bias = weights[f"features.{number}.weight"], weights[f"features.{number}.bias"]
        x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=padding))
        taps.append(x)
    return taps


def _convolved(weights: dict[str, Tensor], name: str, x: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur with the network's own filter, then take every second pixel."""
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


KEYS = (
    *(
        "scaling_layer.shift",
        "scaling_layer.scale",
        "net.slice1.1.filt",
        "net.slice2.4.filt",
        "net.slice3.8.filt",
    ),
    *(
        f"net.{name}.{part}"
        for name in ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
        for part in ("weight", "bias")
    ),
    *HEADS,
)


def _weight_file() -> Path:
    try:
        found = [entry for entry in files(PACKAGE) or () if entry.name == WEIGHTS]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ValueError(f"ST-LPIPS needs the weight file of {PACKAGE}: pip install 'anydose[perceptual]'")
    return Path(str(found[0].locate()))
