"""Record in the audit log what Django does by itself: signing in and out, and changing groups and permissions."""

import time
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save

from apikeys.models import Account, AuditEvent

Kind = AuditEvent.Kind

_DONE = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}


def connect() -> None:
    """Connect the receivers. Called once, when the app is ready."""
    user_logged_in.connect(_signed_in)
    user_logged_out.connect(_signed_out)
    m2m_changed.connect(_rights_changed, sender=Account.groups.through)
    m2m_changed.connect(_rights_changed, sender=Account.user_permissions.through)
    m2m_changed.connect(_permissions_of_a_group_changed, sender=Group.permissions.through)
    post_save.connect(_group_saved, sender=Group)
    post_delete.connect(_group_deleted, sender=Group)


def _signed_in(user: Account, request: Any, **kwargs: Any) -> None:
    request.session["signed_in_at"] = request.session["seen_at"] = time.time()
    AuditEvent.record(Kind.SIGNED_IN, user, by_id=user.pk)


def _signed_out(user: Account | None, request: Any, **kwargs: Any) -> None:
    if user is not None:
        ended_after = getattr(request, "ended_after", None)
        AuditEvent.record(Kind.SIGNED_OUT, user, {"after": ended_after} if ended_after else None, by_id=user.pk)


def _rights_changed(
    instance: Any, action: str, reverse: bool, model: Any, pk_set: set[int] | None, **kwargs: Any
) -> None:
    """Record groups or permissions that accounts were given or lost, from whichever side the change was made."""
    if action not in _DONE:
        return
    others = model.objects.filter(pk__in=pk_set) if pk_set is not None else _related(instance, model)
    # From the other side it was group.user_set.add(account).
    changes = [(account, [instance]) for account in others] if reverse else [(instance, list(others))]
    for account, things in changes:
        if not things:
            continue
        what = "groups" if isinstance(things[0], Group) else "permissions"
        AuditEvent.record(Kind.RIGHTS_CHANGED, account, {_DONE[action]: {what: _names(things)}})


def _permissions_of_a_group_changed(
    instance: Any, action: str, reverse: bool, model: Any, pk_set: set[int] | None, **kwargs: Any
) -> None:
    if action not in _DONE or reverse:
        return
    things = model.objects.filter(pk__in=pk_set) if pk_set is not None else instance.permissions.all()
    if things:
        _record_group(instance, {_DONE[action]: _names(things)})


def _group_saved(instance: Group, created: bool, **kwargs: Any) -> None:
    _record_group(instance, {"done": "created" if created else "saved"})


def _group_deleted(instance: Group, **kwargs: Any) -> None:
    _record_group(instance, {"done": "deleted"})


def _record_group(group: Group, details: dict[str, Any]) -> None:
    AuditEvent.record(Kind.GROUP_CHANGED, None, {"group": group.name, **details})


def _related(instance: Any, model: Any) -> Any:
    if model is Account:
        return instance.user_set.all()
    return instance.groups.all() if model is Group else instance.user_permissions.all()


def _names(things: Iterable[Any]) -> list[str]:
    return sorted(thing.name if isinstance(thing, Group) else thing.codename for thing in things)
