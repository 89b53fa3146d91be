"""A worker of the queue that takes a moment for each job, for tests that kill it."""

import os
import sys
import time
from pathlib import Path

from anydose.serve.jobs import Jobs


def main(url: str, folder: Path) -> None:
    jobs, me = Jobs(url, silent_s=0.5, most_attempts=100), f"w{os.getpid()}"
    while jobs.counts()["waiting"] + jobs.counts()["running"]:
        job = jobs.take(me)
        time.sleep(0.02)
        if job is not None:
            (folder / f"{job.request['n']}").touch()
            jobs.finish(job.id, me, {"n": job.request["n"]})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
