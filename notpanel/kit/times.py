"""How times are written for people: to the minute, in the current time zone, and with its name."""

from datetime import datetime

from django.utils import timezone


def time_text(at: datetime) -> str:
    """Write a time: ``2026-11-25 09:14 CET``."""
    return " ".join(time_and_zone(at))


def time_and_zone(at: datetime) -> tuple[str, str]:
    """Write a time, and the abbreviation of its zone: CET, or UTC+03 where there is none."""
    local = timezone.localtime(at)
    zone = local.strftime("%Z")
    return f"{local:%Y-%m-%d %H:%M}", f"UTC{zone}" if zone.startswith(("+", "-")) else zone
