"""What workers of the tests do; other processes import it."""

import os
import signal
import time


def halve(job):
    """Half of an even number, a while later."""
    number, folder = job
    with (folder / "begun").open("a") as file:
        file.write(f"{number}\n")
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2, os.getpid()


def dies_once(job):
    """The worker that has number 3 is killed, the first time."""
    number, folder = job
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number


def dies_always(job):
    """Number 5 kills every worker that has it."""
    number, _ = job
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def breaks(job):
    """A fault of the program."""
    raise KeyError(job[0])
