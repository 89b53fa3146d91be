"""Workers of a Ray cluster: tasks, which Ray puts on any machine of it.

Every machine needs this package and the same paths: patients and outputs lie on a file system that all see.
Ray starts a task again for nobody: retries are counted by the engine, so that a case which kills its worker
does not come back for ever.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from anydose.engine.crew import Done, WorkerDiedError, cores

STORE_BYTES = 256 * 2**20  # of the object store of a local cluster: what is sent are paths and figures
AHEAD = 2  # jobs handed out for each free core of a cluster, which lets an autoscaler see that it is short
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it prints a worker's death on standard output, where results go
}


class RayCrew:
    """One task a job. Without an address a cluster of this machine is started, and stopped at the end."""

    one_death_is_all = False

    def __init__(self, work: Callable[[Any], Done], workers: int, address: str, gpus: float) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise ValueError("--engine ray needs Ray: pip install 'anydose[ray]'") from error
        self.ray: Any = ray
        self.workers = workers
        self.is_ours = not ray.is_initialized()
        if self.is_ours:
            self._join(address)
        self.task = ray.remote(_perform).options(num_cpus=1, num_gpus=gpus, max_retries=0)
        self.work = ray.put(work)

    def _join(self, address: str) -> None:
        own: dict[str, Any] = {"address": address}
        if not address:
            own = {"address": "local", "num_cpus": self.workers or cores(), "include_dashboard": False}
            own["object_store_memory"] = STORE_BYTES
        self.ray.init(**own, log_to_driver=False, logging_level=logging.WARNING)

    def room(self) -> int:
        """As many as the engine says, or twice as many as the cluster has cores at the moment."""
        return self.workers or max(1, int(AHEAD * self.ray.cluster_resources().get("CPU", 1)))

    def hand_out(self, job: Any) -> Any:
        """A task for one job."""
        return self.task.remote(self.work, job)

    def wait(self, tickets: Iterable[Any]) -> Iterable[Any]:
        """Those that are done, at least one."""
        ready, _ = self.ray.wait(list(tickets), num_returns=1, fetch_local=True)
        return list(ready)

    def result(self, ticket: Any) -> Done:
        """What became of a job. Raises WorkerDiedError where its process or machine is gone."""
        gone = self.ray.exceptions
        try:
            done: Done = self.ray.get(ticket)
        except gone.RayTaskError as error:  # the function's own: ends the whole, as in one process
            raise error.as_instanceof_cause() from None
        except (
            gone.WorkerCrashedError,
            gone.OutOfMemoryError,
            gone.NodeDiedError,
            gone.LocalRayletDiedError,
            gone.ObjectLostError,
        ) as error:
            raise WorkerDiedError from error
        return done

    def leave(self, tickets: Iterable[Any]) -> None:
        """End the tasks that nobody waits for, and leave the cluster; one that we started is stopped."""
        for ticket in tickets:
            self.ray.cancel(ticket, force=True)
        if self.is_ours:
            self.ray.shutdown()


def _perform(work: Callable[[Any], Done], job: Any) -> Done:
    return work(job)
