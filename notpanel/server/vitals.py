"""The state of this process: its memory, its open files, its pools of connections. Each process reports its own.

The processes that serve publish it every second, in the loop that reads requests, even while all threads wait for the
database. A worker publishes it in a thread.
"""

import os
import threading
import time
from pathlib import Path
from typing import Any

from django.db import connections
from waitress.task import ThreadedTaskDispatcher

from notpanel.kit import metrics

EVERY = 5.0  # seconds, of a worker

PROCESSES = metrics.gauge("notpanel_processes", "Live processes of this server.", role=("server", "worker"))
MEMORY = metrics.gauge("notpanel_memory_bytes", "Resident memory of the processes.", role=("server", "worker"))
FILES = metrics.gauge("notpanel_open_files", "Open files and connections of the processes.", role=("server", "worker"))
REQUESTS = metrics.gauge(
    "notpanel_http_requests",
    "Requests that threads work on, and requests that wait for a thread.",
    state=("running", "waiting"),
)
CONNECTIONS = metrics.gauge("notpanel_http_connections", "Connections of clients.", role=("server",))

_DATABASES = ("default", "replica")
POOL = metrics.gauge(
    "notpanel_pool_connections",
    "Connections to the database: in use, idle, and how many there may be.",
    database=_DATABASES,
    state=("used", "idle", "most"),
)
POOL_WAITING = metrics.gauge("notpanel_pool_waiting", "Requests that wait for a connection.", database=_DATABASES)
POOL_TAKEN = metrics.counter("notpanel_pool_requests", "Connections that were asked for.", database=_DATABASES)
POOL_WAITED = metrics.counter("notpanel_pool_wait_seconds", "Seconds waited for connections.", database=_DATABASES)
POOL_REFUSED = metrics.counter("notpanel_pool_timeouts", "Connections not handed out in time.", database=_DATABASES)
POOL_LOST = metrics.counter("notpanel_pool_lost", "Connections that were found dead.", database=_DATABASES)


def publish(role: str = "server") -> None:
    """Publish the state of this process."""
    PROCESSES.labels(role).set(1)
    if (statm := Path("/proc/self/statm")).exists():
        MEMORY.labels(role).set(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        FILES.labels(role).set(len(os.listdir("/proc/self/fd")))
    for alias, pool in _pools().items():
        _publish_pool(alias, pool)


def publish_http(connections: int, threads: ThreadedTaskDispatcher) -> None:
    """Publish how much this process serves at the moment."""
    CONNECTIONS.labels("server").set(connections)
    REQUESTS.labels("running").set(threads.active_count)
    REQUESTS.labels("waiting").set(len(threads.queue))


def keep_publishing(role: str) -> None:
    """Publish the state of this process every now and then, in a thread that ends with the process."""

    def publish_again() -> None:
        while True:
            publish(role)
            time.sleep(EVERY)

    threading.Thread(target=publish_again, name="vitals", daemon=True).start()


def _pools() -> dict[str, Any]:
    """Return the pools that this process has opened. Asking Django for one would open it."""
    wrapper: Any = connections["default"]
    return {alias: pool for alias, pool in list(wrapper._connection_pools.items()) if alias in _DATABASES}


def _publish_pool(alias: str, pool: Any) -> None:
    found = pool.pop_stats()  # which resets its counters
    size, idle = found.get("pool_size", 0), found.get("pool_available", 0)
    POOL.labels(alias, "used").set(size - idle)
    POOL.labels(alias, "idle").set(idle)
    POOL.labels(alias, "most").set(found.get("pool_max", 0))
    POOL_WAITING.labels(alias).set(found.get("requests_waiting", 0))
    POOL_TAKEN.labels(alias).inc(found.get("requests_num", 0))
    POOL_WAITED.labels(alias).inc(found.get("requests_wait_ms", 0) / 1000)
    POOL_REFUSED.labels(alias).inc(found.get("requests_errors", 0))
    POOL_LOST.labels(alias).inc(found.get("connections_lost", 0))
