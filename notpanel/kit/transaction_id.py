"""A column that holds the transaction that wrote it."""

from typing import Any

from django.db import models


class TransactionIdField(models.BigIntegerField):
    """The 64-bit id of a transaction: xid8 in the database, an int in Python."""

    description = "The id of a transaction"

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value if value is None or hasattr(value, "resolve_expression") else str(value)
