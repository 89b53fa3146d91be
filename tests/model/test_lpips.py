"""LPIPS from a user's own weights: with random ones of AlexNet's shapes, what holds for any weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anydose.model.perceptual import lpips

SHAPES = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
DOSE = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    trunk = {
        f"features.{n}.weight": torch.randn(o, i, k, k) / (i * k * k) ** 0.5
        for n, (o, i, k) in SHAPES.items()
    }
    trunk |= {f"features.{n}.bias": torch.randn(o) * 0.1 for n, (o, _, _) in SHAPES.items()}
    trunk["classifier.1.weight"] = torch.zeros(1)  # torchvision's file holds the classifier too
    heads = {f"lin{m}.model.1.weight": torch.rand(1, o, 1, 1) for m, (o, _, _) in enumerate(SHAPES.values())}
    torch.save(trunk, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "alex.pth")
    return tmp_path / "alexnet.pth", tmp_path / "alex.pth"


def test_equal_doses_have_no_distance_and_it_is_symmetric(files: tuple[Path, Path]) -> None:
    distance, other = lpips(*files), np.clip(DOSE + 0.2, 0, 1)
    assert distance(DOSE, DOSE) == 0.0
    assert distance(DOSE, other) == pytest.approx(distance(other, DOSE), rel=1e-5)
    assert distance(DOSE, other) > 0


def test_one_layer_s_share_equals_the_paper_s_equation_written_out(files: tuple[Path, Path]) -> None:
    """Equation 1 of the paper for the first layer alone: mean over places of w (unit y - unit y0)^2."""
    heads = torch.load(files[1], weights_only=True)
    for m in range(1, 5):
        heads[f"lin{m}.model.1.weight"].zero_()
    torch.save(heads, files[1])
    trunk, other = torch.load(files[0], weights_only=True), DOSE[:, ::-1].copy()
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    first = torch.nn.Conv2d(3, 64, 11, stride=4, padding=2)
    first.load_state_dict({"weight": trunk["features.0.weight"], "bias": trunk["features.0.bias"]})
    units = []
    for dose in (DOSE, other):
        image = (torch.from_numpy(dose)[:, None].repeat(1, 3, 1, 1) * 2 - 1 - shift) / scale
        y = torch.relu(first(image))
        units.append(y / y.square().sum(1, keepdim=True).sqrt())
    share = (heads["lin0.model.1.weight"] * (units[0] - units[1]) ** 2).sum(1).mean()
    assert lpips(*files)(DOSE, other) == pytest.approx(share.item(), rel=1e-5)


def test_other_weights_are_refused_by_file(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="alex.pth: no AlexNet"):
        lpips(files[1], files[1])
    with pytest.raises(ValueError, match="alexnet.pth: no LPIPS heads"):
        lpips(files[0], files[0])
