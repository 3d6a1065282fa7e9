"""gunicorn as NotPanel runs it: threads, and two faults of its thread worker mended."""

from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """gunicorn's, but for two things that it does not do well."""

    # Ctrl-C stops it as SIGTERM does: it answers what it has begun. gunicorn's own handler takes a lock that the very
    # thread it interrupts may hold, and then hangs until it is killed.
    handle_quit = ThreadWorker.handle_exit

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request. Of more than there are threads for, have one client in fifty connect anew.

        Clients keep their connections, and one process may have got most of them. A process that has a thread free
        is the first to take a new one.
        """
        in_hand = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        if self.cfg.workers > 1 and in_hand > self.cfg.threads and self.nr % 50 == 0:
            req.must_close = True
        return super().handle_request(req, conn)


class Server(BaseApplication):
    """gunicorn, configured by settings.py alone."""

    def __init__(self, bind: str, workers: int, threads: int) -> None:
        self.bind, self.workers, self.threads = bind, workers, threads
        super().__init__()

    def load_config(self) -> None:
        self.cfg.set("bind", self.bind)
        self.cfg.set("workers", self.workers)
        self.cfg.set("worker_class", Worker)
        self.cfg.set("threads", self.threads)
        self.cfg.set("keepalive", 30)
        self.cfg.set("control_socket_disable", True)

    def load(self) -> Any:
        from notpanel.wsgi import application

        return application
