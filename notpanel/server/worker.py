"""The worker: runs the jobs of the queue. manage.py work runs one; so does manage.py serve, beside the server."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.conf import settings
from procrastinate import PsycopgConnector
from procrastinate.contrib.django import app
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException

from notpanel.kit import metrics
from notpanel.kit.queue import stopping

logger = logging.getLogger(__name__)

MANAGE = Path(__file__).resolve().parent.parent.parent / "manage.py"
LISTEN_FALLBACK = 1.0  # seconds between two looks for jobs that are due; a new job is announced at once
RESTART_AFTER = 5.0  # seconds at least between two starts
PATIENCE = 40  # seconds in which a worker may finish what it has begun


class WorkerStopped(Exception):
    """The worker ended without having been told to. The text is for the operator."""


def connect_directly() -> None:
    """Let this process reach the database without PgBouncer and without a pool, before it has connected.

    A job may hold a session lock. It ends with the connection, which must not go back to be used by others.
    """
    if settings.WORKER_DATABASE:
        settings.DATABASES["default"].update(settings.WORKER_DATABASE)
        settings.DATABASES["default"].pop("DISABLE_SERVER_SIDE_CURSORS", None)
    settings.DATABASES["default"]["OPTIONS"].pop("pool", None)


def run() -> None:
    """Run jobs until SIGTERM or Ctrl-C, then finish those that have begun. Raises WorkerStopped."""
    try:
        asyncio.run(_run())
    except ConnectorException as error:
        raise WorkerStopped(f"The database of the queue was lost: {error.__cause__ or error}.") from error


async def _run() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(settings.WORKER_CONCURRENCY, thread_name_prefix="job"))
    with app.replace_connector(PsycopgConnector(kwargs=_parameters(), min_size=1, max_size=4)):
        async with app.open_async():
            task = asyncio.create_task(
                app.run_worker_async(
                    concurrency=settings.WORKER_CONCURRENCY,
                    fetch_job_polling_interval=LISTEN_FALLBACK,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                )
            )

            def stop() -> None:
                stopping.set()
                task.cancel()

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop)
            logger.info("The worker runs %d jobs at once.", settings.WORKER_CONCURRENCY)
            try:
                await task
            except asyncio.CancelledError:
                logger.info("The worker has finished what it had begun.")
            if not stopping.is_set():
                raise WorkerStopped("The worker ended: the log says why.")


def _parameters() -> dict[str, object]:
    """Return how the queue itself connects: without our limits, which would end its listening and its cleaning up."""
    return connector_params("default") | {"options": "-c lock_timeout=0 -c statement_timeout=0"}


def end_with_parent() -> None:
    """Tell this process to stop as soon as the one that started it has ended, for whatever reason."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class WorkerBeside:
    """A worker in a process of its own, kept running beside the server."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def keep_running(self) -> None:
        """Start the worker unless it is running. Call this regularly."""
        if self._process and self._process.poll() is None:
            return
        if self._process and time.monotonic() - self._started < RESTART_AFTER:
            return
        if self._process:
            logger.error("The worker has ended, so another one is started.")
            metrics.forget_process(self._process.pid)
        self._started = time.monotonic()
        self._process = subprocess.Popen([sys.executable, str(MANAGE), "work", "--with-parent"])  # noqa: S603

    def tell_to_stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has stopped, and kill it if that takes too long: another worker takes up what it had begun."""
        if not self._process:
            return
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
