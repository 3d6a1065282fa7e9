"""Write amounts of money."""

from decimal import Decimal


def money(amount: Decimal) -> str:
    """Return an amount as the API writes it: with two to five decimals (``0.50``, ``0.27819``)."""
    text = f"{amount:.5f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"
