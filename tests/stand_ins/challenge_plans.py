"""GDP-HMM plans in the challenge's own layout, made of procedural patients: folders of a site and phase,
meta_files/ with the side files, one pickled dictionary a plan. As varied as the real ones: patients of every
source and number of target levels, each on a grid of its own; one plan has no organ, one a single beam, and
of each site's last patient the challenge keeps the doses to itself."""

import csv
import json
import pickle
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path

import challenge_names
import numpy as np
from patients import phantom_of
from scipy import ndimage

SIDE_FILES = Path(__file__).parents[2].parent / "shared" / "gdphmm"
FOLDERS = {"1": "HaN", "2": "Lung"}  # of the sites
SHAPE = (12, 28, 28)  # voxels of a plan (z, y, x), and so many more or less
MORE_OR_LESS = (3, 4, 4)
NO_ORGANS, ONE_BEAM, BOTH_BODIES = 4, 6, 1  # numbers of the plans that are odd in this way
SPACING = (2.5, 2.5, 2.0)
HEAD_NECK_PLANS = (("15Ag", "9Ag", "A4Ac"), ("S215Ag", "S29Ag", "S2A4Ac"))
META = ["PID", "PlanID", "isVMAT", "cohort", "site", "phase", "dev_split", "npz_path", "D05_div_D95"]


@dataclass(frozen=True)
class Patient:
    """What the side files say of one patient."""

    name: str
    site: str
    targets: dict
    objects: list
    plans: list

    @property
    def shape(self):
        """The grid (z, y, x) of its plans: its body's box, which no two patients share."""
        rng = np.random.default_rng(int.from_bytes(self.name.encode()) % 2**31)
        return tuple(
            n + int(k)
            for n, k in zip(SHAPE, rng.integers(np.negative(MORE_OR_LESS), MORE_OR_LESS), strict=True)
        )


def catalogue(each_site):
    """So many patients of each site: real ones where the side files are, else of the same form. First one of
    each source and number of target levels, as far as they go; of several the last is of phase valid."""
    if not SIDE_FILES.is_dir():
        phases = ["train"] * max(1, each_site - 1) + ["valid"] * (each_site > 1)
        return [make(k, phase) for make in (_head_neck, _lung) for k, phase in enumerate(phases)]
    ptv, objects = (json.loads((SIDE_FILES / f).read_text()) for f in ("PTV_DICT.json", "Pat_Obj_DICT.json"))
    with (SIDE_FILES / "meta_data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = {(site, phase): {} for site in FOLDERS for phase in ("train", "valid")}
    for row in rows:
        if row["PID"] in ptv and row["PID"] in objects:
            found[row["site"], row["phase"]].setdefault(row["PID"], []).append(row)
    enough = {"1": 3, "2": 2}
    wanted = []
    for (site, phase), patients in found.items():
        groups = {}
        for name, plans in patients.items():
            if len(plans) >= enough[site]:
                group = groups.setdefault((name.rstrip("0123456789"), len(ptv[name])), [])
                group.append(Patient(name, site, ptv[name], objects[name], plans))
        in_turn = [p for group in zip_longest(*groups.values()) for p in group if p]
        wanted += in_turn[: max(1, each_site - 1) if phase == "train" else each_site > 1]
    return wanted


def _row(name, site, plan, vmat, k, phase):
    file = f"/d/{FOLDERS[site]}/{phase}/{name}+{plan}+MOS_{k}.npz"
    split = ("train", "valid")[k % 2] if phase == "train" else "test"
    values = (name, plan, vmat, 1, site, phase, split, file, 1.04)
    return dict(zip(META, map(str, values), strict=True))


def _head_neck(k, phase):
    name = ("0522c", "HN-CHUS-", "HNC_", "HNSCC-01-")[k % 4] + f"{k + 1:04d}"
    levels = ((("High", 70), ("Mid", 63), ("Low", 56)), (("High", 66.0), ("Low", 54)), (("High", 67.0),))[
        k % 3
    ]
    targets = {
        f"PTV_{grade}": {"OPTName": f"PTV{grade}OPT", "StructName": f"PTV{grade}", "PDose": gy}
        for grade, gy in levels
    }
    plans = [_row(name, "1", plan, plan.endswith("Ac"), k, phase) for plan in HEAD_NECK_PLANS[k % 2]]
    return Patient(name, "1", targets, [*challenge_names.HEAD_NECK, "PTVHighOPT", "PTVMid", "PTVLow"], plans)


def _lung(k, phase):
    name = f"0617-{k:06d}" if k % 2 else f"LUNG1-{k + 1:03d}"
    plans = [_row(name, "2", plan, plan == "2Ac", k, phase) for plan in ("2Ac", "imrt")]
    high = {"OPTName": "PTV", "PDose": 60}
    return Patient(name, "2", {"PTV_High": high}, [*challenge_names.LUNG, "PTV"], plans)


@lru_cache(maxsize=1)
def anatomy(shape):
    """A block of a procedural patient round its targets: CT, body, three nested targets, organs."""
    whole = phantom_of(0)
    centre = np.argwhere(np.logical_or.reduce(list(whole.targets.values()))).mean(axis=0).astype(int)
    block = whole.block(tuple(int(c) - n // 2 for c, n in zip(centre, shape, strict=True)), shape)
    body = block.body.copy()
    body[:, :2] = body[:, -2:] = False
    return block.ct.array, body, dict(block.structures)


def plan_of(patient, row, every):
    """One plan's dictionary, with `every`-th of the patient's organs (0: with none)."""
    shape = patient.shape
    image, body, masks = anatomy(shape)
    rng = np.random.default_rng(int.from_bytes(patient.name.encode()) % 2**32)
    high, mid, low = (masks[name] & body for name in ("PTV70", "PTV63", "PTV56"))
    level, plan = np.zeros(shape, np.float32), {}
    for grade, mask in (("Low", low | mid | high), ("Mid", mid | high), ("High", high)):
        about = patient.targets.get(f"PTV_{grade}")
        if about:
            level[mask] = about["PDose"]
            plan |= {key: mask for key in (about["OPTName"], about.get("StructName")) if key}
    organs = [name for name in patient.objects if "PTV" not in name.split("-")[0] and "Ring" not in name]
    for k, name in enumerate(sorted(organs)):
        centre = np.array([rng.integers(3, n - 3) for n in shape])
        near = ((np.indices(shape).T - centre) ** 2).sum(axis=-1).T < 14
        if every and k % every == 0:
            plan[name] = near & body
    for name in (n for n in patient.objects if "Ring" in n):
        plan[name] = ndimage.binary_dilation(high, iterations=2) & ~high & body
    count = (
        12 if row["isVMAT"] == "True" else 15 if "15" in row["PlanID"] else 9 if "9" in row["PlanID"] else 7
    )
    angles = np.linspace(0, 360, count, endpoint=False)
    dose = ndimage.gaussian_filter(level, 1.5) * body * np.float32(0.93)  # not yet normalised
    isocentre = [float(c) for c in np.argwhere(high).mean(axis=0).round()]
    plan = {name: mask.astype(np.uint8) for name, mask in plan.items() if mask.any()}
    return plan | {
        "Body": body.astype(np.uint8),
        "all_mask": [*plan, "Body"],
        "img": image.astype(np.int16),
        "dose": np.rint(dose / 1e-3).astype(np.int32),
        "dose_scale": np.float64(1e-3),
        "isVMAT": row["isVMAT"] == "True",
        "angle_list": angles.astype(np.float64),
        "angle_plate": np.zeros(shape[1:], np.float32),
        "beam_plate": np.zeros(shape, np.float32),
        "isocenter": [isocentre] * 3 if row["isVMAT"] == "True" else isocentre,
        "origin": (0.0, 0.0, 0.0),
        "spacing": SPACING,
        "direction": tuple(np.eye(3).ravel()),
        "size": shape,
    }


def write_npz(plan, path, numpy_1=False):
    """One pickled dictionary, by this numpy or as numpy 1 writes it: protocol 3, its modules under numpy.core
    (bit by bit what numpy 1.26.4 made of such a dictionary)."""
    if not numpy_1:
        np.savez_compressed(path, np.array(plan, dtype=object))
        return path
    body = pickle.dumps(np.array(plan, dtype=object), protocol=3).replace(b"cnumpy._core.", b"cnumpy.core.")
    head = "{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00v\x00" + head.encode() + body)
    return path


def write_cohort(root, each_site):
    """Every plan of so many patients a site; returns {file of a plan: its patient}. Organs of the first of a
    site are complete, of others every fourth."""
    (root / "meta_files").mkdir(parents=True)
    patients = catalogue(each_site)
    seen, files = set(), {}
    for patient in patients:
        every = 4 if patient.site in seen else 1
        seen.add(patient.site)
        for k, row in enumerate(patient.plans):
            path = root.joinpath(*row["npz_path"].rsplit("/", 3)[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            plan = plan_of(patient, row, 0 if len(files) == NO_ORGANS else every)
            if row["phase"] == "valid":
                plan = {key: value for key, value in plan.items() if not key.startswith("dose")}
            if len(files) == BOTH_BODIES:
                plan["BODY"] = np.ones(patient.shape, np.uint8)
            if len(files) == ONE_BEAM:
                plan |= {"angle_list": plan["angle_list"][:1], "isVMAT": False}
            files[write_npz(plan, path, numpy_1=k % 2 == 0)] = patient
    (root / "meta_files" / "PTV_DICT.json").write_text(json.dumps({p.name: p.targets for p in patients}))
    with (root / "meta_files" / "meta_data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, META, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for patient in patients for row in patient.plans)
    return files
