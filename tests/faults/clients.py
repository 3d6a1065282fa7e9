"""Customers' programs on persistent connections: each records every answer, and what it was told."""

import http.client
import json
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.faults.installation import Customer

PATIENCE = 40  # seconds that a client waits for an answer
UNAVAILABLE = "Service temporarily unavailable"
REFUSALS = ("A refill request is already pending for this order", "Refill limit reached ({cap} per order)")
GOOD, UNAVAILABLE_503, REFUSED, CLOSED, WRONG = "good", "503", "refused", "closed", "wrong"
HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Answer:
    """What became of a request. Times are of time.monotonic()."""

    began: float
    ended: float
    kind: str
    action: str
    text: str = ""  # what is wrong


@dataclass
class Told:
    """What a client knows about its refills."""

    refills: dict[str, int] = field(default_factory=dict)  # the order of each refill that it was told of
    requests: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # how many it made for each order
    # The attempts of requests that got no answer, by order.
    unanswered: dict[int, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    listed: dict[str, str] = field(default_factory=dict)  # the last status of each, as refill_list told
    kept: list[tuple[dict[str, str], bytes]] = field(default_factory=list)  # requests with a request_id, and answers


class Client(threading.Thread):
    """A customer's program. It waits ``pause()`` seconds between two requests, and ends once ``stopping`` is set."""

    def __init__(self, port: int, customer: Customer, cap: int, pause: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self.customer, self.pause = customer, pause
        self.refusals = [text.format(cap=cap) for text in REFUSALS]
        self.told, self.answers = Told(), list[Answer]()
        self.stopping = threading.Event()
        self.fresh = iter(customer.orders)
        self.cursor = ""
        self.chance = random.Random(customer.account.pk)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def run(self) -> None:
        actions = (
            *[self.request_one] * 4,
            *[self.request_batch] * 2,
            *[self.ask_statuses] * 3,
            *[self.follow_list] * 3,
            self.ask_balance,
        )
        while not self.stopping.wait(self.pause()):
            self.chance.choice(actions)()

    # ---- The actions

    def request_one(self) -> None:
        order = self._next_order()
        if self.chance.random() < 0.5:
            self._request([order], {"order": str(order)})
        else:
            self._request([order], {"order": str(order), "request_id": uuid.uuid4().hex})

    def request_batch(self) -> None:
        orders = list(dict.fromkeys(self._next_order() for _ in range(5)))
        request = {"orders": ",".join(map(str, orders))}
        if self.chance.random() < 0.5:
            request["request_id"] = uuid.uuid4().hex
        self._request(orders, request)

    def ask_statuses(self) -> None:
        known = list(self.told.refills)[-100:]
        if known:
            asked = self.chance.sample(known, min(10, len(known)))
            self._ask({"action": "refill_status", "refills": ",".join(asked)}, lambda rows: _all(rows, "status"))

    def follow_list(self) -> None:
        """Read a page of the list."""
        page = self._ask({"action": "refill_list", "cursor": self.cursor}, lambda page: "next" in page)
        if page:
            self.told.listed |= {row["refill"]: row["status"] for row in page["refills"]}
            self.cursor = page["next"]

    def ask_balance(self) -> None:
        self._ask({"action": "balance"}, lambda answer: "balance" in answer)

    def _next_order(self) -> int:
        """Return an order whose refill was not requested yet or, now and then, one whose refill may be settled."""
        old = list(self.told.requests)
        if old and self.chance.random() < 0.2:
            return self.chance.choice(old)
        order = next(self.fresh, None)
        return order if order is not None else self.chance.choice(old)

    # ---- Requesting

    def _request(self, orders: list[int], request: dict[str, str]) -> None:
        """Request refills. With a request_id, repeat the request until there is an answer; otherwise ask by order."""
        are_fresh = [order not in self.told.requests for order in orders]
        for order in orders:
            self.told.requests[order] += 1
        request = {"action": "refill"} | request
        while (rows := self._ask(request, lambda answer: self._is_answer(answer, orders, are_fresh))) is None:
            if self.stopping.is_set() or "request_id" not in request:
                break
            time.sleep(0.1)
        if rows is None:
            for order in orders:
                self.told.unanswered[order].append(self.answers[-1])
            return
        for order, row in zip(orders, rows if isinstance(rows, list) else [rows], strict=True):
            if "refill" in row:
                self._note(order, row["refill"])
        if "request_id" in request:
            self.told.kept.append((request, self._body))

    def _note(self, order: int, refill: str) -> None:
        if refill in self.told.refills:
            self._wrong("refill", f"{refill} was the answer to two requests")
        self.told.refills[refill] = order

    def _is_answer(self, answer: Any, orders: list[int], are_fresh: list[bool]) -> bool:
        rows = answer if isinstance(answer, list) else [answer]
        return len(rows) == len(orders) and all(
            "refill" in row or (row.get("error") in self.refusals and not is_fresh)
            for row, is_fresh in zip(rows, are_fresh, strict=True)
        )

    # ---- Asking

    def _ask(self, request: dict[str, str], is_right: Callable[[Any], bool]) -> Any:
        """Send a request. Returns the answer, which may be a refusal of the action, or None if there is none."""
        began, action = time.monotonic(), request["action"]
        try:
            self._connection.request("POST", "/api/v2", urlencode({"key": self.customer.key} | request), HEADERS)
            response = self._connection.getresponse()
            self._body = response.read()
        except ConnectionRefusedError:
            self._connection.close()
            self.answers.append(Answer(began, time.monotonic(), REFUSED, action))
            time.sleep(0.1)
            return None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.answers.append(Answer(began, time.monotonic(), CLOSED, action, repr(error)))
            return None
        kind, answer = self._judge(response, is_right)
        text = f"{response.status} {self._body[:300]!r}" if kind == WRONG else ""
        self.answers.append(Answer(began, time.monotonic(), kind, action, text))
        if kind == UNAVAILABLE_503:
            time.sleep(0.1)
        return answer if kind == GOOD else None

    def _judge(self, response: http.client.HTTPResponse, is_right: Callable[[Any], bool]) -> tuple[str, Any]:
        """Return what kind of answer this is, by docs/contract.md."""
        headers = response.headers
        try:
            answer = json.loads(self._body)
        except ValueError:
            return WRONG, None
        if not headers["Content-Type"].startswith("application/json") or not headers["X-Request-ID"]:
            return WRONG, answer
        if response.status == 503 and answer == {"error": UNAVAILABLE} and headers["Retry-After"]:
            return UNAVAILABLE_503, answer
        if response.status == 400 and (list(answer) != ["error"] or not headers["X-Error-Code"]):
            return WRONG, answer
        return (GOOD if response.status in (200, 400) and is_right(answer) else WRONG), answer

    def _wrong(self, action: str, text: str) -> None:
        now = time.monotonic()
        self.answers.append(Answer(now, now, WRONG, action, text))

    # ---- When all is quiet

    def ask_again(self) -> list[str]:
        """Ask by request_id and by order for what was answered and what was not. Returns what is wrong, in words."""
        wrong = []
        self._connection.close()  # it was idle, so the server may have closed it already
        for request, first in self.chance.sample(self.told.kept, min(50, len(self.told.kept))):
            if self._ask(request, lambda answer: True) is None or self._body != first:
                wrong.append(f"{request} was answered with {first!r}, and now with {self._body!r}")
        while self._more():
            self.follow_list()
        return wrong

    def _more(self) -> bool:
        page = self._ask({"action": "refill_list", "cursor": self.cursor}, lambda page: "next" in page)
        return bool(page and page["refills"])


class Visitor(threading.Thread):
    """An agent who opens the desk's list again and again."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.answers: list[Answer] = []
        self.port, self.cookie = port, sign_in()

    def run(self) -> None:
        while not self.stopping.wait(0.5):
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            try:
                connection.request("GET", "/admin/refills/refill/", headers={"Cookie": self.cookie})
                response = connection.getresponse()
                body = response.read()
            except ConnectionRefusedError:
                kind, text = REFUSED, ""
            except (OSError, http.client.HTTPException) as error:
                kind, text = CLOSED, repr(error)
            else:
                is_503 = response.status == 503 and response.headers["Retry-After"]
                kind = GOOD if response.status == 200 else UNAVAILABLE_503 if is_503 else WRONG
                text = f"{response.status} {response.headers['Location'] or body[:300]!r}" if kind == WRONG else ""
            self.answers.append(Answer(began, time.monotonic(), kind, "the desk", text))
            connection.close()


def sign_in() -> str:
    """Return the cookie of a session of the agent's."""
    from django.conf import settings
    from django.test import Client as Browser

    from apikeys.models import Account

    browser = Browser()
    browser.force_login(Account.objects.get(username="agent"))
    return f"{settings.SESSION_COOKIE_NAME}={browser.cookies[settings.SESSION_COOKIE_NAME].value}"


def _all(rows: Any, name: str) -> bool:
    return isinstance(rows, list) and all(name in row for row in rows)
