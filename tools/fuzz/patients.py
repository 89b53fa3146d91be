"""NIfTI folders and OpenKBP patients."""

from __future__ import annotations

import gzip
import json
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from damage import ODD, cut_tail, flip, nodes, odd_text, put, replace_file, truncate
from judge import KINDS, Damage, Kind, a_case

ARRAYS = ("ct", "dose", "segmentations/External", "segmentations/PTV_60", "segmentations/Shell")
HEADER: tuple[tuple[int, str, tuple[Any, ...]], ...] = (  # offset, type, odd values of NIfTI-1
    (0, "i", (0, 347, 540, -1)),
    (40, "h", (0, 1, 2, 4, 7, 99, -3)),
    (42, "h", (0, -1, 1, 31, 33, 32767)),
    (44, "h", (0, -1, 39, 41)),
    (46, "h", (0, 13, 15, -1)),
    (48, "h", (0, 2, 5)),
    (70, "h", (0, 1, 2, 4, 8, 64, 128, 1792, 2304, 999, -1)),
    (72, "h", (0, 1, 8, 64)),
    (76, "f", (0.0, 2.0, 5.0, float("nan"))),
    (80, "f", (0.0, -2.0, 4.0, 1e30, float("nan"))),
    (88, "f", (0.0, 0.003, 300.0, float("inf"))),
    (108, "f", (0.0, 352.5, 1e6, -8.0, float("nan"), 356.0)),
    (112, "f", (0.0, -1.0, 2.0, 0.5, float("nan"), float("inf"), 1e30)),
    (116, "f", (-1000.0, 1e6, float("nan"), float("inf"), 500.0)),
    (123, "b", (0, 1, 3, 8, 127)),
    (252, "h", (0, 5, -1, 99)),
    (254, "h", (0, 5, -1, 99)),
    (256, "f", (0.5, float("nan"), 1e30)),
    (268, "f", (50.0, float("nan"), 1e30)),
    (280, "f", (0.0, -1.0, 3.0, float("nan"), 1e-30)),
    (292, "f", (-100.0, float("inf"))),
    (296, "f", (0.7, -1.5)),
    (344, "4s", (b"ni1\0", b"n+2\0", b"\0\0\0\0", b"xxxx")),
)


def nifti_truth(folder: Path) -> Any:
    """The linear patient of the tests, prescribed as its dose has it."""
    from linear_patient import patient

    from anydose.io import nifti
    from anydose.io.read import read_case

    case = patient()
    nifti.write_case(replace(case, beams=case.beams[:2]), folder / "case")
    return read_case(folder / "case")


def _array(rng: random.Random, folder: Path) -> Path:
    return folder / "case" / f"{rng.choice(ARRAYS)}.nii.gz"


def nifti_cut(rng: random.Random, folder: Path) -> str:
    """A packed file cut anywhere."""
    return truncate(rng, _array(rng, folder))


def nifti_flip(rng: random.Random, folder: Path) -> str:
    """Bytes of a packed file changed."""
    return flip(rng, _array(rng, folder))


def nifti_other(rng: random.Random, folder: Path) -> str:
    """Something else under a file's name."""
    return replace_file(rng, rng.choice([_array(rng, folder), folder / "case" / "case.json"]))


def nifti_header(rng: random.Random, folder: Path) -> str:
    """One field of a header with an odd value."""
    path = _array(rng, folder)
    data = bytearray(gzip.decompress(path.read_bytes()))
    offset, kind, values = rng.choice(HEADER)
    value = rng.choice(values)
    struct.pack_into(f"<{kind}", data, offset, value)
    path.write_bytes(gzip.compress(bytes(data), 1))
    return f"{path.name}: header at {offset} is {value!r}"


def nifti_values(rng: random.Random, folder: Path) -> str:
    """Numbers that none of these files has."""
    import nibabel as nib

    path, what = _array(rng, folder), rng.randrange(8)
    image: Any = nib.load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    if what < 4:
        values[3:9] = (np.nan, np.inf, 1e30, -np.inf)[what]
    elif what == 4:
        values = values * 0
    elif what == 5:
        values = -values - 2
    elif what == 6:
        values = values[..., None] if rng.random() < 0.5 else values[0]
    else:
        values = values[: rng.randrange(1, values.shape[0])]
    nib.save(nib.Nifti1Image(values, image.affine), path)
    return f"{path.name}: values {('nan', 'inf', '1e30', '-inf', 'zero', 'negative', 'axes', 'fewer')[what]}"


def nifti_names(rng: random.Random, folder: Path) -> str:
    """A file twice, under another name, or one that does not belong there."""
    case, what = folder / "case", rng.randrange(5)
    path = _array(rng, folder)
    if what == 0:
        (case / "ct.nii").write_bytes(gzip.decompress((case / "ct.nii.gz").read_bytes()))
    elif what == 1:
        (case / path.name).write_bytes(path.read_bytes())
    elif what == 2:
        (case / "ct.nii.gz").rename(case / "scan.nii.gz")
    elif what == 3:
        (case / "pt.csv").write_text(",data\n1,\n")
    else:
        (case / "segmentations" / "._ct.nii.gz").write_bytes(b"\0\5\26\7")
    return f"{path.name}: {('ct twice', 'one twice', 'called scan', 'a CSV beside', 'litter beside')[what]}"


def nifti_words(rng: random.Random, folder: Path) -> str:
    """An odd value in case.json; numbers that could be meant are left alone."""
    path = folder / "case" / "case.json"
    value = json.loads(path.read_text())
    where = rng.choice([place for place in nodes(value) if place and place[0] not in ("name", "inferred")])
    new = rng.choice([odd for odd in ODD if odd not in (0.001, True) and not _is_meant(where, odd)])
    path.write_text(json.dumps(put(value, where, new)))
    return f"case.json: {'.'.join(map(str, where))} is {new!r}"


def _is_meant(where: tuple[Any, ...], odd: Any) -> bool:
    """Angles turn round, and names and collimators are free: another number there is another plan."""
    free = ("gantry_deg", "couch_deg", "collimator_deg", "name", "isocentre_mm", "fractions", "sad_mm")
    return any(key in free for key in where) and (odd is None or isinstance(odd, (int, float, str)))


def nifti_text(rng: random.Random, folder: Path) -> str:
    """case.json that is none."""
    return odd_text(rng, folder / "case" / "case.json")


KINDS["nifti"] = Kind(
    "nifti", nifti_truth, a_case,
    (nifti_cut, nifti_flip, nifti_other, nifti_header, nifti_header, nifti_values, nifti_names, nifti_words,
     nifti_text),
    share=450,
)  # fmt: skip


def openkbp_truth(folder: Path) -> Any:
    """A small patient on OpenKBP's grid, with a dose."""
    from anydose.case.case import Case, Prescription
    from anydose.case.grid import Grid
    from anydose.case.volume import Volume
    from anydose.io import openkbp
    from anydose.io.read import read_case

    grid = Grid(openkbp.SHAPE, (3.9, 3.9, 2.5))
    body = np.zeros(openkbp.SHAPE, dtype=bool)
    body[50:62, 50:75, 45:80] = True
    target, cord = np.zeros_like(body), np.zeros_like(body)
    target[53:58, 55:62, 55:65], cord[50:62, 66:69, 60:63] = True, True
    hu = np.where(body, 30.0, -1024.0).astype(np.float32)
    dose = np.where(body, 20.0, 0.0).astype(np.float32)
    dose[target] = 70.5
    masks = {"possible_dose_mask": body, "PTV70": target, "SpinalCord": cord}
    case = Case(
        "case", grid, masks, Prescription({"PTV70": 70.0}, 35), ct=Volume(hu, grid, "HU"),
        dose=Volume(dose, grid, "Gy"),
    )  # fmt: skip
    openkbp.write_case(case, folder / "case")
    return read_case(folder / "case")


FILES = ("ct", "dose", "possible_dose_mask", "PTV70", "SpinalCord", "voxel_dimensions")


def _csv(rng: random.Random, folder: Path, names: tuple[str, ...] = FILES[:5]) -> Path:
    return folder / "case" / f"{rng.choice(names)}.csv"


def csv_line(rng: random.Random, folder: Path) -> str:
    """One line that is none of the format."""
    path = _csv(rng, folder)
    lines = path.read_text().splitlines()
    number = rng.randrange(1, len(lines))
    index = lines[number].split(",")[0]
    lines[number] = rng.choice((
        f"{index},1,5", f"{index};1.5", f"{index}\t1", "", " ", "x,1", f"{index},x", f"{index},nan",
        f"{index},inf",
        f"{index},-50", f"{index},1e30", "-1,1", "2097152,1", f"{index}.5,1", "nan,1", f"{index},1,",
        ",", "1",
        f"{index},0x10", f"{index},1_0", f"'{index}',1", f'"{index}",1', "1e400,1", f"{index},--1", "#",
        f"{index},-1e-30",
        lines[number - 1], lines[-1] if number < len(lines) - 1 else lines[1], f"{index} ,1 2",
        "9" * 400 + ",1",
    ))  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return f"{path.name} line {number}: {lines[number][:30]!r}"


def csv_whole(rng: random.Random, folder: Path) -> str:
    """The whole text in another form."""
    path, what = _csv(rng, folder), rng.randrange(10)
    text = path.read_text()
    data = text.encode()
    if what == 0:
        data = text.replace("\n", "\r").encode()
    elif what == 1:
        data = text.replace("\n", "\r\n").encode()
    elif what == 2:
        data = text.replace(".", ",").encode()
    elif what == 3:
        data = text.replace(",", ";").encode()
    elif what == 4:
        data = b"\xef\xbb\xbf" + data
    elif what == 5:
        data = text.encode("utf-16")
    elif what == 6:
        data = text.split("\n", 1)[1].encode()
    elif what == 7:
        data = text.split("\n")[0].encode() + b"\n"
    elif what == 8:
        data = data + data.split(b"\n", 1)[1]
    else:
        data = data.replace(b"\n", b"\n\n")
    path.write_bytes(data)
    words = (
        "CR",
        "CRLF",
        "decimal commas",
        "semicolons",
        "BOM",
        "UTF-16",
        "no head",
        "a head alone",
        "twice",
    )
    return f"{path.name}: {(*words, 'blank lines')[what]}"


def csv_cut(rng: random.Random, folder: Path) -> str:
    """A file cut in the middle of a line, or ct and dose with half of their lines."""
    path = _csv(rng, folder)
    if path.stem in ("ct", "dose") and rng.random() < 0.6:
        lines = path.read_text().splitlines(keepends=True)
        kept = rng.randrange(2, int(0.95 * len(lines)))
        path.write_text("".join(lines[:kept]))
        return f"{path.name}: {kept} of {len(lines)} lines"
    return cut_tail(rng, path)


def csv_other(rng: random.Random, folder: Path) -> str:
    """Something else under a file's name."""
    return replace_file(rng, _csv(rng, folder, FILES))


def csv_flip(rng: random.Random, folder: Path) -> str:
    """A few characters that cannot be digits."""
    path = _csv(rng, folder, FILES)
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[rng.randrange(len(data))] = rng.choice(b"\0\x07\xffxyz|{/")
    path.write_bytes(bytes(data))
    return f"{path.name}: three characters changed"


def csv_voxels(rng: random.Random, folder: Path) -> str:
    """Odd voxel dimensions."""
    text = rng.choice((
        "1 2", "1 2 3 4", "a b c", "0 3 3", "-3 3 3", "nan 3 3", "inf 3 3", "0.003 0.003 0.0025",
        "100 100 100", "",
        "3,9 3,9 2,5", "3.9;3.9;2.5", "1e400 1 1", "390 390 250",
    ))  # fmt: skip
    (folder / "case" / "voxel_dimensions.csv").write_text(text.replace(" ", "\n") + "\n")
    return f"voxel_dimensions.csv: {text!r}"


def csv_folder(rng: random.Random, folder: Path) -> str:
    """Files that are needed gone, and files that do not belong there."""
    case, what = folder / "case", rng.randrange(6)
    if what < 3:
        (case / f"{('possible_dose_mask', 'PTV70', 'voxel_dimensions')[what]}.csv").unlink()
    elif what == 3:
        (case / "PTV99.csv").write_text(",data\n1,\n")
    elif what == 4:
        (case / "dose.csv").rename(case / "Dose.CSV")
    else:
        (case / "ct.nii.gz").write_bytes(b"")
    return ("no body", "no target", "no voxels", "an unknown target", "Dose.CSV", "a NIfTI beside")[what]


DAMAGES: tuple[Damage, ...] = (
    csv_line,
    csv_line,
    csv_line,
    csv_whole,
    csv_cut,
    csv_other,
    csv_flip,
    csv_voxels,
)
KINDS["openkbp"] = Kind("openkbp", openkbp_truth, a_case, (*DAMAGES, csv_folder), share=450)
