"""Who is looking at a refill's page right now. It is kept in the cache, as a hint for colleagues rather than a lock."""

from django.core.cache import cache
from django.utils import timezone

from apikeys.models import Account
from refills.models import Refill

SEEN_FOR = 40  # seconds after the last message from an open page (desk.js sends one every 15)


def others(refill: Refill, viewer: Account) -> str:
    """Note that ``viewer`` looks at the refill. Returns a sentence that names the colleagues who also do, or ""."""
    key, now = f"desk.presence.{refill.pk}", timezone.now().timestamp()
    seen: dict[str, float] = cache.get(key) or {}
    seen = {name: at for name, at in seen.items() if now - at < SEEN_FOR} | {viewer.username: now}
    cache.set(key, seen, SEEN_FOR)
    names = sorted(seen.keys() - {viewer.username})
    if not names:
        return ""
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {verb} looking at this refill too."
