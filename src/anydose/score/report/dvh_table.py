"""The table of a dose's figures, one row a structure, as a physicist reads them beside the curves."""

from __future__ import annotations

from typing import Any

from anydose.case.case import Case
from anydose.case.volume import Volume
from anydose.score import metrics
from anydose.score.dvh import DVH, structure_dvh
from anydose.score.metrics import Definition

DOSES = ("D98%[Gy]", "D95%[Gy]", "D50%[Gy]", "D2%[Gy]")
VOLUME = "V20Gy[%]"
COLUMNS = (
    ("volume", "cc", "volume of the structure"),
    ("min", "Gy", "lowest dose"),
    ("mean", "Gy", "mean dose"),
    ("max", "Gy", "highest dose"),
    ("D98", "Gy", "dose that 98 % of the volume receive"),
    ("D95", "Gy", "dose that 95 % of the volume receive"),
    ("D50", "Gy", "median dose"),
    ("D2", "Gy", "dose that the hottest 2 % of the volume receive"),
    ("V20", "%", "volume with at least 20 Gy"),
    ("CI", "", "Paddick conformity of the 95 % isodose of the target's prescription (1 is ideal)"),
    ("HI", "", "ICRU 83 homogeneity, (D2 - D98) / D50 (0 is ideal)"),
)


def figures(case: Case, dose: Volume, name: str) -> list[float | None]:
    """The columns of one structure; None where one does not apply. ValueError where the dose is unknown in
    a part of the structure."""
    of = structure_dvh(case, dose, name)
    row: list[float | None] = [of.volume_cc, of.min_gy, of.mean_gy, of.max_gy]
    row += [metrics.as_float(metrics.evaluate(metrics.parse(text), of)) for text in (*DOSES, VOLUME)]
    return [*row, *_indices(case, dose, name, of)]


def _indices(case: Case, dose: Volume, name: str, of: DVH) -> list[float | None]:
    """Conformity and homogeneity of a target."""
    level_gy = case.prescription.levels_gy.get(name)
    if level_gy is None:
        return [None, None]
    found: list[float | None] = []
    bodies = list(case.of_role("body"))
    for definition in (Definition("PaddickConformity", 0.95 * level_gy, "Gy"), Definition("IcruHomogeneity")):
        try:
            body = None
            if metrics.needs_body(definition) and len(bodies) == 1:
                body = structure_dvh(case, dose, bodies[0])
            found.append(metrics.as_float(metrics.evaluate(definition, of, body)))
        except ValueError:
            found.append(None)
    return found


def table(case: Case, doses: dict[str, Volume], names: list[str]) -> list[dict[str, Any]]:
    """Per structure {'name', one list of figures for each of `doses`, 'why' where one is unknown}."""
    rows = []
    for name in names:
        row: dict[str, Any] = {"name": name, "why": ""}
        for key, dose in doses.items():
            try:
                row[key] = figures(case, dose, name)
            except ValueError as error:
                row[key], row["why"] = None, str(error)
        rows.append(row)
    return rows
