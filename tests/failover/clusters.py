"""A primary PostgreSQL server and its standby, and what may happen to their machines."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from notpanel.server import embedded
from tests.server import free_port

PASSWORD = secrets.token_hex(16)
SETTINGS = {
    "unix_socket_directories": "",
    "wal_level": "replica",
    "wal_keep_size": "512MB",  # else pg_rewind, which first lets the old primary recover, may miss what that recycles
    "lc_messages": "C",
}
PATIENCE = 120.0  # seconds in which a server must do what it was told to


class Machine:
    """Where a server runs: this machine, on which it can be killed or frozen."""

    address, network = "127.0.0.1", "127.0.0.1/32"  # ``network`` is where connections are accepted from
    prefix: Sequence[str] = ()  # of the commands that run there

    def vanish(self) -> None:
        raise NotImplementedError

    def come_back(self) -> None:
        """Do nothing: it is here."""


class Namespace(Machine):
    """A network namespace, whose link to the others may be cut: then its packets are dropped silently.

    Only root can make one. ``number`` is part of its address.
    """

    BRIDGE, NET, network = "failover-br", "10.213.7", "10.213.7.0/24"

    def __init__(self, number: int) -> None:
        self.name, self.link = f"failover-{number}", f"failover-v{number}"
        self.address = f"{self.NET}.{number}"
        self.prefix = ("ip", "netns", "exec", self.name)
        if not Path(f"/sys/class/net/{self.BRIDGE}").exists():
            _run("ip", "link", "add", self.BRIDGE, "type", "bridge")
            _run("ip", "address", "add", f"{self.NET}.254/24", "dev", self.BRIDGE)
            _run("ip", "link", "set", self.BRIDGE, "up")
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _run("ip", "link", "set", self.link, "master", self.BRIDGE, "up")
        _run(*self.prefix, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        _run(*self.prefix, "ip", "link", "set", "eth0", "up")
        _run(*self.prefix, "ip", "link", "set", "lo", "up")

    def vanish(self) -> None:
        # Its neighbours go on sending to its hardware address, as they do for some time when a machine loses power.
        _run("ip", "link", "set", self.link, "nomaster")

    def come_back(self) -> None:
        _run("ip", "link", "set", self.link, "master", self.BRIDGE)

    def remove(self) -> None:
        for what in (("netns", "delete", self.name), ("link", "delete", self.link)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("ip", *what)

    @classmethod
    def remove_bridge(cls) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "link", "delete", cls.BRIDGE)


class Cluster:
    """A PostgreSQL server with its files in ``directory``. It runs the embedded server's programs, or others."""

    def __init__(self, name: str, directory: Path, machine: Machine, programs: Path | None = None) -> None:
        self._owner: Any = embedded._Server(directory / name)  # knows the programs, and the user as whom root runs them
        self.name, self.machine, self.port = name, machine, free_port()
        self.programs = programs or self._owner.programs
        self.home = self._owner.home / "data"
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"{self.machine.address}:{self.port}"

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}:{PASSWORD}@{self.host}/{database}?connect_timeout=5"

    def call(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL on the machine of this server. What it prints is shown if it fails."""
        command, how = self._command(program, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, **how)
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def _command(self, program: str, *arguments: str) -> tuple[list[str], dict[str, Any]]:
        """Return what subprocess runs, and how: on the server's machine and as its user."""
        command, how = [str(self.programs / program), *arguments], self._owner._as_account()
        if self.machine.prefix:  # only root enters a namespace, and gives up its rights there
            user, group, _ = how.pop("user"), how.pop("group"), how.pop("extra_groups")
            drop = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups")
            command = [*self.machine.prefix, *drop, *command]
        return command, how

    # ---- Its life

    def make(self) -> None:
        """Make it a primary with an empty database."""
        secret = self.home.with_name("password")
        secret.write_text(PASSWORD)
        self._owner._give(secret)
        # pg_rewind needs the checksums.
        how = (
            "--encoding=UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "--no-sync",
            "--data-checksums",
        )
        self.call("initdb", "-D", str(self.home), "-U", "postgres", *how)
        secret.unlink()
        with (self.home / "postgresql.conf").open("a") as file:  # a base backup has a copy of it
            file.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        with (self.home / "pg_hba.conf").open("a") as file:
            file.write(f"host all,replication all {self.machine.network} scram-sha-256\n")
        self.start()
        self.run_sql(f"CREATE ROLE notpanel LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE notpanel OWNER notpanel")

    def follow(self, primary: "Cluster") -> None:
        """Make it a standby of another one, by a base backup, and wait until it streams."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.call(
            "pg_basebackup", "-D", str(self.home), "-d", self._source(primary), "-R", "-X", "stream", "-c", "fast"
        )
        self.start()
        primary.wait_for_standby(self.name)

    def rejoin(self, primary: "Cluster") -> None:
        """Make the old primary, which was killed, a standby of the one that was promoted, by pg_rewind."""
        self.call("pg_rewind", "-D", str(self.home), f"--source-server={self._source(primary)}", "-R")
        self.start()
        primary.wait_for_standby(self.name)

    def _source(self, primary: "Cluster") -> str:
        # synchronous_standby_names refers to the application's name.
        return psycopg.conninfo.make_conninfo(primary.url(), dbname="postgres", application_name=self.name)

    def start(self) -> None:
        listens = ("-p", str(self.port), "-h", self.machine.address)
        command, how = self._command("postgres", "-D", str(self.home), *listens)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **how
            )
        wait_until(self._answers, f"{self.name} does not start: {self.log}")

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return bool(self.ask("SELECT true"))
        return False

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the server at once."""
        if self._process and self._process.poll() is None:
            postmaster = self._process.pid
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            for pid in (postmaster, *map(int, children)):  # first the one that could start others
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    # ---- What is asked of it

    def ask(self, query: str, database: str = "postgres") -> Any:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            row = connection.execute(query).fetchone()
            return row[0] if row else None

    def rows(self, query: str, database: str = "postgres") -> list[Any]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def run_sql(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @contextlib.contextmanager
    def receiving_nothing(self) -> Iterator[None]:
        """Let this standby receive nothing for a while, and never what was on its way, as over a slow network."""
        receiver = int(self.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'"))
        os.kill(receiver, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(receiver, signal.SIGTERM)  # it obeys before it reads on
            os.kill(receiver, signal.SIGCONT)

    def promote(self) -> None:
        """Make it a primary. Returns once it takes writes."""
        self.ask("SELECT pg_promote(true, 60)")
        wait_until(lambda: not self.ask("SELECT pg_is_in_recovery()"), f"{self.name} was not promoted")

    def commit_on_both(self, standby: str) -> None:
        """Let each commit wait until the standby has it on its disk. An empty name ends that."""
        self.run_sql(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'", "SELECT pg_reload_conf()")
        wanted = "sync" if standby else "async"
        query = f"SELECT count(*) FROM pg_stat_replication WHERE sync_state = '{wanted}' AND state = 'streaming'"
        wait_until(lambda: self.ask(query) == 1, f"{self.name} has no {wanted} standby")

    def wait_for_standby(self, name: str) -> None:
        query = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        wait_until(lambda: self.ask(query) == 1, f"{name} does not follow {self.name}")


def wait_until(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.05)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
