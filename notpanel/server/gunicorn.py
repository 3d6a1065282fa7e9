"""gunicorn with threads, as `manage.py serve` runs it, and with two faults of its thread worker mended."""

from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):
    """gunicorn's thread worker, which stops on Ctrl-C and does not let one process hold most connections."""

    # Ctrl-C stops it as SIGTERM does: it answers the requests that it has begun. gunicorn's own
    # handler takes a lock that the thread it interrupts may hold. The worker would then hang until it is killed.
    handle_quit = ThreadWorker.handle_exit

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request. If more are in hand than there are threads, close one connection in fifty afterwards.

        Clients keep their connections open, and one process may hold most of them. A client whose connection is
        closed connects again, and is most likely to reach a process with a free thread.
        """
        in_hand = self.nr_conns - len(self.keepalived_conns) - len(self.pending_conns)
        if self.cfg.workers > 1 and in_hand > self.cfg.threads and self.nr % 50 == 0:
            req.must_close = True
        return super().handle_request(req, conn)


class Server(BaseApplication):
    """gunicorn, configured by its arguments alone."""

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
