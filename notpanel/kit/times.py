"""How times are written for people: in the current time zone, with its name, and to the minute if that is enough."""

from datetime import datetime

from django.utils import timezone


def time_text(at: datetime, *, seconds: bool = False) -> str:
    """Write a time: ``2026-11-25 09:14 CET``, or with seconds: ``2026-11-25 09:14:05 CET``."""
    return " ".join(time_and_zone(at, seconds=seconds))


def time_and_zone(at: datetime, *, seconds: bool = False) -> tuple[str, str]:
    """Write a time, and the abbreviation of its zone: CET, or UTC+03 where there is none."""
    local = timezone.localtime(at)
    zone = local.strftime("%Z")
    text = local.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return text, f"UTC{zone}" if zone.startswith(("+", "-")) else zone
