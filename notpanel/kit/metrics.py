"""What apps count and measure for Prometheus, and how the processes of a server add it up.

Every metric has labels. Their values are few: names of our own, or ids of what operators made, such as suppliers. Never
label with what a client chose, an account, an address or a link: each new value is a time series for ever.
"""

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from notpanel.environment import metrics_directory, set_metrics_directory

disable_created_metrics()  # Prometheus does not use the times at which series began, each of which is a series
REGISTRY = CollectorRegistry(auto_describe=False)
PREFIX = "notpanel-metrics-"

_M = TypeVar("_M", bound=MetricWrapperBase)
_known: list[tuple[MetricWrapperBase, tuple[Sequence[str], ...]]] = []

# Reads figures from the database as of now, over the default connection, in few statements that indexes serve.
Reader = Callable[[datetime], Iterable[Metric]]
readers: dict[str, Reader] = {}  # by the name of what they read


def counter(name: str, documentation: str, **labels: Sequence[str]) -> Counter:
    """Declare a counter with its labels. Give each the values that it may have, or none if they are not known yet.

    A series whose labels are all known is reported as 0 before it first counts, so that its first event is noticed.
    """
    return _beginning(Counter(name, documentation, list(labels), registry=REGISTRY), labels)


def histogram(name: str, documentation: str, buckets: Sequence[float], **labels: Sequence[str]) -> Histogram:
    """Declare a histogram of seconds, with its labels as ``counter`` takes them."""
    return _beginning(Histogram(name, documentation, list(labels), buckets=buckets, registry=REGISTRY), labels)


def gauge(name: str, documentation: str, mode: Any = "livesum", **labels: Sequence[str]) -> Gauge:
    """Declare a gauge of the live processes, which ``mode`` combines, with its labels as ``counter`` takes them."""
    return _beginning(Gauge(name, documentation, list(labels), registry=REGISTRY, multiprocess_mode=mode), labels)


def _beginning(metric: _M, labels: dict[str, Sequence[str]]) -> _M:
    _known.append((metric, tuple(labels.values())))
    return metric


def collect() -> Iterable[Metric]:
    """Yield what the processes that share a directory have counted, or else this one."""
    for metric, each in _known:
        for known in itertools.product(*each):
            metric.labels(*known)
    if directory := metrics_directory():
        files = [str(file) for file in Path(directory).glob("*.db") if _has_begun(file)]
        yield from MultiProcessCollector.merge(files, accumulate=True)
    else:
        yield from REGISTRY.collect()


def _has_begun(file: Path) -> bool:
    """Return whether a process has filled its file. One that starts has only made it; that of a dead one may vanish."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def age(name: str, documentation: str, length: timedelta | None) -> GaugeMetricFamily:
    """Return an age in seconds as a figure of the database. None, where there is nothing to age, becomes 0."""
    return GaugeMetricFamily(name, documentation, value=length.total_seconds() if length else 0)


# ---- The processes of one server


def share() -> Path:
    """Let this process, and all that it starts from now on, keep their metrics in files. Returns their new directory.

    Call it before anything is counted. The files end with the server: all its counters begin at 0 together, which
    Prometheus recognises as a restart. A file that vanished alone would look like a reset of the sum.
    """
    _remove_of_the_dead()
    directory = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_base())
    set_metrics_directory(directory)
    values.ValueClass = values.MultiProcessValue()  # metrics without labels would have asked for their values already
    return Path(directory)


def are_shared() -> bool:
    """Return whether this process keeps its metrics where others add them up."""
    return bool(metrics_directory())


def forget_process(pid: int) -> None:
    """Remove a process that has ended from the gauges. What it counted stays in the sums."""
    if are_shared():
        mark_process_dead(pid)


def _base() -> Path:
    """Return where the directories are: in TMPDIR, if that is set, else in memory, where there is such a file system.

    If the disk is full, the kernel kills a process that writes to a mapped file.
    """
    usual, memory = Path(tempfile.gettempdir()), Path("/dev/shm")  # noqa: S108  # mkdtemp makes what lies in it
    return memory if usual == Path("/tmp") and os.access(memory, os.W_OK) else usual  # noqa: S108


def _remove_of_the_dead() -> None:
    """Remove the directories of servers that were killed, as far as they are ours."""
    for left in _base().glob(f"{PREFIX}*"):
        found = re.match(rf"{PREFIX}([0-9]+)-", left.name)
        with contextlib.suppress(OSError):
            if found and left.stat().st_uid == os.getuid() and not left.is_symlink() and not _is_alive(int(found[1])):
                shutil.rmtree(left)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
