"""Ask the v2 API of a supplier. One request at a time, with limits, without redirects, and never a second time."""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from notpanel.kit.secrets import Undecipherable
from orders.models import Supplier
from orders.suppliers import key_of
from refills.supplier_answers import (
    Accepted,
    NotDone,
    Refused,
    Status,
    Unclear,
    read_json,
    read_refill,
    read_status,
    read_statuses,
)

CONNECTING = 5.0  # seconds
WAITING = 15.0  # seconds between two pieces of an answer
IN_ALL = 30.0  # seconds from the request until the answer has been read, its headers too
LARGEST_ANSWER = 1024 * 1024  # bytes
LARGEST_BATCH = 100  # refills asked for at once
SHOWN = 200  # characters of an answer that cannot be read


def request_refill(supplier: Supplier, order: str) -> Accepted | Refused | NotDone | Unclear:
    """Request a refill of the supplier's order. It may have been done unless this returns Refused or NotDone."""
    answer = _post(supplier, {"action": "refill", "order": order})
    return read_refill(answer) if isinstance(answer, (dict, list)) else answer


def latest_refill(supplier: Supplier, order: str) -> Status | Refused | NotDone | Unclear:
    """Ask for the latest refill of the supplier's order. Not every supplier knows this question."""
    answer = _post(supplier, {"action": "refill_status", "order": order})
    return read_status(answer) if isinstance(answer, (dict, list)) else answer


def refill_status(supplier: Supplier, refill: str) -> Status | Refused | NotDone | Unclear:
    """Ask what became of one refill (the supplier's id)."""
    answer = _post(supplier, {"action": "refill_status", "refill": refill})
    return read_status(answer) if isinstance(answer, (dict, list)) else answer


def refill_statuses(
    supplier: Supplier, refills: Sequence[str]
) -> dict[str, Status | Refused | Unclear] | Refused | NotDone | Unclear:
    """Ask what became of up to LARGEST_BATCH refills (the supplier's ids). Returns what it said of each."""
    answer = _post(supplier, {"action": "refill_status", "refills": ",".join(refills)})
    return read_statuses(answer, refills) if isinstance(answer, (dict, list)) else answer


def is_there(supplier: Supplier) -> NotDone | Unclear | None:
    """Ask for the balance, which changes nothing. Returns None if the supplier answers as an API does."""
    answer = _post(supplier, {"action": "balance"})
    return None if isinstance(answer, (dict, list)) else answer


def _post(supplier: Supplier, parameters: Mapping[str, str]) -> Any:
    """Return the JSON of the answer, as dict or list; NotDone or Unclear if there is none."""
    try:
        key = key_of(supplier)
    except Undecipherable:
        return NotDone("The key of the supplier cannot be decrypted: enter it again.")
    session = requests.Session()
    session.trust_env = False  # no proxy and no password of this machine
    session.mount("http://", _Adapter(max_retries=0))
    session.mount("https://", _Adapter(max_retries=0))
    try:
        with (
            session,
            session.post(
                supplier.url,
                data={"key": key, **parameters},
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "NotPanel"},
                timeout=(CONNECTING, WAITING),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            return _read(response)
    except requests.RequestException as error:
        return NotDone(_cause(error)) if _was_not_sent(error) else Unclear(_cause(error))


def _read(response: requests.Response) -> Any:
    status = f"HTTP {response.status_code}"
    if response.is_redirect:
        return Unclear(f"{status}: it redirects, and redirects are not followed")
    body = b""
    for piece in response.iter_content(16 * 1024):
        body += piece
        if len(body) > LARGEST_ANSWER:
            return Unclear(f"{status}: more than {LARGEST_ANSWER} bytes")
    if response.status_code == requests.codes.too_many_requests:
        return NotDone(f"{status}: it was asked too often")
    payload = read_json(body)
    if response.status_code >= requests.codes.internal_server_error or payload is None:
        start = " ".join(body.decode("utf-8", errors="replace").replace("\x00", "").split())[:SHOWN]
        return Unclear(f"{status}: {start or 'an empty body'}")
    return payload


def _was_not_sent(error: requests.RequestException) -> bool:
    """Return whether no part of the request can have reached the supplier."""
    cause = error.args[0] if error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    if isinstance(reason, (NewConnectionError, ConnectTimeoutError)):
        return True
    while isinstance(reason, BaseException):
        if isinstance(reason, ssl.SSLCertVerificationError):
            return True
        reason = reason.__cause__ or (reason.args[0] if reason.args else None)
    return isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema))


def _cause(error: requests.RequestException) -> str:
    """Return what happened. The text of the error itself may hold addresses of this machine's memory."""
    cause = error.args[0] if error.args else error
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return {
        "NewConnectionError": "no connection could be made",
        "NameResolutionError": "its host name has no address",
        "ConnectTimeoutError": f"no connection within {CONNECTING:.0f} seconds",
        "ReadTimeoutError": f"no answer within {WAITING:.0f} seconds, or no whole one within {IN_ALL:.0f}",
        "ProtocolError": "the connection was lost",
        "SSLError": "the encrypted connection failed",
    }.get(type(reason).__name__, type(reason).__name__)


class _Timed(io.RawIOBase):
    """Read from a socket, each time with what is left of a deadline: limits on single reads do not add up to one."""

    def __init__(self, sock: socket.socket, file: io.RawIOBase) -> None:
        self._sock, self._file, self._deadline = sock, file, time.monotonic() + IN_ALL

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(min(WAITING, left))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Timed(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """Connect so that the whole answer has a deadline."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
