"""One patient as a small file, 0.3 MB a pelvis: CT in steps of 4 HU, dose of 0.01 Gy, masks as bits, xz."""

import json
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription
from anydose.case.grid import Grid
from anydose.case.volume import Volume

CT_HU, DOSE_GY = 4.0, 0.01


def pack(case: Case, path: Path) -> None:
    """Write a case with CT, dose and body; CT becomes air outside the body. ValueError if one is missing."""
    if case.ct is None or case.dose is None or case.body is None:
        raise ValueError(f"{case.name}: CT, dose and body are needed")
    about = {
        "name": case.name,
        "structures": list(case.structures),
        "levels_gy": dict(case.prescription.levels_gy),
        "fractions": case.prescription.fractions,
        "grid": [case.grid.shape, case.grid.spacing_mm, case.grid.origin_mm],
        "beams": [
            [b.gantry_deg, b.isocentre_mm, b.couch_deg, b.collimator_deg, b.sad_mm, b.name]
            for b in case.beams
        ],
    }
    ct = np.rint(case.ct.array / CT_HU).astype(np.int16)
    ct[~case.body] = round(-1024 / CT_HU)
    dose = np.rint(case.dose.array / DOSE_GY).astype(np.int32)
    # doses are smooth, so differences are small; and bytes of one significance lie together
    dose = np.diff(np.diff(dose, axis=-1, prepend=0), axis=-2, prepend=0).astype(np.int16)
    parts = [json.dumps(about).encode() + b"\n"]
    parts += [words.view(np.uint8).reshape(-1, 2)[:, k].tobytes() for words in (ct, dose) for k in (0, 1)]
    parts += [np.packbits(mask).tobytes() for mask in case.structures.values()]
    path.write_bytes(lzma.compress(b"".join(parts), preset=9))


def unpack(path: Path) -> Case:
    """The case of a file that `pack` wrote."""
    raw = lzma.decompress(path.read_bytes())
    head, _, body = raw.partition(b"\n")
    about = json.loads(head)
    shape, spacing, origin = (tuple(values) for values in about["grid"])
    grid, count = Grid(shape, spacing, origin), int(np.prod(shape))
    planes = np.frombuffer(body, np.uint8, 4 * count).reshape(2, 2, count)
    ct, steps = (_words(planes[k], shape) for k in (0, 1))
    dose = np.cumsum(np.cumsum(steps.astype(np.int32), axis=-2), axis=-1)
    size = -(-count // 8)
    bits = np.frombuffer(body, np.uint8, offset=4 * count).reshape(len(about["structures"]), size)
    masks = {
        name: np.unpackbits(row, count=count).reshape(shape).astype(bool)
        for name, row in zip(about["structures"], bits, strict=True)
    }
    beams = tuple(
        Beam(tuple(gantry), tuple(isocentre), couch, collimator, sad, name)
        for gantry, isocentre, couch, collimator, sad, name in about["beams"]
    )
    return Case(
        name=about["name"],
        grid=grid,
        structures=masks,
        prescription=Prescription(about["levels_gy"], about["fractions"]),
        beams=beams,
        ct=Volume(ct.astype(np.float32) * np.float32(CT_HU), grid, "HU"),
        dose=Volume(np.maximum(dose, 0).astype(np.float32) * np.float32(DOSE_GY), grid, "Gy"),
    )


def _words(planes: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Two planes of bytes, the lower first, as numbers."""
    return np.ascontiguousarray(planes.T).view(np.int16).reshape(shape)
