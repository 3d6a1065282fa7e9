"""Create and change customers' accounts from files. If one row is wrong, nothing of the file is imported.

A known account keeps what the file has no column for; a new one gets the column's default. An empty cell clears the
balance; in a column that must not be empty it counts as missing. No import changes an account of the staff.
"""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction

from apikeys.models import IDENTITY, RIGHTS, Account, AuditEvent
from notpanel.kit.cells import currency, one_of, signed_amount, text_up_to
from notpanel.kit.refusals import ServiceUnavailable
from notpanel.kit.row_files import Column, FileErrors, Imported, Readable, Row, defaults_of, read

ATTEMPTS = 3  # because others may create accounts with the same names meanwhile


def _username(text: str) -> str:
    name = Account.normalize_username(text_up_to(150)(text))
    try:
        Account.username_validator(name)
    except ValidationError as error:
        raise ValueError(f"“{text}” may have letters, digits and @ . + - _ only") from error
    return name


def _email(text: str) -> str:
    try:
        validate_email(text_up_to(254)(text))
    except ValidationError as error:
        raise ValueError(f"“{text}” is not an e-mail address") from error
    return Account.objects.normalize_email(text)


ACCOUNT_COLUMNS = (
    Column("username", _username, also=("user", "name", "login", "account", "customer", "client")),
    Column("email", _email, optional=True, default="", also=("mail", "email_address")),
    Column("tier", one_of(Account.Tier.values), optional=True, default=Account.Tier.STANDARD),
    Column("balance", signed_amount, optional=True, also=("funds",)),
    Column("currency", currency, optional=True, default="USD"),
)


@dataclass(frozen=True)
class ImportedAccounts(Imported):
    new: tuple[Account, ...] = ()


def import_accounts(file: Readable, *, dry_run: bool = False) -> ImportedAccounts:
    """Create the accounts of a file, without a password, or change those whose user name is known.

    Raises BadFile, and ServiceUnavailable if others keep creating accounts of the same names.
    """
    errors = FileErrors()
    rows: dict[str, Row] = {}
    lines: dict[str, int] = {}
    for line, row in read(file, ACCOUNT_COLUMNS, errors, only_given=True):
        name = row.pop("username")
        if name in rows:
            errors.add(line, f"username: “{name}” is in the file twice")
        rows[name], lines[name] = row, line
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                imported = _write(rows, lines, errors)
                transaction.set_rollback(dry_run)
        except IntegrityError:  # somebody else has just created one of the accounts
            continue
        return imported
    raise ServiceUnavailable


def _write(rows: dict[str, Row], lines: dict[str, int], errors: FileErrors) -> ImportedAccounts:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
    locked = Account.objects.select_for_update(no_key=True).filter(username__in=rows).order_by("pk")
    known = {account.username: account for account in locked.only("username", *RIGHTS, *_CHANGEABLE)}
    for name, account in known.items():
        if any(getattr(account, right) for right in RIGHTS):
            errors.add(lines[name], f"username: “{name}” is an account of the staff, which no import changes")
    errors.refuse_if_any()
    defaults = defaults_of(ACCOUNT_COLUMNS[1:])
    # In the order of their names, so that two imports of the same accounts wait for each other, and do not deadlock.
    new = [
        Account(username=name, password=make_password(None), **defaults | rows[name])
        for name in sorted(rows.keys() - known.keys())
    ]
    events: list[tuple[str, Account, dict[str, Any]]] = []
    changed = []
    for name, account in known.items():
        names = [column for column, value in rows[name].items() if getattr(account, column) != value]
        for column in names:
            setattr(account, column, rows[name][column])
        if names:
            changed.append(account)
        if recorded := [column for column in names if column in IDENTITY]:
            events.append((AuditEvent.Kind.ACCOUNT_CHANGED, account, {"changed": recorded}))
    Account.objects.bulk_create(new)
    with connection.cursor() as cursor:
        columns = {f"{name}s": [getattr(account, name) for account in changed] for name in ("id", *_CHANGEABLE)}
        cursor.execute(_CHANGE, columns)
    nothing = dict.fromkeys(RIGHTS, False)
    AuditEvent.record_all([*events, *((AuditEvent.Kind.ACCOUNT_CREATED, account, nothing) for account in new)])
    return ImportedAccounts(len(new), len(changed), len(known) - len(changed), new=tuple(new))


_CHANGEABLE = ("email", "tier", "balance", "currency")
_CHANGE = """
    UPDATE apikeys_account AS account
    SET email = new.email, tier = new.tier, balance = new.balance, currency = new.currency
    FROM unnest(
        %(ids)s::bigint[], %(emails)s::text[], %(tiers)s::text[], %(balances)s::numeric[], %(currencys)s::text[]
    ) AS new (id, email, tier, balance, currency)
    WHERE account.id = new.id
"""
