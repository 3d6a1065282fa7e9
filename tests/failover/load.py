"""Customers' programs that request refills and read orders, whatever happens, and what they were told."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import requests

PROGRAMS = 4  # that request refills, each one order after the other
UNAVAILABLE = {"error": "Service temporarily unavailable"}
PAUSE = 0.2  # seconds before a program tries again
TIMEOUT = 60  # seconds


@dataclass
class Load:
    """Sends requests from ``start()`` to ``stop()``. Each order is tried, with one request_id, until it is answered."""

    url: str
    key: str
    orders: range
    told: dict[int, str] = field(default_factory=dict)  # the refill of each order, as the API said
    answered: list[tuple[float, float, str, int]] = field(default_factory=list)  # sent, answered, action, status
    wrong: list[str] = field(default_factory=list)  # answers that break the contract

    def __post_init__(self) -> None:
        self._waiting, self._lock, self._stopping = iter(self.orders), threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._request) for _ in range(PROGRAMS)]
        self._threads.append(threading.Thread(target=self._read))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def answers_with(self, status: int, *, sent_after: float = 0.0, action: str = "refill") -> int:
        return sum(
            (kind, code) == (action, status) and sent > sent_after for sent, _, kind, code in list(self.answered)
        )

    def first_success(self, after: float) -> float:
        """Return when the first request that was sent after a moment was answered with 200."""
        return min(at for sent, at, kind, code in self.answered if (kind, code) == ("refill", 200) and sent > after)

    def longest_wait(self, since: float) -> float:
        """Return how long, in seconds, the slowest answer took to a request that was under way then or sent since."""
        return max(at - sent for sent, at, _, _ in self.answered if at > since)

    def list_changed(self, cursor: str = "") -> tuple[int, str]:
        """Ask for a page of refill_list. Returns the status of the answer, and the cursor of the next page."""
        status, page = self._page(cursor)
        return status, page.get("next", "")

    def count_listed(self) -> int:
        """Return how many refills there are in refill_list, read from its beginning."""
        refills: set[str] = set()
        cursor, more = "", True
        while more:
            _, page = self._page(cursor)
            refills.update(row["refill"] for row in page["refills"])
            cursor, more = page["next"], page["more"]
        return len(refills)

    def _page(self, cursor: str) -> tuple[int, Any]:
        parameters = {"key": self.key, "action": "refill_list"} | ({"cursor": cursor} if cursor else {})
        answer = requests.post(self.url, parameters, timeout=TIMEOUT)
        return answer.status_code, answer.json()

    def _request(self) -> None:
        with requests.Session() as session:
            while not self._stopping.is_set():
                with self._lock:
                    order = next(self._waiting, None)
                if order is None:
                    return
                self._request_one(session, order)

    def _request_one(self, session: requests.Session, order: int) -> None:
        while True:
            answer = self._post(session, action="refill", order=order, request_id=f"order-{order}")
            if answer and "refill" in answer:
                self.told[order] = answer["refill"]
                return
            if self._stopping.is_set():
                return
            time.sleep(PAUSE)

    def _read(self) -> None:
        with requests.Session() as session:
            while not self._stopping.wait(0.05):
                self._post(session, action="status", order=self.orders.start)

    def _post(self, session: requests.Session, **parameters: Any) -> Any:
        sent = time.monotonic()
        try:
            answer = session.post(self.url, {"key": self.key, **parameters}, timeout=TIMEOUT)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            self.wrong.append(f"{parameters['action']}: {type(error).__name__} after {time.monotonic() - sent:.1f} s")
            return None
        self.answered.append((sent, time.monotonic(), parameters["action"], answer.status_code))
        if answer.status_code == 200:
            return body
        if answer.status_code != 503 or body != UNAVAILABLE or "Retry-After" not in answer.headers:
            self.wrong.append(f"{parameters['action']}: {answer.status_code} {answer.text[:200]}")
        return None
