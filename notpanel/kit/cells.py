"""Read the cells of files as people write them, and refuse what could be read in two ways.

A converter returns the value of a cell, or raises ValueError with a text that says what is wrong.
"""

import re
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Any

from django.utils import timezone

Converter = Callable[..., Any]

_WHOLE = re.compile(r"-?[0-9]{1,19}(\.0*)?")  # programs that know only floats write 1000.0
_GROUPED = re.compile(r"-?[1-9][0-9]{0,2}([.,'’\s][0-9]{3})+")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})"
    r"(?:[T ]([0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]{1,9})?)?)?))?"
    r"(?: ?(Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?",
    re.IGNORECASE,
)
_UNIX_SECONDS = re.compile(r"[0-9]{10}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what PostgreSQL's text cannot hold


def integer(lowest: int, highest: int, *, negative_is_zero: bool = False) -> Converter:
    """Read a whole number. In some panels, counts of what is left go below zero, which can be read as zero."""

    def convert(text: str) -> int:
        if _GROUPED.fullmatch(text):
            raise ValueError(f"“{text}” may have a thousands separator: write it without one")
        number = int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
        if number is not None and negative_is_zero:
            number = max(number, 0)
        if number is None or not lowest <= number <= highest:
            raise ValueError(f"“{text}” is not a whole number from {lowest} to {highest}")
        return number

    return convert


def _amount(lowest: int) -> Converter:
    def convert(text: str) -> Decimal:
        if "," in text:
            raise ValueError(f"“{text}” has a comma: write amounts with a point and no separators, such as 1234.56")
        value = Decimal(text if _DECIMAL.fullmatch(text) else "NaN")
        # The range of numeric(14, 5). An amount with more decimals is refused, not rounded.
        if not (value.is_finite() and lowest <= value < 10**9 and value == value.quantize(Decimal("0.00001"))):
            least = "0" if lowest == 0 else "-999999999.99999"
            raise ValueError(f"“{text}” is not an amount from {least} to 999999999.99999 with at most five decimals")
        return value

    return convert


amount = _amount(0)
signed_amount = _amount(1 - 10**9)


def text_up_to(longest: int) -> Converter:
    def convert(text: str) -> str:
        if not text or len(text) > longest or _UNSTORABLE.search(text):
            raise ValueError(f"must be text of 1 to {longest} characters")
        return text

    return convert


def one_of(values: Sequence[str], also: Mapping[str, str] | None = None) -> Converter:
    """Read one of ``values`` in any case, with blanks or underscores. ``also`` has other words for them."""
    words = {value: value for value in values} | dict(also or {})

    def convert(text: str) -> str:
        value = words.get(re.sub(r"[\s-]+", "_", text.lower()))
        if value is None:
            raise ValueError(f"“{text}” is not one of {', '.join(values)}")
        return value

    return convert


def time_zone(name: str) -> tzinfo:
    """Return the time zone of a name such as Europe/Berlin. Raises ValueError."""
    if name not in zoneinfo.available_timezones():
        raise ValueError(f"“{name}” is not a time zone such as Europe/Berlin")
    return zoneinfo.ZoneInfo(name)


def time(text: str, zone: tzinfo = UTC) -> datetime:
    """Read an ISO 8601 time, or Unix seconds of ten digits. ``zone`` is that of a time that names no offset."""
    if _UNIX_SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC)
    try:
        if not (found := _TIME.fullmatch(text)):  # fromisoformat() reads weeks too, and other digits
            raise ValueError
        day, clock, offset = found.groups()
        offset = "+00:00" if (offset or "").upper() in ("Z", "UTC", "GMT") else offset or ""
        value = datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset}")
    except ValueError as error:
        raise ValueError(f"“{text}” is not a time such as 2026-05-31T12:00:00Z") from error
    if not 1970 < value.year < 9999:
        raise ValueError(f"{value.year} is not a year from 1971 to 9998")
    if value.tzinfo:
        return value
    # Of the hour that comes twice in autumn, the first is meant; the hour that is left out in spring is refused.
    value = value.replace(tzinfo=zone)
    if value.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != value.replace(tzinfo=None):
        raise ValueError(f"“{text}” does not exist in {zone}, where the clocks were put forward")
    return value


def past_time(text: str, zone: tzinfo = UTC) -> datetime:
    """Read a time as ``time`` does, and refuse one that has not come yet."""
    value = time(text, zone)
    if value > timezone.now():
        raise ValueError(f"“{text}” is in the future")
    return value


def flag(text: str) -> bool:
    word = text.lower()
    if word in ("true", "1", "1.0", "yes", "y", "on", "enabled", "active"):
        return True
    if word in ("false", "0", "0.0", "no", "n", "off", "disabled", "inactive"):
        return False
    raise ValueError(f"“{text}” is neither true nor false")


def currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha()):
        raise ValueError(f"“{text}” is not a currency code such as USD")
    return text.upper()
