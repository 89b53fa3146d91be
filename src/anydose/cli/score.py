"""anydose score, compare and report: what a dose is worth, in numbers and in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydose.cli.names import Name as RoiNames
from anydose.cli.names import Names as ClinicNames
from anydose.cli.names import divided, name_map
from anydose.cli.options import Case as Patient
from anydose.cli.options import Dose, DoseAbove, DoseUnit, Json, Out
from anydose.cli.output import print_json, tell, write_result

if TYPE_CHECKING:
    from anydose.case.case import Case
    from anydose.score.binding import BoundScorecard

Card = Annotated[Path | None, typer.Option(help="PlanScoreCard or ProKnow JSON, ePeerReview CSV.")]
Names = Annotated[list[str] | None, typer.Option(help="ROI=Parotid_L, or SCORECARD=CASE names.")]
Synonyms = Annotated[Path | None, typer.Option(help="JSON dictionary of structure synonyms.")]
Rescale = Annotated[bool, typer.Option(help="Scale the scorecard's doses to the plan's prescription.")]


def score(
    dose: Dose,
    case: Patient,
    scorecard: Card = None,
    name: Names = None,
    names: ClinicNames = None,
    synonyms: Synonyms = None,
    rescale: Rescale = False,
    dose_unit: DoseUnit = "Gy",
    allow_dose_above: DoseAbove = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Score a dose with a scorecard; without one, with the packaged scorecard that fits the case."""
    from anydose.io.read import read_dose
    from anydose.score import scoring

    patient, name = _named(case, names, name)
    bound = _bound(patient, scorecard, name, synonyms, rescale=rescale)
    given = read_dose(dose, patient, unit=dose_unit, allow_above_gy=allow_dose_above)
    result = scoring.score(bound, given)
    write_result(result.to_json(), out)
    if as_json:
        print_json(result.to_json())
    else:
        typer.echo(result.text())


def compare(
    dose: Annotated[Path, typer.Argument(help="Predicted dose, or a folder of them named by case.")],
    case: Annotated[Path, typer.Option(help="The case, or a folder of cases.")],
    reference: Annotated[Path | None, typer.Option(help="Reference dose; default: the case's own.")] = None,
    versus: Annotated[Path | None, typer.Option(help="A second model's doses: paired tests.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write one line a case (the first model's).")] = None,
    perceptual: Annotated[bool, typer.Option(help="ST-LPIPS too (extra: perceptual).")] = False,
    lpips: Annotated[
        tuple[Path, Path] | None, typer.Option(help="LPIPS too: your AlexNet and LPIPS head weights (.pth).")
    ] = None,
    names: ClinicNames = None,
    name: RoiNames = None,
    dose_unit: DoseUnit = "Gy",
    allow_dose_above: DoseAbove = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare doses with their references: errors, PSNR, SSIM, gamma, isodoses, DVH, scorecard."""
    from anydose.io.files import whole
    from anydose.io.read import read_case, read_dose
    from anydose.io.sources import dose_of, sources
    from anydose.score import compare as comparison

    known = name_map(names, name)
    distances = _perceptual(perceptual, lpips)
    paths = [path for _, path in sources(case)]
    models = [doses for doses in (dose, versus) if doses is not None]
    tables: list[list[comparison.Comparison]] = [[] for _ in models]
    for path in paths:
        patient = read_case(path, names=known)
        alone = len(paths) == 1
        truth = read_dose(dose_of(reference, patient.name, alone) if reference else path, patient)
        for doses, table in zip(models, tables, strict=True):
            found = dose_of(doses, patient.name, alone)
            guess = read_dose(found, patient, unit=dose_unit, allow_above_gy=allow_dose_above)
            table.append(comparison.compare(patient, truth, guess, distances))
            for note in table[-1].notes:
                tell(f"{patient.name}: {note}")
    if csv is not None:
        with whole(csv) as scratch:
            comparison.write_csv(tables[0], scratch)
    result = comparison.cohort(*tables)
    write_result(result, out)
    if as_json:
        print_json(result)
    else:
        typer.echo(comparison.text(result))


def report(
    dose: Dose,
    case: Patient,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    scorecard: Card = None,
    name: Names = None,
    names: ClinicNames = None,
    synonyms: Synonyms = None,
    rescale: Rescale = False,
    record: Annotated[Path | None, typer.Option(help="One printed page too: .pdf or .png.")] = None,
    dose_unit: DoseUnit = "Gy",
    allow_dose_above: DoseAbove = None,
) -> None:
    """Write report.html: slices, DVH, scorecard and differences in one file that needs no server."""
    from anydose.io.files import whole
    from anydose.io.read import read_dose
    from anydose.score import compare as comparison
    from anydose.score import scoring
    from anydose.score.report import page, run_record
    from anydose.score.report.html import Report, write_report

    patient, name = _named(case, names, name)
    predicted = read_dose(dose, patient, unit=dose_unit, allow_above_gy=allow_dose_above)
    beside = run_record.read_beside(dose)
    bound, lacking = None, []
    try:
        bound = _bound(patient, scorecard, name, synonyms, rescale=rescale)
    except ValueError as error:
        if scorecard is not None:
            raise
        lacking.append(str(error))
    result = scoring.score(bound, predicted) if bound else None
    against = comparison.compare(patient, patient.dose, predicted) if patient.dose else None
    made = Report(
        patient,
        predicted,
        bound=bound,
        result=result,
        comparison=against,
        provenance={"dose": dose.name, "case": case.name},
        warnings=lacking,
        record=beside,
    )
    with whole(out) as scratch:
        write_report(scratch, made)
    total = result.summary() if result else "no scorecard fits this case; DVH and slices alone"
    if record is not None:
        page.write_page(patient, predicted, record, f"{patient.name}: {total}")
    typer.echo(f"{out}: {total}")


def _named(case: Path, names: Path | None, name: list[str] | None) -> tuple[Case, list[str]]:
    """The patient with the names that were given for its structures, and the --name texts for the
    scorecard."""
    from anydose.case.names import apply_names, naming_warnings
    from anydose.io.read import read_case

    patient = read_case(case, names=name_map(names, None))
    of_rois, of_card = divided(name, patient)
    known = name_map(None, of_rois)
    patient = patient if known is None else apply_names(patient, known)
    for sentence in naming_warnings(patient):
        tell(f"warning: {sentence}")
    return patient, of_card


def _bound(
    patient: Case, scorecard: Path | None, name: list[str] | None, synonyms: Path | None, rescale: bool
) -> BoundScorecard:
    from anydose.score import binding, importers, structures

    card = importers.read_any(scorecard) if scorecard else binding.own_template(patient)
    groups = structures.read_synonyms(synonyms) if synonyms else ()
    return binding.bind(patient, card, structures.matching(patient, name or (), groups), rescale)


def _perceptual(shift_tolerant: bool, weights: tuple[Path, Path] | None) -> dict[str, Any]:
    """The perceptual distances asked for, by name; without any, torch is not imported."""
    if not shift_tolerant and weights is None:
        return {}
    from anydose.model import perceptual

    own = {"st_lpips": perceptual.st_lpips()} if shift_tolerant else {}
    return own | ({"lpips": perceptual.lpips(*weights)} if weights else {})
