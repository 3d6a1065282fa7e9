"""The checks of the doctor, and how they are made: each one runs, whatever the others have found."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from notpanel.health import NOT_CHECKED
from notpanel.server.checks import Unready


@dataclass(frozen=True)
class Check:
    """Something that must be right in an installation."""

    name: str
    is_right: str  # a sentence
    problems: Callable[[], Iterable[str] | None]  # a sentence each, without secrets; or it raises Unready


@dataclass(frozen=True)
class DatabaseCheck:
    """Something that must be right in the database, checked over the given connection."""

    name: str
    is_right: str
    problems: Callable[[BaseDatabaseWrapper], Iterable[str]]


@dataclass(frozen=True)
class Finding:
    """What a check has found: nothing, problems, or that it could not be made."""

    name: str
    is_right: str
    problems: tuple[str, ...] = ()
    was_made: bool = True


def make(check: Check) -> Finding:
    """Make a check that needs no database."""
    try:
        return Finding(check.name, check.is_right, tuple(check.problems() or ()))
    except Unready as error:
        return Finding(check.name, check.is_right, (str(error),))


def make_over(connection: BaseDatabaseWrapper | None, checks: Iterable[DatabaseCheck]) -> Iterator[Finding]:
    """Make checks of the database, or none of them if there is no connection."""
    for check in checks:
        if connection is None:
            yield Finding(check.name, NOT_CHECKED, was_made=False)
            continue
        try:
            problems = tuple(check.problems(connection))
        except Error as error:
            [cause, *_] = str(error).splitlines() or [type(error).__name__]
            problems = (f"The database refused to answer: {cause}.",)
        except Unready as error:
            problems = (str(error),)
        yield Finding(check.name, check.is_right, problems)
