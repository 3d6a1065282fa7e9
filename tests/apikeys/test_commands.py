from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from apikeys.keys import LARGEST_NUMBER_OF_KEYS, create_api_key
from apikeys.models import ApiKey
from tests import factories
from tests.conftest import post


def test_createapikey_prints_the_key_alone_and_it_works(db, capsys):
    factories.Account(username="shop")

    call_command("createapikey", "shop", "--name", "till", "--limit", "7")

    output = capsys.readouterr()
    raw_key = output.out.strip()
    assert post(key=raw_key, action="services").status_code == 200
    assert raw_key not in output.err
    api_key = ApiKey.objects.get()
    assert (api_key.account.username, api_key.name, api_key.limit_per_minute) == ("shop", "till", 7)


def test_createapikey_binds_a_key_to_addresses_and_gives_it_a_last_day(db, capsys, time_machine):
    time_machine.move_to(datetime(2026, 5, 1, tzinfo=UTC), tick=False)
    factories.Account(username="shop")

    call_command("createapikey", "shop", "--allow", "203.0.113.7", "--allow=2001:db8::1/32", "--last-day", "2026-05-01")

    api_key = ApiKey.objects.get()
    assert api_key.allowed_networks == ["203.0.113.7/32", "2001:db8::/32"]
    assert api_key.expires_at == datetime(2026, 5, 2, tzinfo=UTC)


def test_createapikey_sets_how_a_key_is_answered_and_what_it_may_do(db):
    factories.Account(username="shop")

    call_command("createapikey", "shop", "--answers", "perfectpanel", "--read-only")
    call_command("createapikey", "shop")

    keys = ApiKey.objects.order_by("pk").values_list("answers", "read_only")
    assert list(keys) == [("perfectpanel", True), ("notpanel", False)]


def test_createapikey_fails_for_an_unknown_account(db):
    with pytest.raises(CommandError, match="There is no account “nobody”") as error:
        call_command("createapikey", "nobody")

    assert error.value.returncode == 1


def test_createapikey_refuses_an_eleventh_key(db):
    account = factories.Account(username="shop")
    for _ in range(LARGEST_NUMBER_OF_KEYS):
        create_api_key(account)

    with pytest.raises(CommandError, match="10 active API keys at most"):
        call_command("createapikey", "shop")


@pytest.mark.parametrize(
    "option",
    [
        ("--limit", "0"),
        ("--limit", "2147483648"),
        ("--limit", "-3"),
        ("--name", "x" * 101),
        ("--allow", "there"),
        ("--last-day", "2020-01-01"),
    ],
)
def test_createapikey_reports_a_wrong_option_as_wrong_usage(db, option):
    factories.Account(username="shop")

    with pytest.raises(CommandError) as error:
        call_command("createapikey", "shop", *option)

    assert error.value.returncode == 2
    assert not ApiKey.objects.exists()


def test_revokeapikey_revokes_from_the_next_request_on(customer, capsys):
    call_command("revokeapikey", customer.api_key.prefix)

    assert "Revoked" in capsys.readouterr().out
    assert customer.post("services").status_code == 401


def test_revokeapikey_refuses_a_whole_key_and_does_not_repeat_it(customer, capsys):
    for argument in (customer.raw_key, customer.raw_key[:12], f"{customer.raw_key[:11]}…"):
        with pytest.raises(CommandError, match="rotate it") as error:
            call_command("revokeapikey", argument)

        assert error.value.returncode == 2
        assert customer.api_key.prefix not in str(error.value)
    assert customer.raw_key not in "".join(capsys.readouterr())
    assert customer.post("services").status_code == 200


@pytest.mark.parametrize("prefix", ["", "np_", "shop", "xx_abcdefgh", "np_abc defg", "np_abcd\0fgh"])
def test_revokeapikey_of_an_invalid_prefix_is_wrong_usage(db, prefix):
    with pytest.raises(CommandError, match="PREFIX is np_ and 8 characters") as error:
        call_command("revokeapikey", prefix)

    assert error.value.returncode == 2


def test_revokeapikey_fails_for_an_unknown_or_revoked_key(customer):
    with pytest.raises(CommandError, match="There is no key np_unknown0…"):
        call_command("revokeapikey", "np_unknown0")
    call_command("revokeapikey", customer.api_key.prefix)
    with pytest.raises(CommandError, match="is already revoked"):
        call_command("revokeapikey", customer.api_key.prefix)
