"""A supplier for the demonstration and the tests. It answers and fails in every way that real suppliers have.

It knows every order, and what it does with one follows from the order's id and the seed. Its log is its memory: a line
of JSON per event, on the disk before anything is answered, so it may be killed at any moment. It takes a second refill
of an order as readily as the first, so the log shows whether anybody sends one.
"""

import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

NOTICE = (
    b"<br />\n<b>Notice</b>:  Undefined index: drip [feed] in <b>/var/www/api/v2.php</b> on line <b>117</b><br />\n"
)
HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"

# How it says that it took a refill.
ACCEPTS: dict[str, Callable[[int], bytes]] = {
    "text": lambda refill: _json({"refill": str(refill)}),
    "integer": lambda refill: _json({"refill": refill}),
    "in a list": lambda refill: _json([{"order": 1, "refill": str(refill)}]),
    "under 0": lambda refill: _json({"0": {"refill": refill}}),
    "a list of ids": lambda refill: _json({"refill": [refill]}),
    "with a status": lambda refill: _json({"status": "success", "refill": refill}),
    "wrapped": lambda refill: _json({"success": True, "data": {"refill_id": refill}}),
    "other case": lambda refill: _json({"Status": "Success", "Refill": str(refill)}),
    "after a byte order mark": lambda refill: b"\xef\xbb\xbf" + _json({"refill": refill}),
    "after a notice": lambda refill: NOTICE + _json({"refill": refill}),
}
# How it says that it does not.
REFUSES: dict[str, Callable[[str], bytes]] = {
    "error": lambda text: _json({"error": text}),
    "inside": lambda text: _json({"refill": {"error": text}}),
    "fail": lambda text: _json({"status": "fail", "message": text}),
    "success false": lambda text: _json({"success": False, "msg": text}),
    "in a list": lambda text: _json([{"order": 1, "error": text}]),
    "other case": lambda text: _json({"Error": text}),
}
TEXTS = (
    "Incorrect order ID",
    "Refill is disabled for this service",
    "The order is not completed",
    "Refill days are over",
    "Only on Tuesdays, dear friend",  # nobody knows this one
)
# How it fails: after it took the refill, or before.
FAULTS = (
    *("drops after", "500 after", "html after", "empty after", "zero after", "redirects after", "slow after"),
    *("drops before", "500 before", "html before"),
)
WORDS = {
    "in progress": ("In progress", "IN PROGRESS", "in_progress", "Pending", "processing"),
    "completed": ("Completed", "COMPLETED", "completed "),
    "rejected": ("Rejected", "Canceled", "rejected"),
}


@dataclass(frozen=True)
class Behaviour:
    """How the supplier behaves. Shares go from 0 to 1."""

    faults: float = 0.0
    refusals: float = 0.0
    rejections: float = 0.0  # of what it took
    settles_after: float = 20.0  # seconds after which it has settled what it took
    slow: float = 2.0  # seconds that a slow answer takes
    takes: float = 0.0  # seconds that every answer takes
    knows_orders: bool = True  # answers for the latest refill of an order
    key: str = ""  # the API key; "": any
    seed: str = "1"


@dataclass
class Memory:
    """What the supplier knows. All of it is in the log."""

    path: Path
    taken: dict[str, tuple[str, float]] = field(default_factory=dict)  # order and moment, by the refill's id
    latest: dict[str, str] = field(default_factory=dict)  # the refill's id by the order

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                event = json.loads(line)
            except ValueError:  # it was killed while it wrote this
                continue
            if event["event"] == "taken":
                self._remember(event["refill"], event["order"], event["at"])
        self._file = self.path.open("a")
        self._file.write("\n")  # ends a line that was cut off

    def log(self, event: str, **details: Any) -> None:
        with self._lock:
            self._write(event, details)

    def take(self, order: str) -> str:
        """Take a refill of an order. Returns its id."""
        with self._lock:
            refill = str(len(self.taken) + 1)
            self._remember(refill, order, self._write("taken", {"order": order, "refill": refill}))
        return refill

    def _remember(self, refill: str, order: str, at: float) -> None:
        self.taken[refill] = order, at
        self.latest[order] = refill

    def _write(self, event: str, details: dict[str, Any]) -> float:
        at = time.time()
        self._file.write(json.dumps({"at": at, "event": event, **details}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return at


class FakeSupplier(ThreadingHTTPServer):
    """The supplier, listening on a port of this machine."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, log: Path, behaviour: Behaviour) -> None:
        self.memory, self.behaviour = Memory(log), behaviour
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # else the client has gone
            super().handle_error(request, client_address)

    def choice(self, what: str, order: str) -> random.Random:
        """Return a random generator that gives the same results each time for an order."""
        return random.Random(hashlib.sha256(f"{self.behaviour.seed}:{what}:{order}".encode()).digest())  # noqa: S311

    def status(self, refill: str) -> str | None:
        """Return the word for the status of a refill, or None if there is no such refill."""
        if refill not in self.memory.taken:
            return None
        order, at = self.memory.taken[refill]
        dice = self.choice("status", order)
        settled = "rejected" if dice.random() < self.behaviour.rejections else "completed"
        is_settled = time.time() - at >= self.behaviour.settles_after
        return dice.choice(WORDS[settled if is_settled else "in progress"])


class _Drop(Exception):
    """End the connection without an answer."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeSupplier

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the server's own log says more

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        sent = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        try:
            status, body, headers = self._answer(sent)
            time.sleep(self.server.behaviour.takes)
        except _Drop:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, sent: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        behaviour = self.server.behaviour
        if behaviour.key and sent.get("key") != behaviour.key:
            return _said({"error": "Invalid API key"})
        match sent.get("action"):
            case "refill" if "order" in sent:
                return self._refill(sent["order"])
            case "refill_status" if "refills" in sent:
                return _said([self._row(refill) for refill in sent["refills"].split(",")])
            case "refill_status" if "refill" in sent:
                status = self.server.status(sent["refill"])
                return _said({"status": status} if status else {"error": "Refill not found"})
            case "refill_status" if "order" in sent and behaviour.knows_orders:
                refill = self.server.memory.latest.get(sent["order"])
                if refill is None:
                    return _said({"error": "Refill not found"})
                return _said({"refill": refill, "status": self.server.status(refill)})
            case "balance":
                return _said({"balance": "100.84", "currency": "USD"})
        return _said({"error": "Incorrect request"})

    def _row(self, refill: str) -> dict[str, Any]:
        return {"refill": int(refill), "status": self.server.status(refill) or {"error": "Refill not found"}}

    def _refill(self, order: str) -> tuple[int, bytes, dict[str, str]]:
        behaviour, memory = self.server.behaviour, self.server.memory
        dice = self.server.choice("refill", order)
        fault = dice.choice(FAULTS) if dice.random() < behaviour.faults else ""
        memory.log("asked", order=order, fault=fault)
        if fault.endswith("before"):
            return self._fail(fault, "")
        if dice.random() < behaviour.refusals:
            text, shape = dice.choice(TEXTS), dice.choice(list(REFUSES))
            memory.log("refused", order=order, text=text)
            return 200, REFUSES[shape](text), {}
        refill = memory.take(order)
        if fault:
            return self._fail(fault, refill)
        return 200, ACCEPTS[dice.choice(list(ACCEPTS))](int(refill)), {}

    def _fail(self, fault: str, refill: str) -> tuple[int, bytes, dict[str, str]]:
        kind = fault.split()[0]
        match kind:
            case "drops":
                raise _Drop
            case "500":
                return 500, b"Internal Server Error", {}
            case "html":
                return 200, HTML, {"Content-Type": "text/html"}
            case "empty":
                return 200, b"", {}
            case "zero":
                return _said({"refill": 0})
            case "redirects":
                return 302, b"", {"Location": "/login"}
        time.sleep(self.server.behaviour.slow)
        return _said({"refill": refill})


def _said(answer: Any) -> tuple[int, bytes, dict[str, str]]:
    return 200, _json(answer), {"Content-Type": "application/json"}


def _json(answer: Any) -> bytes:
    return json.dumps(answer).encode()
