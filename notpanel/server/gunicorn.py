"""The application server: gunicorn keeps the processes, waitress reads requests and sends answers in each.

docs/decisions/0004-application-server.md says why.
"""

import logging
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

from gunicorn import glogging, systemd
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from notpanel.environment import restore_supervisor, withhold_supervisor
from notpanel.kit import metrics
from notpanel.server import vitals
from notpanel.server.slow_clients import LARGEST_BODY, Server
from notpanel.server.worker import WorkerBeside

TICK = 1.0  # seconds between two looks at deadlines and signals, at most
CONNECTIONS = 4096  # per process
# Seconds for which a server that is stopping leaves an idle connection to be used once more, or to be closed by the
# proxy, whose keepalive_timeout must be shorter. If the server closed it, a request might be on its way.
DRAIN = 5.0


class Logger(glogging.Logger):
    """gunicorn's log, in the form of our records rather than gunicorn's own."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.NOTSET)


class WaitressWorker(Worker):
    """A gunicorn worker that serves with waitress: one loop for all connections, and threads for the application."""

    drain = DRAIN

    def handle_quit(self, *args: Any) -> None:
        """Stop on Ctrl-C: answer what has begun, as on SIGTERM, but do not wait for idle connections."""
        self.drain = 0.0
        self.handle_exit(*args)

    def run(self) -> None:
        _raise_limit_of_files()
        connections: dict[int, Any] = {}
        threads = ThreadedTaskDispatcher()
        threads.set_thread_count(self.cfg.threads)
        adjustments = Adjustments(
            threads=self.cfg.threads,
            sockets=[listener.sock for listener in self.sockets],
            ident=None,
            max_request_body_size=LARGEST_BODY,
            connection_limit=CONNECTIONS,
            cleanup_interval=TICK,
            clear_untrusted_proxy_headers=False,  # notpanel.kit.addresses judges them
            asyncore_use_poll=True,
            log_socket_errors=False,
        )
        servers = [
            Server(
                self.wsgi,
                connections,
                True,
                sock,
                dispatcher=threads,
                adj=adjustments,
                sockinfo=(sock.family, sock.type, sock.proto, sock.getsockname()),
                bind_socket=False,
            )
            for sock in adjustments.sockets
        ]
        for server in servers:
            server.has_siblings = self.cfg.workers > 1 or self.app.is_socket_shared
        self.app.tell_ready(self.log)
        notified = 0.0
        while self.alive and self.ppid == os.getppid():
            if (now := time.monotonic()) - notified >= TICK:
                self.notify()
                if metrics.are_shared():
                    vitals.publish()
                    vitals.publish_http(sum(len(server.active_channels) for server in servers), threads)
                notified = now
            wasyncore.loop(timeout=TICK, use_poll=True, map=connections, count=1)
        self.finish(servers, connections, threads)

    def finish(self, servers: list[Server], connections: dict[int, Any], threads: ThreadedTaskDispatcher) -> None:
        """Answer the requests that have begun, for as long as gunicorn lets a worker stop."""
        for server in servers:
            server.stop_accepting()
        deadline = time.monotonic() + self.cfg.graceful_timeout - TICK
        while any(server.active_channels for server in servers) and time.monotonic() < deadline:
            self.notify()
            for server in servers:
                server.end_idle(self.drain)
                server.maintenance(0)
            wasyncore.loop(timeout=0.1, use_poll=True, map=connections, count=1)
        threads.shutdown(timeout=TICK)


def has_sockets_of_systemd() -> bool:
    """Return whether systemd has passed sockets to this process, as it does for units with a .socket."""
    return systemd.listen_fds(unset_environment=False) > 0


def _raise_limit_of_files() -> None:
    """Let the process hold as many connections as CONNECTIONS, where the system allows that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS * 2 if hard == resource.RLIM_INFINITY else min(CONNECTIONS * 2, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ServerAndWorker(Arbiter):
    """gunicorn's own process, which keeps a worker of the queue running beside those that serve."""

    def manage_workers(self) -> None:
        super().manage_workers()
        if self.app.beside:
            self.app.beside.keep_running()

    def stop(self, graceful: bool = True) -> None:
        if self.app.beside:
            self.app.beside.tell_to_stop()
        super().stop(graceful)
        if self.app.beside:
            self.app.beside.wait()


class Application(BaseApplication):
    """gunicorn, configured by its arguments alone. If systemd has passed sockets, it serves at those instead."""

    def __init__(
        self, bind: str, workers: int, threads: int, beside: WorkerBeside | None = None, shared: Path | None = None
    ) -> None:
        self.bind, self.workers, self.threads, self.beside = bind, workers, threads, beside
        self.shared = shared  # the directory in which the processes keep their metrics
        self.is_socket_shared = has_sockets_of_systemd()
        # gunicorn would say that it is ready before a process serves.
        self._supervisor = withhold_supervisor()
        super().__init__()

    def tell_ready(self, log: Any) -> None:
        """Tell systemd, if it has started this, that a process serves."""
        if self._supervisor:
            restore_supervisor(self._supervisor)
            systemd.sd_notify("READY=1", log, unset_environment=True)

    def run(self) -> None:
        ServerAndWorker(self).run()

    def load_config(self) -> None:
        self.cfg.set("bind", self.bind)
        self.cfg.set("workers", self.workers)
        self.cfg.set("worker_class", WaitressWorker)
        self.cfg.set("threads", self.threads)
        self.cfg.set("logger_class", Logger)
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("child_exit", lambda arbiter, worker: metrics.forget_process(worker.pid))
        self.cfg.set("on_exit", self.remove_metrics)

    def remove_metrics(self, arbiter: Arbiter) -> None:
        """Remove the files of the metrics. gunicorn's own process calls this, once all others have ended."""
        if self.shared:
            shutil.rmtree(self.shared, ignore_errors=True)

    def load(self) -> Any:
        from notpanel.wsgi import application

        return application
