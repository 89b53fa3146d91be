"""Rendered cohorts: every case drawn once, cropped to its body, one safetensors file a case, ready for
batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from anydose.case import modality
from anydose.case.case import Case
from anydose.case.names import naming_table
from anydose.case.naming.account import Account, account
from anydose.case.naming.vocabulary import HEAD_NECK, Vocabulary
from anydose.engine.engine import Engine, each
from anydose.io.files import whole
from anydose.model.sample import Sample, draw_sample


def render_file(
    read: Callable[[Path], Case], source: Path, folder: Path, organs: tuple[str, ...] = HEAD_NECK.organs
) -> Path:
    """Draw one case into `folder`, unless it is there already with the same organs; written by atomic
    rename."""
    path = folder / f"{source.name}.safetensors"
    if not path.is_file() or drawn_organs(path) != organs:
        case = read(source)
        sample, start = draw_sample(case, organs=organs)
        arrays = {name: volume.numpy().astype(np.float16) for name, volume in sample.volumes.items()}
        arrays["mask"] = sample.body.numpy().astype(np.uint8)
        about = {
            "structures": naming_table(case, Vocabulary(organs)),
            "spacing_mm": sample.spacing_mm,
            "rx_max_gy": sample.rx_max_gy,
            "start": start,
            "organs": organs,
        }
        with whole(path) as scratch:
            save_file(arrays, scratch, metadata={"case": json.dumps(about)})
    return path


def drawn_organs(path: Path) -> tuple[str, ...]:
    """The organs that the channels of a rendered case stand for; older files say nothing and have those of
    head and neck."""
    with safe_open(path, "pt") as file:
        return _organs(json.loads(file.metadata()["case"]))


def _organs(about: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(about.get("organs", HEAD_NECK.organs))


def account_of(paths: Iterable[Path], organs: tuple[str, ...]) -> Account:
    """What of the structures of rendered cases was drawn, merged and left out; older files do not say."""
    each = []
    for path in paths:
        with safe_open(path, "pt") as file:
            each.append(json.loads(file.metadata()["case"]).get("structures", ()))
    return account(each, organs)


def render(
    read: Callable[[Path], Case],
    sources: Sequence[Path],
    folder: Path,
    engine: Engine | None = None,
    organs: tuple[str, ...] = HEAD_NECK.organs,
) -> tuple[list[Path], list[str]]:
    """Draw every source into `folder` with a channel for each of `organs`, by default in this process; what
    is there already is kept. Returns the files in the sources' order, and a sentence for each case that was
    refused."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, Path] = {}
    refused = []
    for done in each(partial(_render, read=read, folder=folder, organs=organs), sources, engine):
        if done.why:
            refused.append(done.why)
        else:
            found[done.job] = done.result
    return [found[source] for source in sources if source in found], refused


def _render(source: Path, read: Callable[[Path], Case], folder: Path, organs: tuple[str, ...]) -> Path:
    return render_file(read, source, folder, organs)


class Cohort:
    """The rendered cases of a folder, in name order, then those of further ones; a folder that is named twice
    counts twice. Reads one case at a time, or holds all of them where the network is (`hold_on`). ValueError
    for a folder without a case, and for cases that were drawn with other organs than the first."""

    def __init__(self, folder: Path, *further: Path) -> None:
        self.held: list[dict[str, Tensor]] = []
        self.paths: list[Path] = []
        for place in (folder, *further):
            found = sorted(place.glob("*.safetensors"))
            if not found:
                raise ValueError(
                    f"{place}: no rendered case; write them with `anydose render COHORT {place}`"
                )
            self.paths += found
        self.organs = drawn_organs(self.paths[0])
        self.modalities = []
        self.spacings_mm: list[tuple[float, ...]] = []
        for path in self.paths:
            with safe_open(path, "pt") as file:
                self.modalities.append(tuple(name for name in modality.NAMES if name in set(file.keys())))
                about = json.loads(file.metadata()["case"])
            self.spacings_mm.append(tuple(about["spacing_mm"]))
            if _organs(about) != self.organs:
                raise ValueError(
                    f"{path.parent}: {path.name} and {self.paths[0].name} were drawn with other organs; "
                    "render them anew with one vocabulary"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the cases at these places alone."""
        self.paths = [self.paths[k] for k in places]
        self.modalities = [self.modalities[k] for k in places]
        self.spacings_mm = [self.spacings_mm[k] for k in places]
        self.held = [self.held[k] for k in places if self.held]

    def hold_on(self, device: torch.device) -> None:
        """Read every case once and keep it on `device`, in the half precision of its file (about 40 MB a
        head and neck): patients are then changed there too, and no process has to prepare them."""
        stored = {path: load_file(path, device=str(device)) for path in dict.fromkeys(self.paths)}
        self.held = [stored[path] for path in self.paths]

    def load(self, index: int) -> Sample:
        """The case at `index` of `paths`."""
        with safe_open(self.paths[index], "pt") as file:
            about = json.loads(file.metadata()["case"])
            wanted = (*self.modalities[index], "mask")
            stored = self.held[index] if self.held else {name: file.get_tensor(name) for name in wanted}
        volumes = {name: stored[name].float() for name in self.modalities[index]}
        body = stored["mask"].bool()
        spacing = tuple(about["spacing_mm"])
        return Sample(
            self.paths[index].stem,
            volumes,
            body,
            (spacing[0], spacing[1], spacing[2]),
            about.get("rx_max_gy", about.get("reference_gy")),
            self.organs,
        )
