"""Run docs/examples/bot.py many times, killing it at given steps: python -m tests.clients.killed < jobs

Each line of the input is a job in JSON: the arguments, the environment, and the step at which the bot is killed by
SIGKILL (null: at none). Steps are the lines of the bot as they are run, and the moments at which a request was sent and
no answer read. Prints for each job the step that it reached, the line at which the bot was killed, and its exit status.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

BOT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "bot.py"


class Tracer:
    """Counts the steps of the bot. Kills it at ``last``, after writing what it reached to ``pipe``."""

    def __init__(self, last: int | None, pipe: int) -> None:
        self.last, self.pipe, self.step = last, pipe, 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename == str(BOT):
            if event == "line":
                self.count(frame.f_lineno)
            return self
        if event == "call" and frame.f_code.co_name == "getresponse":
            self.count(0)
        return None

    def count(self, line: int) -> None:
        self.step += 1
        if self.step == self.last:
            self.tell(line)
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, line: int | None) -> None:
        os.write(self.pipe, json.dumps([self.step, line]).encode())


def run(arguments: list[str], environment: dict[str, str], last: int | None) -> list[Any]:
    """Run the bot in a process of its own. Returns the step that it reached, where it was killed, and its status."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.environ.update(environment)
        sys.argv = [str(BOT), *arguments]
        tracer = Tracer(last, writing)
        sys.settrace(tracer)
        status = 1
        try:
            runpy.run_path(str(BOT), run_name="__main__")
            status = 0
        finally:
            sys.settrace(None)
            tracer.tell(None)
            os._exit(status)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as told:
        return [*json.load(told), os.waitstatus_to_exitcode(status)]


if __name__ == "__main__":
    for job in sys.stdin:
        print(json.dumps(run(*json.loads(job))), flush=True)  # noqa: T201 - this is what it is for
