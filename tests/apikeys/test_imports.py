"""importaccounts: accounts are imported from whole files, or not at all."""

import io
import re
import smtplib
from decimal import Decimal

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from apikeys import imports
from apikeys.imports import ACCOUNT_COLUMNS, import_accounts
from apikeys.models import Account, AuditEvent
from notpanel.kit.refusals import BadFile, ServiceUnavailable
from tests import factories, races
from tests.work import counted

HEADER = "username,email,tier,balance,currency\n"
ROW = "shop,shop@example.com,reseller,12.5,EUR\n"


def load(text, **how):
    return import_accounts(io.BytesIO(text.encode()), **how)


def figures(imported):
    return imported.created, imported.changed, imported.unchanged


def values(username="shop"):
    return Account.objects.values_list("email", "tier", "balance", "currency").get(username=username)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "accounts.csv"

    def write(text):
        path.write_text(text)
        return str(path)

    return write


def test_a_row_becomes_an_account_that_nobody_can_sign_in_to_yet(db, file, capsys):
    call_command("importaccounts", file(HEADER + ROW))

    account = Account.objects.get()
    assert capsys.readouterr().out == "Imported: 1 created, 0 changed, 0 unchanged.\n"
    assert values() == ("shop@example.com", "reseller", Decimal("12.5"), "EUR")
    assert not account.has_usable_password()
    assert (account.is_active, account.is_staff, account.is_superuser) == (True, False, False)


def test_a_new_account_needs_a_name_only(db):
    load("username\nshop\n")

    assert values() == ("", "standard", None, "USD")


def test_a_known_account_is_changed_and_keeps_what_the_file_does_not_know(db):
    account = factories.Account(username="shop", is_active=False, first_name="Ann", time_zone="Asia/Tokyo")
    account.set_password("correct-horse-7")
    account.save()

    assert figures(load(HEADER + ROW)) == (0, 1, 0)
    assert figures(load(HEADER + ROW)) == (0, 0, 1)

    after = Account.objects.get()
    assert (after.pk, after.first_name, after.is_active, after.time_zone) == (account.pk, "Ann", False, "Asia/Tokyo")
    assert after.check_password("correct-horse-7")
    assert values() == ("shop@example.com", "reseller", Decimal("12.5"), "EUR")


@pytest.mark.parametrize("absent", ["email", "tier", "balance", "currency"])
def test_what_a_file_has_no_column_for_stays(db, absent):
    load(HEADER + ROW)
    before = values()
    given = {"username": "shop", "email": "new@example.com", "tier": "agency", "balance": "1", "currency": "GBP"}
    del given[absent]

    load(",".join(given) + "\n" + ",".join(given.values()))

    names = ("email", "tier", "balance", "currency")
    changed = [name for name, old, new in zip(names, before, values(), strict=True) if old != new]
    assert changed == [name for name in names if name != absent]


def test_an_empty_cell_clears_the_balance_and_changes_nothing_else(db):
    load(HEADER + ROW)

    load(HEADER + "shop,,,NULL,\n")

    assert values() == ("shop@example.com", "reseller", None, "EUR")


def test_a_balance_may_be_below_zero(db):
    load("username,balance\nshop,-3.25\n")

    assert values()[2] == Decimal("-3.25")


@pytest.mark.parametrize(
    "text",
    [
        "User;E-mail;Tier;Funds\nshop;shop@EXAMPLE.com;Reseller;12.50\n",
        '{"login": "shop", "mail": "shop@example.com", "tier": "RESELLER", "balance": 12.5}\n',
    ],
)
def test_the_words_of_panels_are_read(db, text):
    load(text)

    assert values() == ("shop@example.com", "reseller", Decimal("12.5"), "USD")


def test_a_name_in_full_width_is_the_name_with_which_its_owner_signs_in(db):
    load("username\nｓｈｏｐ\n")

    assert Account.objects.get().username == "shop"


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (",,,,", None),
        ("two words,,,,", "username: “two words” may have letters, digits and @ . + - _ only"),
        (f"{'x' * 151},,,,", "username: must be text of 1 to 150 characters"),
        ("b,nobody,,,", "email: “nobody” is not an e-mail address"),
        (f"b,{'x' * 250}@example.com,,,", "email: must be text of 1 to 254 characters"),
        ("b,,gold,,", "tier: “gold” is not one of standard, reseller, agency"),
        ("b,,,much,", "balance: “much” is not an amount from -999999999.99999 to 999999999.99999"),
        ("b,,,-1000000000,", "balance: “-1000000000” is not an amount"),
        ("b,,,1,EURO", "currency: “EURO” is not a currency code"),
        ("a,,,,", "username: “a” is in the file twice"),
        ("agent,,,,", "username: “agent” is an account of the staff, which no import changes"),
        ("root,,,,", "username: “root” is an account of the staff, which no import changes"),
    ],
)
def test_a_wrong_row_is_reported_with_its_line_and_nothing_changes(db, row, error):
    factories.Account(username="agent", is_staff=True)
    factories.Account(username="root", is_superuser=True)
    text = f"{HEADER}a,,,,\n{row}\n"
    if error is None:  # an empty row
        assert figures(load(text)) == (1, 0, 0)
        return

    with pytest.raises(BadFile) as refused:
        load(text)

    [(line, told)] = refused.value.errors
    assert (line, told[: len(error)]) == (3, error)
    assert Account.objects.count() == 2


def test_errors_of_all_kinds_are_reported_at_once(db, file):
    factories.Account(username="agent", is_staff=True)

    with pytest.raises(CommandError) as error:
        call_command("importaccounts", file(HEADER + "agent,,,,\nb,x,,,\n"))

    assert [line[:15] for line in str(error.value).splitlines()[1:]] == [
        "line 2: usernam",
        "line 3: email: ",
        "Nothing was cha",
    ]


def test_a_dry_run_changes_nothing(db, file, capsys):
    call_command("importaccounts", file(HEADER + ROW), "--dry-run", "--invite", "https://panel.example")

    assert capsys.readouterr().out == "Would be imported: 1 created, 0 changed, 0 unchanged.\n"
    assert not Account.objects.exists()
    assert not AuditEvent.objects.exists()
    assert mail.outbox == []


def test_the_audit_log_has_new_accounts_and_new_names_but_no_balances(db):
    load("username,email,balance\na,a@example.com,1\nb,b@example.com,1\n")
    load("username,email,balance\na,new@example.com,2\nb,b@example.com,2\n")

    events = AuditEvent.objects.order_by("pk").values_list("kind", "account__username", "details", "by", "address")
    nothing = {"is_staff": False, "is_superuser": False}
    assert list(events) == [
        ("account_created", "a", nothing, None, None),
        ("account_created", "b", nothing, None, None),
        ("account_changed", "a", {"changed": ["email"]}, None, None),
    ]


def test_the_statements_do_not_grow_with_the_file(db):
    def statements(count):
        text = HEADER + "".join(f"a{n},a{n}@example.com,,{count},\n" for n in range(count))
        with counted() as work:
            load(text)
        return work.statements

    # With BEGIN and COMMIT: the statement limit, the known accounts, the new ones, the changed ones, the audit log.
    assert statements(2) == statements(1000) == 7


def test_every_column_but_the_name_can_be_changed():
    assert tuple(column.name for column in ACCOUNT_COLUMNS[1:]) == imports._CHANGEABLE


class TestInvitations:
    def test_each_new_account_with_an_address_gets_a_link_that_sets_its_password(self, db, file, capsys):
        factories.Account(username="old", email="old@example.com")
        path = file(HEADER + ROW + "silent,,,,\nold,new@example.com,,,\n")

        call_command("importaccounts", path, "--invite", "https://panel.example/")

        assert "Invited: 1; without an e-mail address: 1." in capsys.readouterr().out
        [sent] = mail.outbox
        assert sent.to == ["shop@example.com"]
        [path] = re.findall(r"https://panel\.example(/dashboard/password/reset/\S+)", sent.body)
        client = Client()
        page = client.get(path, follow=True)
        new = {"new_password1": "another-horse-8", "new_password2": "another-horse-8"}
        client.post(page.redirect_chain[-1][0], new)
        assert Account.objects.get(username="shop").check_password("another-horse-8")
        assert AuditEvent.objects.filter(kind="invited").get().account.username == "shop"

    def test_nobody_gets_a_mail_unless_asked_for(self, db, file):
        call_command("importaccounts", file(HEADER + ROW), verbosity=0)

        assert mail.outbox == []

    def test_accounts_whose_mail_could_not_be_sent_are_named_and_kept(self, db, file, monkeypatch):
        send = mail.EmailMessage.send

        def fail(message, *args, **options):
            if message.to == ["b@example.com"]:
                raise smtplib.SMTPRecipientsRefused({})
            return send(message, *args, **options)

        monkeypatch.setattr("apikeys.invitations.EmailMessage.send", fail)
        path = file("username,email\na,a@example.com\nb,b@example.com\nc,c@example.com\n")

        with pytest.raises(CommandError, match=r"no mail could be sent to these: b\."):
            call_command("importaccounts", path, "--invite", "https://panel.example")

        assert Account.objects.count() == 3
        assert [message.to for message in mail.outbox] == [["a@example.com"], ["c@example.com"]]
        assert AuditEvent.objects.filter(kind="invited").count() == 2

    def test_a_mail_server_that_is_down_is_asked_once(self, db, file, settings):
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9

        with pytest.raises(CommandError, match=r"no mail could be sent to these: a, b\."):
            call_command(
                "importaccounts",
                file("username,email\na,a@example.com\nb,b@example.com\n"),
                "--invite",
                "https://panel.example",
            )

    @pytest.mark.parametrize("site", ["panel.example", "https://panel.example/dashboard/", "ftp://panel.example", ""])
    def test_an_invalid_site_is_wrong_usage(self, db, file, site):
        with pytest.raises(CommandError, match="must be the site without a path, such as https://panel"):
            call_command("importaccounts", file(HEADER + ROW), "--invite", site)

        assert not Account.objects.exists()


class TestRaces:
    pytestmark = races.MARKS

    def test_two_imports_of_the_same_accounts_end_in_either_order(self):
        names = [f"a{n}" for n in range(60)]
        files = ["username,balance\n" + "".join(f"{name},1\n" for name in order) for order in (names, names[::-1])]

        imported = races.race([lambda text=text: load(text) for text in files * 2])

        assert sorted(each.created for each in imported) == [0, 0, 0, 60]
        assert sorted(each.unchanged for each in imported) == [0, 60, 60, 60]
        assert AuditEvent.objects.count() == 60

    def test_two_imports_that_change_the_same_accounts_do_not_deadlock(self):
        for n in range(60):
            factories.Account(username=f"a{n}")
        names = [f"a{n}" for n in range(60)]
        files = [
            "username,balance\n" + "".join(f"{name},{value}\n" for name in order)
            for value, order in enumerate((names, names[::-1]))
        ]

        races.race([lambda text=text: load(text) for text in files * 2])

        assert len(set(Account.objects.values_list("balance", flat=True))) == 1

    def test_somebody_who_joins_the_staff_meanwhile_is_left_alone(self):
        with transaction.atomic():
            factories.Account(username="shop", is_staff=True)
            imported = races.Waiting(lambda: load("username,email\nshop,shop@example.com\n"))

        with pytest.raises(BadFile, match="line 2: username: “shop” is an account of the staff"):
            imported.result()
        assert values() == ("", "standard", None, "USD")

    def test_an_import_that_never_gets_its_names_is_told_to_try_again(self, monkeypatch):
        def fail(*args):
            raise IntegrityError

        monkeypatch.setattr(imports, "_write", fail)

        with pytest.raises(ServiceUnavailable):
            load("username\nshop\n")
