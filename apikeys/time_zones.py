"""The time zones in which staff see the times of the desk."""

from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from django.core.exceptions import ValidationError

CHOOSE = "Choose a time zone from the list, such as Europe/Berlin."


@cache
def time_zones() -> list[str]:
    """Return the names of the time zones that this machine knows, sorted."""
    return sorted(available_timezones())


def check_time_zone(name: str) -> None:
    """Raise ValidationError unless ``name`` is a time zone that this machine knows."""
    if name not in time_zones():
        raise ValidationError(CHOOSE)


def zone_named(name: str) -> ZoneInfo:
    """Return the time zone, or UTC if this machine does not know it: another one may have stored it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
