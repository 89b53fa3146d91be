"""What people and runs write as text: run records, scorecards, names, synonyms, splits, recipes."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from damage import ODD, flip, nodes, odd_json, odd_text, put, replace_file, truncate
from judge import KINDS, SAME, SILENT, Damage, Kind, same_or_said


def phantom() -> Any:
    """A small patient whose structures a packaged scorecard knows, with a dose."""
    from dataclasses import replace

    from anydose.case.case import Case, Prescription
    from anydose.case.grid import Grid
    from anydose.case.volume import Volume

    grid = Grid((24, 30, 30), (4.0, 4.0, 3.0))
    z, y, x = np.indices(grid.shape)
    masks = {"External": (abs(y - 15) < 13) & (abs(x - 15) < 13)}
    places = {"PTV70": (12, 15, 15), "PTV63": (12, 15, 20), "PTV56": (12, 15, 10), "Brainstem": (20, 15, 15),
              "SpinalCord": (8, 22, 15), "RightParotid": (14, 12, 6), "LeftParotid": (14, 12, 24),
              "Esophagus": (3, 18, 15), "Larynx": (5, 12, 15), "Mandible": (15, 5, 15)}  # fmt: skip
    for name, (k, j, i) in places.items():
        masks[name] = (z - k) ** 2 + (y - j) ** 2 + (x - i) ** 2 < 10
    gy = np.where(masks["External"], 70 - 1.5 * np.hypot(z - 12, y - 15) - abs(x - 15), 0).astype(np.float32)
    levels = {"PTV70": 70.0, "PTV63": 63.0, "PTV56": 56.0}
    case = Case("case", grid, masks, Prescription(levels, 35))
    return replace(case, dose=Volume(np.maximum(gy, 0), grid, "Gy"))


def record_truth(folder: Path) -> Any:
    """A prediction's folder, as predict leaves it."""
    from anydose.deliver.folder import one_result
    from anydose.io import nifti

    case = phantom()
    record = {"case": "case", "target": "dose", "options": {"target": "dose", "steps": 1, "given": []},
              "asked": {"read": {}}, "model": {"file": "m", "sha256": "ab"}, "used": ["ct"],
              "inferred": ["x"],
              "mimicked": True, "warnings": ["y"], "structures": [{"roi": "PTV70", "channel": "ptv"}],
              "inputs": {"ct.csv": "cd"}}  # fmt: skip
    with one_result(folder / "case") as place:
        nifti.write_volume(case.dose, place.scratch / "dose.nii.gz")
        place.finish(record)
    return case


def a_record(folder: Path, case: Any) -> tuple[str, str]:
    """Use the folder as score, report, compare and a cohort's resume do."""
    from anydose.io import run_folder
    from anydose.io.read import read_dose
    from anydose.score.report.run_record import read_beside

    place = folder / "case"
    run_folder.damage(place)
    run_folder.is_result(place)
    dose = read_dose(place, case)
    read_beside(place)
    same = np.allclose(dose.array, case.dose.array, atol=0.01)
    return (SAME, "") if same else (SILENT, "another dose")


def record_json(rng: random.Random, folder: Path) -> str:
    """An odd value in run.json."""
    return odd_json(rng, folder / "case" / "run.json")


def record_text(rng: random.Random, folder: Path) -> str:
    """run.json that is none, cut, or something else."""
    return rng.choice((odd_text, truncate, replace_file))(rng, folder / "case" / "run.json")


def record_dose(rng: random.Random, folder: Path) -> str:
    """The dose beside it altered, cut, gone, or that of another prediction."""
    path = folder / "case" / "dose.nii.gz"
    if rng.random() < 0.3:
        from anydose.case.volume import Volume
        from anydose.io import nifti

        dose = phantom().dose
        nifti.write_volume(Volume(dose.array * np.float32(0.97), dose.grid, "Gy"), path)
        return "another dose under its name"
    return rng.choice((flip, truncate, replace_file))(rng, path)


RECORD: tuple[Damage, ...] = (record_json, record_json, record_text, record_dose)
KINDS["run.json"] = Kind("run.json", record_truth, a_record, RECORD, share=250)


def card_truth(folder: Path) -> Any:
    """The packaged head-and-neck card, a ProKnow one, an ePeerReview one and synonyms."""
    from anydose.score.binding import own_template
    from anydose.score.scorecard import write_scorecard

    case = phantom()
    write_scorecard(own_template(case), folder / "card.json")
    (folder / "proknow.json").write_text(json.dumps(PROKNOW))
    (folder / "peer.csv").write_text(PEER)
    (folder / "synonyms.json").write_text(json.dumps(SYNONYMS))
    return case, {name: _scored(folder / name, case) for name in CARDS}


CARDS = ("card.json", "proknow.json", "peer.csv")
PROKNOW = {"name": "c", "computed": [
    {"type": "MEAN_DOSE_ROI", "roi_name": "LeftParotid", "arg_1": None, "arg_2": None, "objectives": [
        {"label": "IDEAL [10]", "color": [1, 2, 3], "max": 20}, {"label": "UNACCEPTABLE [0]",
        "color": [1, 2, 3],
         "min": 40}]},
    {"type": "DOSE_VOLUME_PERCENT_ROI", "roi_name": "PTV70", "arg_1": 95, "arg_2": None, "objectives": [
        {"label": "UNACCEPTABLE [0]", "color": [1, 2, 3], "max": 60}, {"label": "IDEAL [8]", "color": [1,
        2, 3],
         "min": 66}]}]}  # fmt: skip
PEER = "Structure,Metric,Points\nPTV70,D95%[Gy],(60;0) (70;10)\nLeftParotid,Mean[Gy],(20;10) (40;0)\n"
SYNONYMS = [{"StructureID": "LeftParotid", "TG263": "Parotid_L", "StructureSynonyms": ["par left"]}]


def _scored(path: Path, case: Any) -> Any:
    from anydose.score import binding, importers, scoring, structures

    card = importers.read_any(path)
    groups = structures.read_synonyms(path.parent / "synonyms.json")
    bound = binding.bind(case, card, structures.matching(case, (), groups), False)
    result = scoring.score(bound, case.dose)
    result.text()
    json.dumps(result.to_json(), allow_nan=False)
    return result


def a_card(folder: Path, true: Any) -> tuple[str, str]:
    """Score the same dose; another total must be said by an item that is missing, or by a warning."""
    case, scores = true
    differs, said = [], False
    for name in CARDS:
        if not (folder / f"{name}.changed").exists() and not (folder / "synonyms.json.changed").exists():
            continue
        new, old = _scored(folder / name, case), scores[name]
        same = np.isclose(float(new.total), float(old.total)) and np.isclose(new.maximum, old.maximum)
        if not (same and len(new.items) == len(old.items)):
            differs.append(f"{name}: {float(new.total):.4g} of {new.maximum:.4g}, "
                           f"{float(old.total):.4g} of {old.maximum:.4g}")  # fmt: skip
            said |= len(new.missing) > len(old.missing) or len(new.warnings) > len(old.warnings)
    return same_or_said(iter(differs), said)


FREE = (
    "TemplateName",
    "Site",
    "Creator",
    "Label",
    "Colors",
    "MetricComment",
    "Rank",
    "extra",
    "color",
    "label",
    "name",
)


def card_json(rng: random.Random, folder: Path) -> str:
    """A number or text of a card with an odd value, which cannot be meant."""
    path = folder / rng.choice(("card.json", "card.json", "proknow.json"))
    value = json.loads(path.read_text())
    places = [w for w in nodes(value) if w and not any(key in FREE for key in w)]
    where = rng.choice(places)
    leaf = not isinstance(_at(value, where), (dict, list))
    new = rng.choice([odd for odd in ODD if not (leaf and _is_plain(odd))])
    path.write_text(json.dumps(put(value, where, new)))
    (folder / f"{path.name}.changed").touch()
    return f"{path.name}: {'.'.join(map(str, where))} is {new!r}"


def _at(value: Any, where: tuple[Any, ...]) -> Any:
    for key in where:
        value = value[key]
    return value


def _is_plain(odd: Any) -> bool:
    """Numbers that another card could have there, and what the format lets be absent."""
    return odd is None or odd is True or (isinstance(odd, (int, float)) and abs(odd) < 1e9) or odd == ""


def card_text(rng: random.Random, folder: Path) -> str:
    """A card that is none, cut, or something else."""
    path = folder / rng.choice((*CARDS, "synonyms.json"))
    (folder / f"{path.name}.changed").touch()
    ways = (odd_text, replace_file) if path.suffix == ".csv" else (odd_text, replace_file, truncate)
    return rng.choice(ways)(rng, path)


def card_csv(rng: random.Random, folder: Path) -> str:
    """A line of an ePeerReview card that is none."""
    path = folder / "peer.csv"
    line = rng.choice(("PTV70,D95%[Gy],", "PTV70,D95%[Gy],(60 70)", "PTV70,D95%[Gy],(60;nan) (70;10)",
                       "PTV70",
                       "PTV70,D95%[Gy],(60;0;5) (70;10)", ",,,,,", "PTV70,D-95%[Gy],(60;0) (70;10)",
                       "PTV70,D995%[Gy],(60;0) (70;10)", "PTV70,D95%[Gy],(60,0;0) (70;10)"))  # fmt: skip
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines) + "\n")
    (folder / "peer.csv.changed").touch()
    return f"peer.csv: {line!r}"


def synonyms_json(rng: random.Random, folder: Path) -> str:
    """An odd value among the synonyms."""
    (folder / "synonyms.json.changed").touch()
    return odd_json(rng, folder / "synonyms.json")


CARD = (card_json, card_json, card_json, card_text, card_csv, synonyms_json)
KINDS["scorecard"] = Kind("scorecard", card_truth, a_card, CARD, share=300)


def names_truth(folder: Path) -> Any:
    """A clinic's file of names and a file of splits in both forms."""
    (folder / "names.yaml").write_text('names:\n  "Ohrspeichel li": Parotid_L\n  "RM": SpinalCord\n  "x":\n')
    (folder / "splits.yaml").write_text("train: [a, b]\nvalidation: [c]\n")
    (folder / "splits.csv").write_text("case,split\na,train\nb,train\nc,validation\n")
    return _names(folder)


def _names(folder: Path) -> Any:
    from anydose.case.names import NameMap
    from anydose.io.splits import read_splits

    splits = [read_splits(folder / f"splits.{suffix}") for suffix in ("yaml", "csv")]
    return dict(NameMap.load(folder / "names.yaml").names), *splits


def some_names(folder: Path, true: Any) -> tuple[str, str]:
    """Read all three."""
    found = _names(folder)
    return same_or_said((f"{a} of {b}" for a, b in zip(found, true, strict=True) if a != b), said=False)


def _is_name(odd: Any) -> bool:
    """Whether it could be a case's name, or no answer: none, a number, printable text."""
    return not odd or isinstance(odd, int) or (isinstance(odd, str) and odd.isprintable())


def names_yaml(rng: random.Random, folder: Path) -> str:
    """An odd value in one of the YAML files."""
    path = folder / rng.choice(("names.yaml", "splits.yaml"))
    value = yaml.safe_load(path.read_text())
    where = rng.choice(nodes(value))
    leaf = bool(where) and not isinstance(_at(value, where), (dict, list))
    free = [odd for odd in ODD if not (leaf and _is_name(odd))]
    new = rng.choice([odd for odd in free if odd or where != ("names",)])  # and a file without names
    path.write_text(yaml.safe_dump(put(value, where, new)))
    return f"{path.name}: {'.'.join(map(str, where))} is {new!r}"


def names_text(rng: random.Random, folder: Path) -> str:
    """A file that is none, or something else."""
    path = folder / rng.choice(("names.yaml", "splits.yaml", "splits.csv"))
    return rng.choice((odd_text, replace_file))(rng, path)


def splits_csv(rng: random.Random, folder: Path) -> str:
    """A line of the CSV that is none."""
    path = folder / "splits.csv"
    text = rng.choice(("case,split\na\n", "case,split\na,train,x\n", "case,split\n,train\n",
                       "case,split\na,\n",
                       "case;split\na;train\n", "case,split\na,train\na,train\n",
                       "case,split\na,train\na,validation\n",
                       "case,split,case\na,train,b\n", "case,split\n", "split\ntrain\n",
                       'case,split\n"a,train\n',
                       "case,split\na\0,train\n"))  # fmt: skip
    path.write_text(text)
    return f"splits.csv: {text!r}"


KINDS["names and splits"] = Kind(
    "names and splits", names_truth, some_names, (names_yaml, names_text, splits_csv), 200
)


def recipe_truth(folder: Path) -> Any:
    """Two recipes as YAML."""
    from anydose.train import recipes
    from anydose.train.changes import write_yaml

    write_yaml(recipes.find("any2any"), folder / "recipe.yaml")
    write_yaml(recipes.find("hn-transformer"), folder / "second.yaml")
    return {name: asdict(recipes.find(str(folder / name))) for name in ("recipe.yaml", "second.yaml")}


def a_recipe(folder: Path, true: Any) -> tuple[str, str]:
    """Resolve the changed one; a setting of no sense must be refused."""
    from anydose.train import recipes

    for name, old in true.items():
        new = asdict(recipes.find(str(folder / name)))
        if json.dumps(new, default=str) != json.dumps(old, default=str):
            return SILENT, "other settings"
    return SAME, ""


def recipe_value(rng: random.Random, folder: Path) -> str:
    """A setting that cannot be meant: another type, not finite, or a number of things below 0."""
    path = folder / rng.choice(("recipe.yaml", "second.yaml"))
    value = yaml.safe_load(path.read_text())
    where = rng.choice([w for w in nodes(value) if w])
    old = _at(value, where)
    odd = [o for o in ODD if type(o) is not type(old)]
    if isinstance(old, bool | str):
        odd = [[1], {"a": 1}, 5, -1.5]
    elif isinstance(old, (int, float)):
        odd = [-1, -5, float("nan"), float("inf"), "x", [1], {"a": 1}, 10**30, "\0", True]
    new = rng.choice(odd)
    path.write_text(yaml.safe_dump(put(value, where, new)))
    return f"{path.name}: {'.'.join(map(str, where))}: {old!r} is {new!r}"


def recipe_text(rng: random.Random, folder: Path) -> str:
    """A recipe that is none, or something else."""
    path = folder / rng.choice(("recipe.yaml", "second.yaml"))
    said = rng.choice((odd_text, replace_file))(rng, path)
    if path.is_file() and path.read_bytes().strip(b"\xef\xbb\xbf") == b"{}":
        path.write_text("")  # a recipe that changes nothing is one
    return said


KINDS["recipe"] = Kind("recipe", recipe_truth, a_recipe, (recipe_value, recipe_value, recipe_text), share=250)
