from datetime import timedelta


def duration(length: timedelta) -> str:
    """Write how long something took, so that people can compare it at a glance: ``25 min``, ``7 h``, ``3 d 4 h``."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
