"""The HTTP API and the page: patients in, jobs, results out. OpenAPI describes it at /openapi.json."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from anydose import __version__
from anydose.serve import metrics
from anydose.serve.answers import About, Made, Named, Received, Refusal, Status, statuses
from anydose.serve.jobs import DELIVERING, DONE, FAILED, HELD, RELEASED, RUNNING, WAITING, Job, Jobs
from anydose.serve.request import NewPatient, Release, Wanted, keep_scorecard, models, scorecards
from anydose.serve.retention import forget_study
from anydose.serve.room import LEAST_FREE_BYTES, Room
from anydose.serve.survey import surveyed
from anydose.serve.upload import Refused
from anydose.serve.view import REPORT, VIEW

WEB = Path(__file__).parent / "web"
RESULT = (HELD, RELEASED, DELIVERING, DONE)
AT_ONCE = 1  # patients surveyed at a time
Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]
VolumeName = Annotated[str, InPath(pattern=r"^(ct|dose|reference|masks|uncertainty|spread)$")]
CardName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.()+ -]{0,80}[.](json|csv)$")]
FileName = Annotated[str, InPath(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.()+ -]{0,120}$")]
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal} for code in (400, 401, 403, 404, 408, 409, 413, 421, 422, 429, 507)
}


def make_app(
    room: Room, jobs: Jobs, traffic: metrics.Traffic | None = None, workers: Callable[[], int] = lambda: 1
) -> FastAPI:
    """The application. room: where data lie; jobs: the queue; traffic: what has been asked so far; workers:
    how many worker processes live."""
    room.prepare()
    app = FastAPI(title="anydose", version=__version__, description=__doc__, docs_url=None, redoc_url=None)
    app.include_router(_about(room, jobs, traffic or metrics.Traffic(), workers))
    app.include_router(_patients(room, jobs), prefix="/api", responses=REFUSALS)
    app.include_router(_jobs(room, jobs), prefix="/api", responses=REFUSALS)
    app.include_router(_results(room, jobs), prefix="/api", responses=REFUSALS)
    app.mount("/web", StaticFiles(directory=WEB), name="web")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    return app


def _about(room: Room, jobs: Jobs, traffic: metrics.Traffic, workers: Callable[[], int]) -> APIRouter:
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", media_type="text/html")

    @router.get("/web/plotly.js", include_in_schema=False)
    async def plotly() -> FileResponse:
        spec = importlib.util.find_spec("plotly")
        if spec is None or spec.origin is None:
            raise Refused("plotly is not installed", 404)
        return FileResponse(Path(spec.origin).parent / "package_data" / "plotly.min.js")

    @router.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok", "version": __version__}

    @router.get("/ready", responses={503: {"model": Refusal}})
    async def ready() -> JSONResponse:
        """The queue can be read, a worker lives, and the disk has room."""
        jobs.counts()
        why = [] if workers() else ["no worker"]
        why += ["disk full"] if room.free_bytes() < LEAST_FREE_BYTES else []
        return JSONResponse({"detail": ", ".join(why) or "ready"}, 503 if why else 200)

    @router.get("/metrics", responses={401: {"model": Refusal}})
    async def figures() -> PlainTextResponse:
        """Figures for Prometheus."""
        text = metrics.page(traffic, jobs.counts(), room.free_bytes(), workers())
        return PlainTextResponse(text, media_type=metrics.TYPE)

    return router


def _patients(room: Room, jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["patients"])
    sent: dict[str, list[int]] = {}  # patient -> files, bytes; also those that are still coming
    one_by_one = asyncio.Semaphore(AT_ONCE)

    @router.get("/about")
    def what() -> About:
        """What this server does."""
        return About(predicts=not room.node_queue)

    @router.get("/models")
    def there() -> list[dict[str, Any]]:
        """The models there are."""
        from anydose.model.registry import listing

        files = models(room.models)
        rows = [row for row in listing(files) if "dose" in row["modalities"]]
        return [row | {"uncertainty": _is_calibrated(files[row["name"]])} for row in rows]

    @router.get("/scorecards")
    def cards() -> list[str]:
        """The scorecards there are."""
        return list(scorecards(room.scorecards))

    @router.put("/scorecards/{name}", status_code=201)
    async def put_card(name: CardName, request: Request) -> Named:
        """A scorecard of the clinic's own as the body: PlanScoreCard or ProKnow JSON, ePeerReview CSV."""
        content = await request.body()
        async with one_by_one:
            return Named(name=await run_in_threadpool(keep_scorecard, room.scorecards, name, content))

    @router.get("/stored")
    def stored() -> list[str]:
        """The stored cases there are."""
        return list(room.stored())

    @router.get("/names")
    def names() -> list[str]:
        """The names that a structure can be given."""
        from anydose.case.naming import structures

        organs = [row.tg263 for row in structures.table() if row.role == "oar"]
        return ["PTV", "CTV", "GTV", "External", "ignore", *sorted(organs)]

    @router.post("/patients", status_code=201)
    def new_patient(new: NewPatient) -> Made:
        """Begin a patient: files follow, or a stored case is meant."""
        if room.node_queue:
            raise Refused("doses of a DICOM node are reviewed here; studies are sent to the node", 409)
        needed = {job.request.get("patient", "") for job in jobs.newest(states=(WAITING, RUNNING))}
        return Made(id=room.new_patient(new.stored, needed))

    @router.put("/patients/{patient}/files/{path:path}", status_code=201)
    async def put_file(patient: Id, path: str, request: Request) -> Received:
        """One file of a patient, or a zip of them, as the body itself."""
        place = room.place(patient, path)
        so_far = sent.setdefault(patient, list(room.used(patient)))
        if so_far[0] >= room.limits.max_files:
            raise Refused(f"at most {room.limits.max_files} files are accepted", 413)
        so_far[0], size = so_far[0] + 1, 0
        try:
            with place.open("xb") as target:
                async for chunk in request.stream():
                    size, so_far[1] = size + len(chunk), so_far[1] + len(chunk)
                    if so_far[1] > room.limits.max_bytes:
                        raise Refused(f"at most {room.limits.max_bytes} bytes a patient are accepted", 413)
                    await run_in_threadpool(target.write, chunk)
        except BaseException as error:
            place.unlink(missing_ok=True)
            so_far[0], so_far[1] = so_far[0] - 1, so_far[1] - size
            if isinstance(error, OSError):
                raise Refused("the server could not write the file", 507) from error
            raise
        return Received(bytes=size)

    @router.post("/patients/{patient}/survey")
    async def look(patient: Id) -> dict[str, Any]:
        """All files are there: unpack, read, and say what each structure was taken for."""
        async with one_by_one:
            return await run_in_threadpool(_survey, room, patient)

    @router.get("/patients/{patient}")
    def about(patient: Id) -> dict[str, Any]:
        """What is known of a patient."""
        return room.patient(patient)

    @router.delete("/patients/{patient}", status_code=204)
    def forget(patient: Id) -> None:
        """Delete what was uploaded; refused while a job needs it."""
        room.patient(patient)
        if _is_needed(jobs, patient):
            raise Refused("a job needs this patient; delete the job first", 409)
        sent.pop(patient, None)
        room.forget_patient(patient)

    return router


def _is_needed(jobs: Jobs, patient: str) -> bool:
    """Whether a job is still going to read this patient."""
    return any(job.request.get("patient") == patient for job in jobs.newest(states=(WAITING, RUNNING)))


def _is_calibrated(model: Path) -> bool:
    return model.with_name(f"{model.stem}.uncertainty.json").is_file()


def _survey(room: Room, patient: str) -> dict[str, Any]:
    known: dict[str, Any] | None = room.patient(patient).get("survey")
    if known is not None:
        return known
    try:
        room.unpack_zips(patient)
        found = surveyed(room.source(patient))
    except Refused:
        raise
    except ValueError as error:
        raise Refused(str(error).replace(f"{room.data}/", "")) from error
    room.note(patient, survey=found)
    return found


def _jobs(room: Room, jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["jobs"])

    @router.post("/jobs", status_code=202)
    def submit(wanted: Wanted) -> Status:
        """Ask for a prediction; answered once it is on disk."""
        if "survey" not in room.patient(wanted.patient):
            raise Refused("this patient has not been surveyed: POST /api/patients/ID/survey", 409)
        for kind, name, known in (
            ("model", wanted.model, models(room.models)),
            ("scorecard", wanted.scorecard, {"": None, **scorecards(room.scorecards)}),
        ):
            if name not in known:
                raise Refused(
                    f"{kind} {ascii(name[:60])}: one of {', '.join(filter(None, known))} is accepted"
                )
        counts = jobs.counts()
        if counts[WAITING] + counts[RUNNING] >= room.limits.max_active:
            raise Refused(f"{room.limits.max_active} jobs wait already; later ones are accepted", 429)
        source = str(room.source(wanted.patient))
        return _now(room, jobs, jobs.submit(wanted.model_dump(), place=source, hold=True))

    @router.get("/jobs")
    def listed() -> list[Status]:
        """The newest 200 jobs."""
        return statuses(jobs, jobs.newest(), room.called)

    @router.get("/jobs/{job}")
    async def one(job: Id) -> Status:
        """How far a job is."""
        return _now(room, jobs, _found(jobs, job))

    @router.post("/jobs/{job}/release")
    def release(job: Id, release: Release) -> Status:
        """A person has reviewed the dose: its files can be fetched from now on."""
        _found(jobs, job)
        if not jobs.release(job, release.by):
            raise Refused("only a result that is held can be released", 409)
        found = _found(jobs, job)
        if room.remove_released and not room.node_queue and not _is_needed(jobs, found.request["patient"]):
            room.forget_patient(found.request["patient"])
        return _now(room, jobs, found)

    @router.delete("/jobs/{job}", status_code=204)
    def forget(job: Id) -> None:
        """Delete a job and its result, and what it was made from if no other job means it."""
        found = _found(jobs, job)
        if not jobs.delete(job):
            raise Refused("a job that is worked on cannot be deleted", 409)
        if room.node_queue:
            forget_study(room.data, jobs, found)
            return
        room.forget_result(job)
        patient = found.request["patient"]
        if all(other.request.get("patient") != patient for other in jobs.newest()):
            room.forget_patient(patient)

    return router


def _results(room: Room, jobs: Jobs) -> APIRouter:
    router = APIRouter(tags=["results"])

    @router.get("/jobs/{job}/view")
    def view(job: Id) -> FileResponse:
        """Facts, DVH, scorecard with hard limits, comparison and notes."""
        _finished(jobs, job)
        return _file(room.results / job / "view" / VIEW, "application/json")

    @router.get("/jobs/{job}/volumes/{name}")
    def volume(job: Id, name: VolumeName) -> FileResponse:
        """A volume of the view as NIfTI (.nii.gz)."""
        _finished(jobs, job)
        return _file(room.results / job / "view" / f"{name}.nii.gz", "application/gzip")

    @router.get("/jobs/{job}/files")
    def files(job: Id) -> list[str]:
        """The files of a result."""
        _finished(jobs, job)
        return [REPORT, *(path.name for path in sorted((room.results / job / "prediction").glob("*.*")))]

    @router.get("/jobs/{job}/files/{name}")
    def file(job: Id, name: FileName) -> FileResponse:
        """A file of a released result: RTDOSE, NIfTI, report, run record."""
        if _finished(jobs, job).state == HELD:
            raise Refused("this result is held for review; release it first", 409)
        folder = room.results / job
        places = {path.name: path for path in (folder / "prediction").glob("*.*")}
        place = {**places, REPORT: folder / "view" / REPORT}.get(name)
        if place is None:
            raise Refused(f"file {ascii(name)}: not found", 404)
        return _file(place, "application/octet-stream", name)

    return router


def _now(room: Room, jobs: Jobs, job: Job) -> Status:
    return statuses(jobs, [job], room.called)[0]


def _found(jobs: Jobs, name: str) -> Job:
    job = jobs.find(name)
    if job is None:
        raise Refused("no such job", 404)
    return job


def _finished(jobs: Jobs, name: str) -> Job:
    job = _found(jobs, name)
    if job.state == FAILED:
        raise Refused(f"this job failed: {job.error}", 409)
    if job.state not in RESULT:
        raise Refused(f"this job is {job.state}", 409)
    return job


def _file(path: Path, kind: str, name: str | None = None) -> FileResponse:
    if not path.is_file():
        raise Refused("not found", 404)
    return FileResponse(path, media_type=kind, filename=name)
