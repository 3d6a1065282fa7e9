import itertools
import random
import secrets
import shlex
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.models import CharField, Max
from django.db.models.functions import Cast
from django.utils import timezone

from apikeys.keys import ApiKeyDetails, authenticate, create_api_key, revoke_api_key
from apikeys.models import Account
from notpanel.kit.public_id import parse
from notpanel.kit.refusals import AccountSuspended, InvalidApiKey, Refusal
from notpanel.server.checks import check_migrations
from notpanel.server.embedded import is_embedded
from orders.models import DELIVERED, UNDER_WAY, Order, OrderStatus, Service, Supplier
from orders.suppliers import save_supplier
from refills.models import Refill, RejectionReason
from refills.refusals import (
    OrderNotDelivered,
    RefillAlreadyPending,
    RefillLimitReached,
    RefillPeriodExpired,
    ServiceNotRefillable,
)
from refills.requesting import RequestedRefill, lock_orders, request_refills, tally_refills
from refills.rules import Tally, judge
from refills.settlement import StatusChange, change_status
from refills.statuses import RefillStatus

FILE = settings.BASE_DIR / "var" / "demo.env"

# Far from the ids and numbers that a real panel would import.
FIRST_SERVICE = 900_001
FIRST_ORDER = 2_000_000_001

PLATFORMS = ("Photos", "Videos", "Music", "Streams", "Channels", "Maps", "Apps", "Podcasts")
KINDS = ("followers", "likes", "views", "comments", "shares", "plays", "members", "reviews", "saves", "visits")
# What a service promises: its name, whether it refills, for how many days, how many refills per order.
PROMISES = (
    ("no refill", False, None, None),
    ("refilled for 30 days", True, 30, None),
    ("refilled for life", True, None, None),
)

# What became of the refills of an order, oldest first.
HISTORIES: tuple[tuple[RefillStatus, ...], ...] = (
    (RefillStatus.PENDING,),
    (RefillStatus.APPROVED,),
    (RefillStatus.COMPLETED,),
    (RefillStatus.REJECTED,),
    (RefillStatus.COMPLETED, RefillStatus.PENDING),
    (RefillStatus.REJECTED, RefillStatus.PENDING),
    (RefillStatus.REJECTED, RefillStatus.COMPLETED),
    (RefillStatus.COMPLETED, RefillStatus.COMPLETED, RefillStatus.APPROVED),
)
REASONS = ("The account is private.", "Nothing has dropped.", "The link leads nowhere.", "Bought elsewhere meanwhile.")


class Command(BaseCommand):
    help = "Loads a demonstration: services, orders and refills in every state, and accounts to see them with."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = (
            "Everything belongs to the accounts demo-standard, demo-reseller, demo-agency, demo-suspended and\n"
            "demo-staff. Running it again replaces the named orders that are no longer in their state, and changes\n"
            "nothing else. Keys and ids are written to "
            f"{FILE.relative_to(settings.BASE_DIR)} as shell variables.\n\n"
            "It needs the embedded PostgreSQL: in a database with real orders, its accounts, whose passwords are in\n"
            "a file, could sign in too. --force loads it into another database.\n\n"
            "Exit status: 0 loaded; 1 refused; 2 wrong usage."
        )
        parser.add_argument("--force", action="store_true", help="also into a database that is not the embedded one")
        parser.add_argument(
            "--base-url", default=f"http://127.0.0.1:{settings.PORT}", help="where the site is served; %(default)s"
        )

    def handle(self, *args: Any, base_url: str, force: bool, **options: Any) -> None:
        database = connection.settings_dict
        if not force and not is_embedded(database["HOST"]):
            raise CommandError(
                f"DATABASE_URL leads to the database “{database['NAME']}”, not to the embedded PostgreSQL: the "
                "demonstration would add accounts and orders to it. To load it all the same: `manage.py demo --force`, "
                "or `make demo FORCE=1`."
            )
        check_migrations()
        earlier = _read_file()
        with transaction.atomic():
            variables = {"BASE_URL": base_url, **_load(earlier, _supplier(base_url))}
        FILE.parent.mkdir(exist_ok=True)
        FILE.touch(mode=0o600)
        FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
        self.stdout.write(
            f"""
The demo is at {base_url}

Admin      {base_url}/admin/   user {variables["STAFF_USER"]}   password {variables["STAFF_PASSWORD"]}
Customer   {base_url}/dashboard/   user {variables["CUSTOMER_USER"]}   password {variables["CUSTOMER_PASSWORD"]}
API pages  {base_url}/developers/
API key    {variables["API_KEY"]}

Request a refill (the second time it is refused: one is pending):

curl -X POST {base_url}/api/v2 -d "key={variables["API_KEY"]}&action=refill&order={variables["ORDER_COMPLETED"]}"

With `make demo` a worker sends it to a fake supplier, which completes it within a minute. Watch it at
{base_url}/admin/refills/dispatch/, or ask for its `refill_status`. The supplier's log is var/fakesupplier.log.

With `make demo` webhooks may go to this machine. Add http://127.0.0.1:9000/ at {base_url}/dashboard/webhooks/,
run one of the programs at {base_url}/developers/webhooks/ with the secret that you are shown, and request a refill.

All keys and orders, as shell variables: {FILE.relative_to(settings.BASE_DIR)}
"""
        )


def _read_file() -> dict[str, str]:
    """Return the variables that an earlier run wrote: its keys are stored nowhere else."""
    if not FILE.exists():
        return {}
    lines = (line.partition("=") for line in FILE.read_text().splitlines())
    return {name: "".join(shlex.split(value)) for name, _, value in lines}


@dataclass(frozen=True)
class _Role:
    """What an order of the demo shows: how it is made, and how a request for its refill is judged."""

    status: OrderStatus
    promise: int = 2  # the index in PROMISES
    days_ago: int = 10
    history: tuple[RefillStatus, ...] = ()
    refused: type[Refusal] | None = None


def _roles() -> dict[str, _Role]:
    completed = OrderStatus.COMPLETED
    capped = (RefillStatus.COMPLETED,) * settings.REFILL_LIMIT
    return {
        "ORDER_COMPLETED": _Role(completed),
        "ORDER_PARTIAL": _Role(OrderStatus.PARTIAL),
        "ORDER_PROCESSING": _Role(OrderStatus.PROCESSING, refused=OrderNotDelivered),
        "ORDER_NO_REFILL": _Role(completed, promise=0, refused=ServiceNotRefillable),
        "ORDER_PENDING_REFILL": _Role(completed, history=(RefillStatus.PENDING,), refused=RefillAlreadyPending),
        "ORDER_CAPPED": _Role(completed, history=capped, refused=RefillLimitReached),
        "ORDER_EXPIRED": _Role(completed, promise=1, days_ago=45, refused=RefillPeriodExpired),
    }


def _supplier(base_url: str) -> Supplier:
    """Return the supplier of the demo: the fake one, at the next port of this machine (Makefile)."""
    supplier = Supplier.objects.filter(name="Demo supplier").first() or Supplier(name="Demo supplier")
    supplier.url = f"http://127.0.0.1:{(urlsplit(base_url).port or settings.PORT) + 1}/api/v2"
    supplier.mode, supplier.poll_seconds = Supplier.Mode.AUTOMATIC, 5
    save_supplier(supplier, "demo")
    return supplier


def _load(earlier: dict[str, str], supplier: Supplier) -> dict[str, str]:
    now = timezone.now()
    staff, _ = Account.objects.update_or_create(
        username="demo-staff", defaults={"is_staff": True, "is_superuser": True, "is_active": True}
    )
    reseller, standard, agency, suspended = (
        Account.objects.update_or_create(
            username=f"demo-{name}",
            defaults={
                "tier": tier,
                "is_active": active,
                "email": f"demo-{name}@example.com",
                "balance": Decimal("47.32"),
                "currency": "USD",
            },
        )[0]
        for name, tier, active in (
            ("reseller", Account.Tier.RESELLER, True),
            ("standard", Account.Tier.STANDARD, True),
            ("agency", Account.Tier.AGENCY, True),
            ("suspended", Account.Tier.STANDARD, False),
        )
    )
    for text in REASONS:
        RejectionReason.objects.get_or_create(text=text)
    dice = random.Random(20260101)  # the same demo each time
    services = _services(dice)
    draft = _Draft(dice, now)

    roles = _roles()
    wanted = [(name, roles[name]) for name in roles] + [("ORDERS_FRESH", roles["ORDER_COMPLETED"])] * 100
    named = [earlier.get(name, "") for name in roles] + f"{earlier.get('ORDERS_FRESH', '')},".split(",")[:100]
    named += [""] * (len(wanted) - len(named))
    usable = _usable(reseller, named, [role for _, role in wanted], now)
    numbers: dict[str, list[int]] = {}
    for (name, role), number in zip(wanted, usable, strict=True):
        number = number or draft.add(
            reseller, services[role.promise], role.status, days_ago=role.days_ago, history=role.history
        )
        numbers.setdefault(name, []).append(number)
    if not any(usable):  # the first run
        for _ in range(300):
            service = dice.choice(services)
            status = dice.choice([*OrderStatus, OrderStatus.COMPLETED, OrderStatus.COMPLETED, OrderStatus.PARTIAL])
            refillable = status in DELIVERED and service.refill
            history = dice.choice(HISTORIES) if refillable and dice.random() < 0.9 else ()
            account = dice.choice([reseller, standard, agency])
            draft.add(account, service, status, days_ago=dice.randint(4, 29), history=history)
    draft.save(staff)
    # Of these the supplier knows the orders: their refills go to it.
    Service.objects.filter(pk=services[roles["ORDER_COMPLETED"].promise].pk).update(supplier=supplier)
    Order.objects.filter(number__in=[*numbers["ORDER_COMPLETED"], *numbers["ORDERS_FRESH"]]).update(
        supplier_order=Cast("number", CharField())
    )

    ids = dict(Order.objects.filter(number__in=itertools.chain(*numbers.values())).values_list("number", "id"))
    return {
        "API_KEY": _key(reseller, earlier.get("API_KEY", "")),
        "OTHER_API_KEY": _key(standard, earlier.get("OTHER_API_KEY", "")),
        "SUSPENDED_API_KEY": _key(suspended, earlier.get("SUSPENDED_API_KEY", "")),
        **{name: ",".join(ids[number] for number in theirs) for name, theirs in numbers.items()},
        "STAFF_USER": staff.username,
        "STAFF_PASSWORD": _password(staff, earlier.get("STAFF_PASSWORD", "")),
        "CUSTOMER_USER": reseller.username,
        "CUSTOMER_PASSWORD": _password(reseller, earlier.get("CUSTOMER_PASSWORD", "")),
    }


def _usable(account: Account, named: list[str], roles: list[_Role], now: datetime) -> list[int | None]:
    """Return the numbers of the orders of an earlier run; None for an order that no longer fits its role."""
    references = [parse("ord", text) for text in named]
    orders = lock_orders(account.pk, references)
    tallies = tally_refills(order.id for order in set(orders.values()))
    numbers: list[int | None] = []
    for reference, role in zip(references, roles, strict=True):
        order = orders.get(reference)
        refusal = judge(order, tallies.get(order.id, Tally()), now) if order else None
        fits = order is not None and (isinstance(refusal, role.refused) if role.refused else refusal is None)
        numbers.append(order.number if order is not None and fits else None)
    return numbers


def _password(account: Account, password: str) -> str:
    """Return ``password`` if it is still the account's, otherwise a new one."""
    if not account.check_password(password):
        password = secrets.token_urlsafe(12)
        account.set_password(password)
        account.save()
    return password


def _key(account: Account, raw_key: str) -> str:
    """Return ``raw_key`` if it is still a key of the account, otherwise a new one, and revoke the demo's old one."""
    try:
        if authenticate(raw_key).account_id == account.pk:
            return raw_key
    except AccountSuspended:
        return raw_key
    except InvalidApiKey:
        pass
    for api_key in account.api_keys.filter(name="demo", revoked_at=None):
        revoke_api_key(api_key)
    return create_api_key(account, ApiKeyDetails("demo"))[1]


def _services(dice: random.Random) -> list[Service]:
    services = [
        Service(
            id=FIRST_SERVICE + index,
            name=f"{platform} {kind}, {promise}",
            category=f"{platform} {kind}",
            rate=Decimal(dice.randint(5, 900)) / 100,
            min=dice.choice([10, 50, 100]),
            max=dice.choice([1_000, 10_000, 1_000_000]),
            refill=refill,
            cancel=dice.random() < 0.5,
            refill_days=days,
            refill_limit=limit,
        )
        for index, (platform, kind, (promise, refill, days, limit)) in enumerate(
            (platform, kind, promise) for platform in PLATFORMS for kind in KINDS for promise in PROMISES
        )
    ]
    fields = [field.name for field in Service._meta.fields if not field.primary_key]
    return Service.objects.bulk_create(services, update_conflicts=True, unique_fields=["id"], update_fields=fields)


class _Draft:
    """New orders of the demo, and the statuses that their refills are to get."""

    def __init__(self, dice: random.Random, now: datetime) -> None:
        self.dice, self.now = dice, now
        last = Order.objects.filter(number__gte=FIRST_ORDER).aggregate(Max("number"))["number__max"]
        self.next_number = (last or FIRST_ORDER - 1) + 1
        self.orders: list[Order] = []
        self.histories: dict[int, tuple[RefillStatus, ...]] = {}

    def add(
        self,
        account: Account,
        service: Service,
        status: OrderStatus,
        *,
        days_ago: int = 10,
        history: tuple[RefillStatus, ...] = (),
    ) -> int:
        """Add an order, which ended ``days_ago`` unless it is under way. Returns its number."""
        number = self.next_number + len(self.orders)
        quantity = self.dice.randint(service.min, 1000) // 10 * 10 + 10
        remains = {OrderStatus.COMPLETED: 0, OrderStatus.PARTIAL: quantity // 4}
        self.orders.append(
            Order(
                number=number,
                account=account,
                service=service,
                link=f"https://example.com/{service.category.replace(' ', '/')}/{self.dice.randint(1, 40)}",
                quantity=quantity,
                charge=(service.rate * quantity / 1000).quantize(Decimal("0.00001")),
                start_count=None if status == OrderStatus.PENDING else self.dice.randint(0, 50_000),
                remains=remains.get(status, quantity),
                status=status,
                created_at=self.now - timedelta(days=days_ago, hours=self.dice.randint(1, 40)),
                completed_at=None if status in UNDER_WAY else self.now - timedelta(days=days_ago),
            )
        )
        self.histories[number] = history
        return number

    def save(self, staff: Account) -> None:
        """Write the orders, request and settle their refills as customers and staff do, and date the refills back."""
        orders = {order.number: order for order in Order.objects.bulk_create(self.orders)}
        for turn in range(max(map(len, self.histories.values()), default=0)):
            wanted = {
                orders[number]: history[turn] for number, history in self.histories.items() if len(history) > turn
            }
            wishes = {order.id: wish for order, wish in wanted.items()}
            made = {}
            for account_id in {order.account_id for order in wanted}:
                theirs = [order.id for order in wanted if order.account_id == account_id]
                for order_id, requested in zip(theirs, request_refills(account_id, theirs), strict=True):
                    assert isinstance(requested, RequestedRefill), requested
                    made[requested.id] = wishes[order_id]
            for status in (RefillStatus.APPROVED, RefillStatus.COMPLETED, RefillStatus.REJECTED):
                reason = None
                if status == RefillStatus.REJECTED:
                    reason = self.dice.choice(RejectionReason.objects.filter(text__in=REASONS))
                settled = [refill_id for refill_id, wish in made.items() if wish == status]
                change_status(settled, StatusChange(status, reason=reason), staff)
        refills = list(Refill.objects.filter(order__in=orders.values()).order_by("created_at", "id"))
        for refill in refills:
            in_flight = refill.settled_at is None
            refill.created_at = self.now - timedelta(minutes=self.dice.randint(5, 2_000 if in_flight else 20_000))
            later = refill.created_at + (self.now - refill.created_at) * self.dice.random()
            refill.approved_at = refill.approved_at and later
            refill.settled_at = refill.settled_at and later
        Refill.objects.bulk_update(refills, ["created_at", "approved_at", "settled_at"])
