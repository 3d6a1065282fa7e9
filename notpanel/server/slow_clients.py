"""waitress as NotPanel serves with it: no client holds a thread, and no client holds a connection for long.

waitress reads requests and sends answers in one loop, whatever the speed of the clients. A thread works on a request
only once it has been read whole. What is added here: total deadlines, closing a connection so that its last answer
arrives, answers in JSON to what is refused before the application sees it, and refusals of what could be read in two
ways.
"""

import copy
import json
import socket
import time
import uuid
from collections.abc import Iterable
from typing import Any

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import (
    BadRequest,
    RequestEntityTooLarge,
    RequestHeaderFieldsTooLarge,
    ServerNotImplemented,
)

from notpanel import request_log, request_metrics
from notpanel.api import errors
from notpanel.api.bodies import LARGEST_FILE, takes_files
from notpanel.kit.refusals import Refusal

# Deadlines in seconds. Each is for the whole of its part, so that a client that sends a byte now and then meets it too.
HEADER_DEADLINE = 10  # from the first byte of a request, or from connecting, to the end of its header
BODY_DEADLINE = 30  # from the first byte of a request to the end of its body
IDLE_DEADLINE = 30  # for the next request on a connection; a proxy's keepalive_timeout must be shorter
LINGER_DEADLINE = 2  # for the client to close after an answer with Connection: close
SEND_WINDOW = 30
SLOWEST_READER = 1024  # bytes per second that a client must read, on average over a window

LARGEST_BODY = 4 * 1024 * 1024  # bytes; the API itself refuses more than 64 KiB, and pages more than 2.5 MiB

LONGEST_CHUNK_LINE = 1024  # bytes, of the line before each chunk
LARGEST_TRAILER = 8 * 1024  # bytes; nothing reads it


class BodyCutOff(BadRequest):
    """The client stopped sending in the middle of a body."""


# What is refused before the application sees it, by waitress's error.
REFUSED: dict[type, type[Refusal]] = {
    BadRequest: errors.MalformedRequest,
    BodyCutOff: errors.MalformedBody,
    RequestEntityTooLarge: errors.BodyTooLarge,
    RequestHeaderFieldsTooLarge: errors.HeadersTooLarge,
    ServerNotImplemented: errors.UnsupportedTransferEncoding,
}


def with_names(header: bytes, names: Iterable[str]) -> bytes:
    """Return a response's header with its names as the application wrote them: waitress makes them X-Request-Id."""
    written = {name.lower(): name for name in names}
    first, *lines = header.decode("latin-1").split("\r\n")
    for number, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if colon:
            lines[number] = f"{written.get(name.lower(), name)}:{value}"
    return "\r\n".join([first, *lines]).encode("latin-1")


class Parser(HTTPRequestParser):
    """Read a request, and refuse one whose end a proxy on the way may see in another place."""

    path = ""  # until it has been read: waitress logs it if the client goes away
    completed: bool  # whether it was read whole, or is refused
    adj: Any  # the server's adjustments, or a copy

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
            if takes_files(self.path):
                # The deadlines stay the same, so a large body must be sent as quickly as any other.
                self.adj = copy.copy(self.adj)
                self.adj.max_request_body_size = LARGEST_FILE + 1  # the first size that waitress refuses
        except ValueError:  # of an address with half an IPv6 address, or a length of thousands of digits
            raise ParsingError("A number or an address cannot be read") from None
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("Neither HTTP/1.0 nor HTTP/1.1")
        # waitress removes a Transfer-Encoding that it obeys.
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Two lengths, or a Transfer-Encoding in HTTP/1.0")

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        # waitress searches these from the beginning whenever a byte arrives.
        if self.chunked and not self.completed and self.body_rcv is not None:
            body = self.body_rcv
            if len(body.control_line) > LONGEST_CHUNK_LINE or len(body.trailer) > LARGEST_TRAILER:
                self.error = BadRequest("The line before a chunk or the trailer is too long")
                self.completed = True
        return consumed

    def cut_off(self) -> None:
        """End the request as refused, because its client will send nothing more."""
        self.error = BodyCutOff("") if self.headers_finished else BadRequest("")
        self.completed = True


class RefusalTask(ErrorTask):
    """Answer a request that waitress refused, in JSON. Neither the answer nor the log quotes the request."""

    def execute(self) -> None:
        refusal = REFUSED.get(type(self.request.error), errors.InternalServerError)
        request_id = uuid.uuid4().hex
        body = json.dumps({"error": refusal.message}, separators=(",", ":")).encode()
        self.status = f"{errors.status_of(refusal)} {self.request.error.reason}"
        self.response_headers += [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Request-ID", request_id),
            ("X-Error-Code", refusal.code()),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        request_metrics.count_unread(refusal.code())
        request_log.write_refused(request_id, errors.status_of(refusal), refusal.code())
        self.write(body)

    def build_response_header(self) -> bytes:
        names = [name for name, _ in self.response_headers]
        return with_names(super().build_response_header(), names)


class Task(WSGITask):
    """Answer a request with the application's answer, and close the connection where that helps."""

    def build_response_header(self) -> bytes:
        server: Server = self.channel.server
        # The client may still be sending; and a connection that ends lets its client find a process with a free thread.
        if self.status.startswith("413") or server.is_stopping or server.should_shed():
            self.set_close_on_finish()
        names = [name for name, _ in self.response_headers]
        return with_names(super().build_response_header(), names)

    def write(self, data: bytes) -> None:
        if self.request.command != "HEAD":
            super().write(data)
            return
        # A page answers HEAD as it answers GET, and the client would read the content as the next answer.
        super().write(b"")
        self.content_bytes_written += len(data)
        self.chunked_response = False


class Channel(HTTPChannel):
    """A connection. It knows since when it has been waiting for its client."""

    parser_class = Parser
    task_class = Task
    error_task_class = RefusalTask

    request: Any  # that is being read, None between two

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.waiting_since = time.monotonic()  # for the end of the request that is being read, or for its beginning
        self.reading: Any = None  # that request
        self.lingering_since = 0.0  # 0: not lingering
        self.sent = 0  # bytes
        self.window = (0.0, 0)  # when it began, and what was sent until then; (0.0, 0): nothing waits to be sent
        super().__init__(*args, **kwargs)

    def received(self, data: bytes) -> Any:
        accepted = super().received(data)
        if self.request is not self.reading:
            self.reading, self.waiting_since = self.request, time.monotonic()
        return accepted

    def handle_read(self) -> None:
        try:
            # Not self.recv, which treats the end of what a client sends as the end of the connection.
            data = self.socket.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()
            return
        if data:
            self.last_activity = time.time()
            self.received(data)
        elif self.lingering_since or not self.refuse_half():
            self.handle_close()

    def handle_expt(self) -> None:
        # Urgent data, which HTTP does not have. waitress would log it again and again.
        self.handle_close()

    def refuse_half(self) -> bool:
        """Refuse the request that is being read, whose rest will not come. Returns False if there is none.

        Nothing is read while a request is being answered, so no other request is under way.
        """
        with self.requests_lock:
            request, self.request = self.request, None
            if request is None or not (request.headers_finished or request.header_plus.strip()):
                return False
            request.cut_off()
            self.requests.append(request)
            self.server.add_task(self)
        return True

    def send_continue(self) -> None:
        # waitress would wait for the body of a request that has none, or that it has refused.
        if self.request.completed:
            self.request.expect_continue = False
        else:
            super().send_continue()

    def _flush_some(self, do_close: bool = True) -> bool:
        # Once the last request is answered, waitress's loop flushes without the lock, while a thread may still be
        # sending "100 Continue": the client would get it twice. Waiting for the lock is short, as no send blocks.
        with self.outbuf_lock:
            return bool(super()._flush_some(do_close))

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        self.sent += sent
        return sent

    def handle_write(self) -> None:
        if self.close_when_flushed and not self.total_outbufs_len and not self.will_close:
            self.linger()
        else:
            super().handle_write()

    def linger(self) -> None:
        """Shut down sending, and wait for the client to close: if we closed first, it might lose the answer."""
        self.lingering_since = time.monotonic()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def readable(self) -> bool:
        return bool(self.lingering_since) or bool(super().readable())

    def writable(self) -> bool:
        return not (self.lingering_since and not self.will_close) and bool(super().writable())

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has kept the connection waiting past a deadline."""
        if self.lingering_since:
            return now - self.lingering_since > LINGER_DEADLINE
        if self.total_outbufs_len:
            return self._reads_too_slowly(now)
        self.window = (0.0, 0)
        if self.requests:
            return False  # the application is at work
        if self.reading is not None:
            deadline = BODY_DEADLINE if self.reading.headers_finished else HEADER_DEADLINE
        else:
            # waitress keeps last_activity by time.time(): only differences of one clock are compared.
            idle = time.time() - self.last_activity
            return idle > (IDLE_DEADLINE if self.sent else HEADER_DEADLINE)
        return now - self.waiting_since > deadline

    def _reads_too_slowly(self, now: float) -> bool:
        began, sent = self.window
        if not began:
            self.window = (now, self.sent)
            return False
        if now - began < SEND_WINDOW:
            return False
        self.window = (now, self.sent)
        return self.sent - sent < SEND_WINDOW * SLOWEST_READER


class Server(TcpWSGIServer):
    """Accept connections on a socket that other processes accept from as well, and end those that are overdue."""

    channel_class = Channel
    has_siblings = False  # whether other processes accept connections on the same socket
    is_stopping = False
    answered = 0

    def maintenance(self, now: float) -> None:
        now = time.monotonic()
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(now):
                # Not by will_close: waitress looks at that only when the client reads, and this one may read nothing.
                channel.handle_close()

    def readable(self) -> bool:
        # A process whose threads are all busy leaves new connections to the others.
        return bool(super().readable()) and not (self.has_siblings and self.task_dispatcher.queue)

    def should_shed(self) -> bool:
        """Return whether to close the connection of the current answer: every fiftieth, while requests wait."""
        self.answered += 1
        return self.has_siblings and bool(self.task_dispatcher.queue) and self.answered % 50 == 0

    def stop_accepting(self) -> None:
        """Accept what has connected so far, and then close the socket, which would take more that nobody answers."""
        self.is_stopping = True
        before = -1
        while before != len(self.active_channels):
            before = len(self.active_channels)
            self.handle_accept()
        self.accepting = False
        wasyncore.dispatcher.close(self)  # without the trigger, by which the threads wake the loop

    def end_idle(self, after: float) -> None:
        """Close the connections on which no request has begun, once they have been idle for ``after`` seconds."""
        now = time.time()
        for channel in list(self.active_channels.values()):
            is_idle = not (channel.requests or channel.reading or channel.total_outbufs_len or channel.lingering_since)
            if is_idle and now - channel.last_activity >= after:
                channel.will_close = True
