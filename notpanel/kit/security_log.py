"""Security events: a logger of their own, ``notpanel.security``, with stable names (docs/operations.md, Logs).

``AuditEvent`` reports what the audit log records. What only programs and strangers do is reported where it happens.
"""

from typing import Any

import structlog

from notpanel.kit import request_facts
from notpanel.kit.request_facts import DeniedBy

logger = structlog.get_logger("notpanel.security")


def report(event: str, *, alarming: bool = True, **facts: Any) -> None:
    """Report an event: as a warning if it is ``alarming``, else as information.

    Facts that are None or empty are left out. Never pass a name that no account has: some people type their password
    into the field for the name.
    """
    known = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    (logger.warning if alarming else logger.info)(event, **known)


def deny(by: DeniedBy) -> None:
    """Note why a key is refused, and report it unless there was none."""
    request_facts.add(denied_by=by)
    if by is not DeniedBy.NO_KEY:
        known: dict[str, Any] = {}
        if facts := request_facts.current():
            known = {"address": str(facts.address), "account": facts.account, "key": facts.key}
        report("key_refused", because=by.value, **known)
