"""GDP-HMM plans: one pickled dictionary in an .npz, read by an unpickler that makes arrays and plain
containers only.

Arrays are (z, y, x), spacing, origin and direction (x, y, z), the isocentre a voxel (z, y, x). The stored
dose is an integer, Gy = dose * dose_scale; the challenge rescales it so that D97% of the high target's OPT
structure is its prescription. Format: RiqiangGao/GDP-HMM_AAPMChallenge (R. Gao et al., arXiv 2501.11803).
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from anydose.case.beams import Beam
from anydose.case.case import Case, Prescription, Source
from anydose.case.grid import Grid
from anydose.case.volume import Volume
from anydose.io import gdphmm_meta
from anydose.io.files import whole
from anydose.io.gdphmm_meta import PTV_FILE, TARGETS, Target

CROP = (96, 128, 144)  # the baseline's input, round the isocentre
MEMBER = "arr_0.npy"
PLATES = ("beam_plate", "angle_plate")
VOLUMES = ("img", "dose", *PLATES)
NEEDED = ("img", "spacing", "origin")
PIECE_BYTES = 2**20
MAX_BYTES = 2**30  # unpacked: the challenge's plans have a quarter of it
ALLOWED = {
    (module, name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )
}


class _Unpickler(pickle.Unpickler):
    """Refuses every class and function but those that numpy arrays and numbers are made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(
                f"the pickle asks for {module}.{name}; numpy arrays and plain containers are accepted"
            )
        return super().find_class(module, name)


def read_case(path: Path) -> Case:
    """One plan (<PatientID>+<PlanID>+MOS_<n>.npz) on its own grid. The prescription comes from PTV_DICT.json
    (gdphmm_meta.py); with it the dose is normalised as the challenge does.
    ValueError (file, found, accepted) for anything else in the file."""
    plan = _load(path)
    for key in NEEDED:
        if key not in plan:
            raise ValueError(f"{path}: no {key!r}; {', '.join(NEEDED)} are needed")
    try:
        return _case(plan, path)
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a GDP-HMM plan ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _case(plan: dict[str, Any], path: Path) -> Case:
    image = _volume(plan["img"], "img")
    origin, spacing = _three(plan["origin"]), _three(plan["spacing"])
    direction = np.asarray(plan.get("direction", np.eye(3)), dtype=np.float64).reshape(3, 3)
    grid = Grid(image.shape, spacing, origin, direction)  # type: ignore[arg-type]
    masks, left_out = _masks(plan, grid)
    targets = [target for target in gdphmm_meta.targets(path) if target.structure in masks]
    beams, said = _beams(plan, grid)
    said += left_out
    said += [] if "direction" in plan else ["grid: axes along the patient's, no direction stated"]
    said += [f"{name}: passed over, drawn anew from the beams" for name in PLATES if name in plan]
    dose = None
    if "dose" in plan:
        dose, sentence = _normalised(_dose(plan, grid), targets, masks)
        said.append(sentence)
    return Case(
        name=path.name.removesuffix(".npz"),
        grid=grid,
        structures=masks,
        prescription=Prescription({target.structure: target.dose_gy for target in targets}),
        beams=beams,
        ct=Volume(image, grid, "HU"),
        dose=dose,
        inferred=(*said, "patient position: HFS (GDP-HMM does not state it)"),
        source=Source("gdphmm"),
    )


def _masks(plan: dict[str, Any], grid: Grid) -> tuple[dict[str, np.ndarray], list[str]]:
    """The structures with a voxel, and sentences on what was renamed or left out."""
    masks: dict[str, np.ndarray] = {}
    for name, value in plan.items():
        if name in VOLUMES or not isinstance(value, np.ndarray) or value.ndim != 3:
            continue
        mask = _volume(value, name) > 0.5
        if mask.shape != grid.shape:
            raise ValueError(f"{name!r} has shape {mask.shape}; {grid.shape}, that of img, is accepted")
        if mask.any():
            masks[name] = mask
    said = _one_body(masks)
    for name in map(str, _names(plan.get("all_mask"))):
        if name in plan and name not in masks and f"{name} (not the body)" not in masks:
            said.append(f"structure {name}: no mask with a voxel, left out")
    return masks, said


def _dose(plan: dict[str, Any], grid: Grid) -> Volume:
    scale = float(plan["dose_scale"])
    if not 0 < scale < np.inf:
        raise ValueError(f"dose_scale {scale:g}; a positive number of Gy is accepted")
    return Volume(_volume(plan["dose"], "dose") * np.float32(plan["dose_scale"]), grid, "Gy")


def _beams(plan: dict[str, Any], grid: Grid) -> tuple[tuple[Beam, ...], list[str]]:
    """An arc with the plan's control-point angles in order, or one static beam for each angle."""
    if "angle_list" not in plan or "isocenter" not in plan:
        return (), []
    x, y, z = grid.to_mm(_isocentre(plan["isocenter"]))
    angles = tuple(sorted(float(a) for a in np.asarray(plan["angle_list"]).ravel()))
    if not all(-360 <= angle <= 360 for angle in angles):
        raise ValueError(f"angle_list {angles[0]:g} to {angles[-1]:g}; -360 to 360 degrees is accepted")
    said = ["isocentre: a whole voxel, as GDP-HMM rounds it"]
    if plan.get("isVMAT"):
        said.append("beams: one arc over the sorted control-point angles (GDP-HMM keeps no order)")
        return (Beam(angles, (x, y, z), name="arc"),), said
    return tuple(Beam((a,), (x, y, z), name=f"G{a:g}") for a in angles), said


def _one_body(masks: dict[str, np.ndarray]) -> list[str]:
    """Some plans have BODY beside Body: Body, which the challenge's own code takes, stays the body."""
    if not {"BODY", "Body"} <= masks.keys():
        return []
    masks["BODY (not the body)"] = masks.pop("BODY")
    return ["structure BODY: called BODY (not the body), as Body is there too"]


def _normalised(dose: Volume, targets: list[Target], masks: dict[str, np.ndarray]) -> tuple[Volume, str]:
    """The dose scaled so that 97 % of the high target receive its prescription, as the challenge does."""
    high = [target for target in targets if target.level == TARGETS[0]]
    if not high:
        return dose, f"dose: as planned, not normalised ({PTV_FILE} with this patient not found)"
    name, level_gy = high[0].structure, high[0].dose_gy
    factor = level_gy / (float(np.percentile(dose.array[masks[name]], 3)) + 1e-5)  # as the challenge does
    scaled = Volume(dose.array * np.float32(factor), dose.grid, "Gy")
    return scaled, f"dose: scaled by {factor:.4f} so that D97% of {name} is {level_gy:g} Gy"


def crop(case: Case) -> Case:
    """The case on the baseline's block of 96 x 128 x 144 voxels round the isocentre; air where it leaves the
    scan."""
    centre = case.grid.to_index(case.beams[0].isocentre_mm)
    start = np.rint(centre).astype(int) - np.array(CROP) // 2
    return case.block((int(start[0]), int(start[1]), int(start[2])), CROP)


def write_prediction(dose: Volume, case: Case, folder: Path) -> Path:
    """Write a dose in Gy as the challenge takes it: <plan>_pred.npy, float32 on the plan's whole grid."""
    path = folder / f"{case.name}_pred.npy"
    with whole(path) as scratch:
        np.save(scratch, dose.resample(case.grid).in_unit("Gy").astype(np.float32))
    return path


def read_prediction(path: Path, case: Case) -> Volume:
    """A <plan>_pred.npy in Gy on the grid of its case; ValueError for another shape or values that are
    none."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: no numpy array ({error})") from error
    if array.shape != case.grid.shape:
        raise ValueError(f"{path}: shape {array.shape}; {case.grid.shape}, that of the plan, is accepted")
    return Volume(_volume(array, "dose"), case.grid, "Gy")


def write_case(case: Case, path: Path) -> None:
    """Write a case as a GDP-HMM plan; the dose as integers of 0.0001 Gy. ValueError without CT and beams."""
    if case.ct is None or not case.beams:
        raise ValueError(f"{case.name}: a CT and beams are needed for a GDP-HMM plan")
    direction, grid = np.asarray(case.grid.direction), case.grid
    plan: dict[str, Any] = {name: mask.astype(np.uint8) for name, mask in case.structures.items()}
    plan |= {
        "all_mask": list(case.structures),
        "img": np.rint(case.ct.in_unit("HU")).astype(np.int16),
        "isVMAT": any(beam.is_arc for beam in case.beams),
        "angle_list": np.array([a for beam in case.beams for a in beam.gantry_deg], dtype=np.float32),
        "isocenter": np.rint(grid.to_index(case.beams[0].isocentre_mm)).astype(np.float32),
        "origin": grid.origin_mm,
        "spacing": grid.spacing_mm,
        "direction": tuple(direction.ravel()),
        "size": grid.shape,
    }
    if case.dose is not None and np.isnan(case.dose.array).any():
        raise ValueError(f"{case.name}: a dose unknown in places, which GDP-HMM cannot say")
    if case.dose is not None:
        plan |= {"dose": np.rint(case.dose.in_unit("Gy") / 1e-4).astype(np.int32), "dose_scale": 1e-4}
    with whole(path) as scratch:
        np.savez_compressed(scratch, np.array(plan, dtype=object))


def _load(path: Path) -> dict[str, Any]:
    """The dictionary of an .npz, without numpy's own unrestricted unpickling."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != [MEMBER]:
                raise ValueError(f"members {', '.join(archive.namelist()[:3])}; one {MEMBER} is accepted")
            if archive.getinfo(MEMBER).file_size > MAX_BYTES:
                raise ValueError("more than 1 GB unpacked; less is accepted")
            with archive.open(MEMBER) as file:
                value = _object(_InPieces(file))
    except Exception as error:  # a foreign pickle can raise anything: it is a bad file
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{path}: holds a {type(value).__name__}; a dictionary by name is accepted")
    return value


class _InPieces:
    """A member of a zip, read a piece at a time: a pickle can ask for gigabytes, and zipfile unpacks as much
    as it is asked for before it cuts that to the size that the directory states."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.readline = file, file.readline

    def read(self, count: int = MAX_BYTES, /) -> bytes:
        """So many bytes, or fewer at the end."""
        pieces: list[bytes] = []
        while count > 0 and (piece := self.file.read(min(count, PIECE_BYTES))):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def _object(file: _InPieces) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read_header(file)
    if shape != () or dtype.kind != "O":
        raise ValueError(f"an array of {dtype} {shape}; one pickled dictionary is accepted")
    return _Unpickler(file).load().item()


def _volume(value: Any, name: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif" or value.ndim != 3:
        raise ValueError(f"{name!r} is no 3D array of numbers")
    return value.astype(np.float32)


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | np.ndarray) else []


def _isocentre(value: Any) -> tuple[float, float, float]:
    """The voxel (z, y, x) of an isocentre, or of a list of them that are all the same."""
    rows = np.asarray(value, dtype=np.float64).reshape(-1, 3)
    if not len(rows) or not (np.isfinite(rows).all() and (rows == rows[0]).all()):
        raise ValueError(f"isocenter {str(value)[:60]}; one voxel for all beams is accepted")
    return _three(rows[0])


def _three(value: Any) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in value)
    return x, y, z
