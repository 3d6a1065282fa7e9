"""Suppliers: their accounts, and their keys, which are stored encrypted."""

from django.db import transaction
from django.utils.text import slugify

from apikeys.models import Account
from notpanel.kit import secrets
from orders.models import Supplier

LONGEST_NAME = 150  # characters of an account's name


def save_supplier(supplier: Supplier, key: str = "") -> None:
    """Save a new or changed supplier. An empty ``key`` keeps the one that it has."""
    if key:
        supplier.encrypted_key = secrets.encrypt(key)
    with transaction.atomic():
        if supplier.account_id is None:
            supplier.account = _account_of(supplier)
        supplier.save()


def key_of(supplier: Supplier) -> str:
    """Return the key in clear, to send it to the supplier. Raises secrets.Undecipherable."""
    return secrets.decrypt(supplier.encrypted_key)


def encrypt_keys_anew() -> tuple[int, list[Supplier]]:
    """Re-encrypt all keys with the first of ENCRYPTION_KEYS.

    Returns how many were, and the suppliers whose keys none of the settings decrypts, which are left as they are.
    """
    lost = []
    with transaction.atomic():
        suppliers = list(Supplier.objects.select_for_update().order_by("id"))
        for supplier in suppliers:
            try:
                supplier.encrypted_key = secrets.encrypt_anew(supplier.encrypted_key)
            except secrets.Undecipherable:
                lost.append(supplier)
        Supplier.objects.bulk_update(suppliers, ["encrypted_key"])
    return len(suppliers) - len(lost), lost


def _account_of(supplier: Supplier) -> Account:
    """Create the account in whose name the supplier settles refills: without a password, and not active."""
    wished = f"supplier-{slugify(supplier.name)}"[: LONGEST_NAME - 4].rstrip("-")
    taken = set(Account.objects.filter(username__startswith=wished).values_list("username", flat=True))
    names = [wished, *(f"{wished}-{number}" for number in range(2, 1000))]
    account = Account(username=next(name for name in names if name not in taken), is_active=False)
    account.set_unusable_password()
    account.save()
    return account
