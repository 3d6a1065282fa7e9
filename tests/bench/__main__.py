"""Measure NotPanel on this machine (`make bench`), and print the tables of docs/performance.md.

Creates two databases on the PostgreSQL of DATABASE_URL, or on the embedded one, the second with a hundred times as many
orders as the first, and measures them in turns. Starts a Redis of its own. Reports its progress on standard error.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
import requests
from psycopg import sql

from notpanel.server import embedded
from tests.bench.data import LOADED
from tests.server import free_port

HERE = Path(__file__).resolve().parent
BASE_DIR = HERE.parent.parent
SIZES = (10_000, 1_000_000)  # orders
SECONDS = 4  # how long a measurement that does not end by itself lasts
CLIENTS = 8  # of pgbench and wrk
BATCH = 100

Row = dict[str, float]


def program(name: str, package: str) -> str:
    """Return the path of a program. Ends the run, and says how to install the program, if it is missing."""
    found = shutil.which(name)
    if found is None:
        sys.exit(f"{name} is missing. On Debian and Ubuntu, install it with: apt-get install {package}")
    return found


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=BASE_DIR,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def report(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# ---- Redis and PostgreSQL


@contextmanager
def private_redis(directory: Path) -> Iterator[str]:
    port = free_port()
    command = [program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(directory)], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        redis.Redis.from_url(url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)).ping()
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def private_database(url: str, name: str) -> Iterator[str]:
    """Yield the URL of a new database on the server of ``url``, and drop the database at the end."""

    def administer(*statements: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(name=sql.Identifier(name)))

    drop = "DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    administer(drop, "CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        administer(drop)


# ---- The server


class Server:
    """The production server, as `manage.py serve` runs it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api/v2"
        with (directory / f"server-{port}.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(port)],
                cwd=BASE_DIR,
                env=os.environ | environment,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.post(self.url, timeout=30)
                return
            except requests.ConnectionError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    sys.exit(Path(log.name).read_text())
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def workers(self) -> list[Path]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [Path("/proc") / child for child in children]

    def cpu_seconds(self) -> float:
        """Return the processor time that the workers have used, in user and system mode."""
        ticks = 0
        for worker in self.workers():
            fields = (worker / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> float:
        """Return the largest resident memory that any worker has had, in MB."""
        lines = [line for worker in self.workers() for line in (worker / "status").read_text().splitlines()]
        return max(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


# ---- The measurements of one database


@dataclass
class Bench:
    """A database of ``count`` orders, its keys, the ids for the load, and its servers."""

    count: int
    database: str
    environment: dict[str, str]
    server: Server
    strict_server: Server  # allows one request a minute from an address
    key: str
    limited_key: str
    orders: Path  # ids spread evenly over all orders
    latest_orders: Path

    def reset(self) -> None:
        """Delete the refills that a measurement requested."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("DELETE FROM refills_refill WHERE settled_at IS NULL")
            connection.execute("VACUUM refills_refill")
            connection.execute("CHECKPOINT")

    def pgbench(self) -> Row:
        self.reset()
        share = LOADED // CLIENTS
        with psycopg.connect(self.database) as connection:
            row = connection.execute("SELECT digest FROM apikeys_apikey WHERE limit_per_minute > 1").fetchone()
        assert row is not None
        variables = {"digest": row[0], "step": self.count // LOADED, "share": share, "turn": 0}
        printed = run(
            program("pgbench", "postgresql-contrib"),
            *("--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2"),
            *(f"--transactions={share}", f"--file={HERE / 'transaction.sql'}"),
            *(f"--define={name}={value}" for name, value in variables.items()),
            self.database,
        )
        [line] = [line for line in printed.splitlines() if line.startswith("tps")]
        return {"pgbench": float(line.split()[2])}

    def load(
        self,
        wanted: str,
        body: str = "",
        *,
        key: str = "",
        batch: int = 0,
        orders: Path | None = None,
        header: str = "",
        strict: bool = False,
        but: int = 0,
    ) -> Row:
        """Send requests until no order or no time is left. Returns rates and times.

        Ends the whole run if more than ``but`` answers are not as ``wanted``.
        """
        server = self.strict_server if strict else self.server
        before = server.cpu_seconds()
        printed = run(
            program("wrk", "wrk"),
            *("-t1", f"-c{CLIENTS}", f"-d{60 if batch else SECONDS}s", "-s", HERE / "load.lua"),
            *(("-H", header) if header else ()),
            *(server.url, "--", key or self.key, wanted, body),
            *((orders or self.orders, batch) if batch else ()),
        )
        found = json.loads(printed.splitlines()[-1])
        if found["bad"] > but or found["failed"]:
            sys.exit(f"Not every answer was {wanted!r}: {found}")
        found["cpu"] = (server.cpu_seconds() - before) / found["good"] * 1000
        found["rate"] = found["good"] / found["seconds"]
        return dict(found)

    def refills(self) -> Row:
        self.reset()
        found = self.load('200 {"refill', batch=1)
        refused = self.load("400 ", batch=1)
        return {
            "singles": found["refills"] / found["seconds"],
            "singles p50": found["p50"],
            "singles p99": found["p99"],
            "singles cpu": found["cpu"],
            "refused": refused["rate"],
            "refused cpu": refused["cpu"],
        }

    def batches(self) -> Row:
        found: Row = {}
        for name, orders in (("batches", self.orders), ("latest batches", self.latest_orders)):
            self.reset()
            row = self.load("200 [", batch=BATCH, orders=orders)
            found |= {name: row["refills"] / row["seconds"], f"{name} cpu": row["cpu"]}
        return found

    def reads(self) -> Row:
        ids = ",".join(self.orders.read_text().split()[:BATCH])
        tag = requests.post(self.server.url, {"key": self.key, "action": "services"}, timeout=30).headers["ETag"]
        found = {
            "status": self.load("200 {", f"action=status&orders={ids}"),
            "services": self.load("200 [", "action=services"),
            "services gzip": self.load("200 ", "action=services", header="Accept-Encoding: gzip"),
            "services known": self.load("304 ", "action=services", header=f"If-None-Match: {tag}"),
        }
        return _rates(found)

    def limits(self) -> Row:
        found = {
            "limited address": self.load("429 ", "action=services", strict=True, but=2),
            "limited key": self.load("429 ", "action=services", key=self.limited_key, but=2),
        }
        return _rates(found)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of SQL statements and of round trips to Redis, for each kind of request."""
        self.reset()
        environment = self.environment | {"DJANGO_SETTINGS_MODULE": "notpanel.settings"}
        printed = run(
            *(sys.executable, "-m", "tests.bench.counts", self.key, self.limited_key, self.orders), **environment
        )
        return dict(json.loads(printed))


def _rates(found: Mapping[str, Row]) -> Row:
    return {name: row["rate"] for name, row in found.items()} | {
        f"{name} cpu": row["cpu"] for name, row in found.items()
    }


@contextmanager
def bench(count: int, server_url: str, redis_url: str, directory: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        database = stack.enter_context(private_database(server_url, f"notpanel_bench_{count}"))
        report(f"Creating {count:,} orders")
        orders = directory / f"orders-{count}"
        environment = {
            "DATABASE_URL": database,
            "DATABASE_REPLICA_URL": "",
            "REDIS_URL": redis_url.replace("/0", f"/{SIZES.index(count)}"),
            "SECRET_KEY": "only-for-measuring-" * 3,
            "HTTPS": "off",
        }
        keys = json.loads(run(sys.executable, "-m", "tests.bench.data", count, orders, **environment))
        environment |= dict.fromkeys(("RATE_LIMIT_IP", "RATE_LIMIT_KEY_AGENCY", "RATE_LIMIT_TIER_AGENCY"), "1000000000")
        server = Server(directory, **environment)
        stack.callback(server.stop)
        strict_server = Server(directory, **environment | {"RATE_LIMIT_IP": "1"})
        stack.callback(strict_server.stop)
        latest = orders.with_suffix(".latest")
        yield Bench(count, database, environment, server, strict_server, **keys, orders=orders, latest_orders=latest)


def measure(server_url: str, rounds: int) -> tuple[dict[int, Row], dict[str, tuple[int, int]]]:
    """Return the median of each measurement, for each size, and the counts for each kind of request."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        redis_url = stack.enter_context(private_redis(directory))
        benches = [stack.enter_context(bench(count, server_url, redis_url, directory)) for count in SIZES]
        found: dict[int, dict[str, list[float]]] = {count: defaultdict(list) for count in SIZES}
        steps: tuple[Callable[[Bench], Row], ...] = (
            Bench.pgbench,
            Bench.refills,
            Bench.batches,
            Bench.reads,
            Bench.limits,
        )
        for turn in range(1, rounds + 1):
            for step in steps:
                for one in benches:
                    report(f"Round {turn} of {rounds}: {step.__name__}, {one.count:,} orders")
                    for name, value in step(one).items():
                        report(f"    {name}: {value:.1f}")
                        found[one.count][name].append(value)
        medians = {
            count: {name: statistics.median(values) for name, values in rows.items()} for count, rows in found.items()
        }
        for one in benches:
            medians[one.count]["memory"] = one.server.peak_memory()
        return medians, benches[-1].counts()


# ---- The tables

KINDS = {
    "singles": "a refill",
    "batches": f"{BATCH} refills",
    "latest batches": f"{BATCH} refills of the latest orders",
    "refused": "a refill that a rule refuses",
    "status": f"`status` of {BATCH}",
    "services": "`services`, 5,000 of them",
    "services gzip": "the same, compressed",
    "services known": "the same, known by its ETag",
    "limited address": "refused by the limit of an address",
    "limited key": "refused by the limit of a key",
}
OTHERS = {
    "pgbench": "the transaction alone, by pgbench",
    "singles p50": "a refill, p50 in ms",
    "singles p99": "a refill, p99 in ms",
    "memory": "largest memory of a worker, MB",
}


def table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) + ("---:",) * (len(head) - 1), *body)) + "\n"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def tables(medians: Mapping[int, Row], counts: Mapping[str, tuple[int, int]]) -> str:
    """Return the figures as tables in Markdown: the targets, then each kind of request, then the rest."""
    small, large = (medians[count] for count in SIZES)
    sizes = tuple(f"{count:,} orders" for count in SIZES)

    def ratio(name: str, other: str) -> tuple[str, ...]:
        return tuple(f"{row[name] / row[other]:.2f}" for row in (small, large))

    def flat(name: str) -> tuple[str, ...]:
        return ("", f"{large[name] / small[name]:.2f}")

    def per_request(name: str) -> tuple[str, ...]:
        unit = "refills/s" if name.endswith("batches") else "per s"
        asked = [str(count) for count in counts.get(name, ())] or ["", ""]
        rates = [number(row[name]) for row in (small, large)]
        return (f"{KINDS[name]}, {unit}", *rates, flat(name)[1], f"{large[f'{name} cpu']:.2f}", *asked)

    return "\n".join(
        (
            table(
                ("within one run", *sizes, "target"),
                ("refills, one by one : pgbench", *ratio("singles", "pgbench"), "0.18"),
                (f"refills in batches of {BATCH} : pgbench", *ratio("batches", "pgbench"), "4"),
                ("refused by an address's limit : refills, one by one", *ratio("limited address", "singles"), "4"),
                *(
                    (f"{name}, against {sizes[0]}", *flat(key), target)
                    for name, key, target in (
                        ("pgbench", "pgbench", ""),
                        ("refills, one by one", "singles", "0.9"),
                        ("refills in batches", "batches", "0.9"),
                        ("refills in batches, of the latest orders", "latest batches", "0.9"),
                    )
                ),
            ),
            table(
                ("request", *sizes, "ratio", "CPU ms", "SQL", "Redis"),
                *(per_request(name) for name in KINDS),
            ),
            table(
                ("", *sizes),
                *((label, number(small[name]), number(large[name])) for name, label in OTHERS.items()),
            ),
        )
    )


def machine(server_url: str) -> str:
    with psycopg.connect(server_url) as connection:
        version = connection.info.server_version // 10_000
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, PostgreSQL {version}, Python {platform.python_version()}.\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often to measure; the tables show medians (default: 3)"
    )
    rounds = parser.parse_args().rounds
    for name, package in (("wrk", "wrk"), ("redis-server", "redis-server"), ("pgbench", "postgresql-contrib")):
        program(name, package)
    embedded.provide()
    url = os.environ["DATABASE_URL"]
    found = measure(url, rounds)
    sys.stdout.write(f"{machine(url)}\n{tables(*found)}")


if __name__ == "__main__":
    main()
