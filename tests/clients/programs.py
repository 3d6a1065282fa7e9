"""Programs that read answers as known clients of other panels do. Each raises if it cannot use what it gets."""

from typing import Any

import requests


class Program:
    """Sends a form, treats any status but 2xx as a failure, and raises what the answer has as ``error``."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def ask(self, action: str, **parameters: Any) -> Any:
        answer = requests.post(self.url, {"key": self.key, "action": action, **parameters}, timeout=30)
        if not 200 <= answer.status_code < 300:
            raise ConnectionError(answer.status_code)
        data = answer.json()
        if isinstance(data, dict) and "error" in data:
            raise LookupError(data["error"])
        return data


class Typed(Program):
    """Decodes into types, as a client in Go, C# or Java does: a refill is an integer, alone a string of digits."""

    def refill(self, order: int) -> int:
        refill = self.ask("refill", order=order)["refill"]
        if not isinstance(refill, str):
            raise TypeError(refill)
        return int(refill)

    def refills(self, orders: list[int]) -> dict[int, int | str]:
        rows = self.ask("refill", orders=",".join(map(str, orders)))
        return {_integer(row["order"]): _integer_or_error(row["refill"]) for row in rows}

    def statuses(self, refills: list[int]) -> dict[int, str]:
        rows = self.ask("refill_status", refills=",".join(map(str, refills)))
        return {_integer(row["refill"]): _text_or_error(row["status"]) for row in rows}


class Intval(Program):
    """Keeps ids as PHP's ``intval`` leaves them: the digits at the beginning, 0 if there are none."""

    def refill(self, order: Any) -> int:
        return intval(self.ask("refill", order=order)["refill"])

    def status(self, refill: int) -> str:
        return str(self.ask("refill_status", refill=refill)["status"])


class Comparing(Program):
    """Waits for the word ``Completed``, and looks for its row by an order that is an integer."""

    def is_completed(self, order: int) -> bool:
        return self.ask("status", order=order)["status"] == "Completed"

    def find(self, orders: list[int], wanted: int) -> Any:
        rows = self.ask("refill", orders=",".join(map(str, orders)))
        # As rows.find(r => r.order === wanted) does: true and "1" are not 1.
        return next((row for row in rows if type(row["order"]) is int and row["order"] == wanted), None)


class SendingJson(Program):
    """Sends JSON with a list of integers, and looks for its row by an integer."""

    def find(self, orders: list[int], wanted: int) -> Any:
        body = {"key": self.key, "action": "refill", "orders": orders}
        rows = requests.post(self.url, json=body, timeout=30).json()
        return next((row for row in rows if type(row["order"]) is int and row["order"] == wanted), None)


class CsvInRefill(Program):
    """Sends several refills in the parameter for one."""

    def statuses(self, refills: list[int]) -> Any:
        return self.ask("refill_status", refill=",".join(map(str, refills)))


def intval(value: Any) -> int:
    text = str(value).strip()
    digits = ""
    for character in text:
        if not character.isdigit():
            break
        digits += character
    return int(digits or 0)


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def _integer_or_error(value: Any) -> int | str:
    return str(value["error"]) if isinstance(value, dict) else _integer(value)


def _text_or_error(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["error"])
    if not isinstance(value, str):
        raise TypeError(value)
    return value
