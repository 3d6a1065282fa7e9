"""The processes of an installation, each of which may be killed at any moment and is started again."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent.parent
POSTGRES = """
import sys
from pathlib import Path
from notpanel.server import embedded
print(embedded.start(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Part:
    """A process, in a group of its own. ``keep_running`` is its supervisor.

    ``program`` is Python unless given; it runs as the owner of the file ``runs_as``, if that is given.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *command: str,
        environment: Mapping[str, str] | None = None,
        program: str = sys.executable,
        runs_as: Path | None = None,
    ) -> None:
        self.name, self.log = name, log
        self.environment = dict(environment or {})  # of its next start
        self._command = (program, *command)
        self._owner: dict[str, Any] = {}
        if runs_as and os.geteuid() == 0:
            owner = runs_as.stat()
            self._owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._down_until = 0.0

    @property
    def pid(self) -> int | None:
        """Return its process id, if it is running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def children(self) -> list[int]:
        """Return the ids of its processes below the first."""
        with contextlib.suppress(OSError):
            return [int(each) for each in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def keep_running(self) -> None:
        """Start it unless it is running or is to stay down. Call this regularly."""
        if time.monotonic() < self._down_until or (self._process and self._process.poll() is None):
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=BASE_DIR,
                env=os.environ | self.environment,
                stdin=subprocess.PIPE,  # ends with this process, which ends the holder of PostgreSQL
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._owner,
            )

    def come_back(self) -> None:
        """Allow it to be started again at once."""
        self._down_until = 0.0

    def terminate(self, down: float = 0.0, number: int = signal.SIGTERM) -> None:
        """Tell it to stop by SIGTERM, and wait until it has. It stays down for so many seconds."""
        self._down_until = time.monotonic() + down
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(60)

    def kill(self, down: float = 0.0) -> bool:
        """Kill it by SIGKILL. It stays down for so many seconds. Returns whether it was running."""
        self._down_until = time.monotonic() + down
        if self._process is None or self._process.poll() is not None:
            return False
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        return True


class Postgres(Part):
    """The embedded PostgreSQL in a directory, and the process that holds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        super().__init__("PostgreSQL", directory.with_name("postgres-holder.log"), "-c", POSTGRES, str(directory))
        self.log.unlink(missing_ok=True)  # left by an earlier run

    def url(self) -> str:
        """Return its address, once it runs."""
        while True:
            self.keep_running()
            if (text := self.log.read_text()).startswith("postgresql://"):
                return text.splitlines()[0]
            time.sleep(0.1)

    def kill(self, down: float = 0.0) -> bool:
        postmaster = self._postmaster()
        super().kill(down)
        if postmaster is None:
            return False
        return _kill(postmaster)

    def kill_one_backend(self, down: float = 0.0) -> bool:
        """Kill one of its processes: it ends all connections and recovers. Returns whether there was one."""
        postmaster = self._postmaster()
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            return bool(children) and _kill(int(children[-1]))
        return False

    def stop(self) -> None:
        """Let it stop as it does when its last user leaves."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            self._process.wait()

    def _postmaster(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int((self._directory / "postmaster.pid").read_text().splitlines()[0])
        return None


def _kill(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False
