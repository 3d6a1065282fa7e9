"""The keys with which the panel sends files: made and revoked by commands, bound to addresses."""

import hashlib
import re
from ipaddress import ip_address, ip_network

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError

from apikeys import keys
from apikeys.keys import create_api_key
from apikeys.models import AuditEvent, PanelKey
from apikeys.panel_keys import authenticate, create_panel_key
from notpanel.kit.refusals import InvalidApiKey
from tests import factories
from tests.conftest import post
from tests.work import counted

HOME = ip_address("203.0.113.7")


def create(*networks):
    return create_panel_key("shop", [ip_network(text) for text in networks or ("203.0.113.0/24",)])


def test_createpanelkey_prints_the_key_alone_and_stores_its_digest(db, capsys):
    call_command("createpanelkey", "shop", "--from", "203.0.113.0/24", "--from=2001:db8::1", "--limit", "7")

    output = capsys.readouterr()
    raw_key = output.out.strip()
    panel_key = PanelKey.objects.get()
    assert re.fullmatch("npp_[A-Za-z0-9_-]{43}", raw_key)
    assert raw_key not in output.err
    assert panel_key.digest == hashlib.sha256(raw_key.encode()).hexdigest()
    assert (panel_key.name, panel_key.limit_per_minute) == ("shop", 7)
    assert panel_key.allowed_networks == ["203.0.113.0/24", "2001:db8::1/128"]
    assert authenticate(raw_key, HOME).limit_per_minute == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ("shop",),
        ("shop", "--from", "there"),
        ("shop", "--from", "203.0.113.7", "--limit", "0"),
        ("", "--from", "203.0.113.7"),
        ("x" * 101, "--from", "203.0.113.7"),
    ],
)
def test_createpanelkey_reports_wrong_usage(db, arguments):
    with pytest.raises(CommandError) as error:
        call_command("createpanelkey", *arguments)

    assert not PanelKey.objects.exists()
    assert "arguments are required" in str(error.value) or error.value.returncode == 2


def test_a_key_is_bound_to_addresses_by_the_database_too(db):
    with pytest.raises(IntegrityError, match="panelkey_is_bound_to_addresses"):
        create_panel_key("shop", [])


@pytest.mark.parametrize("address", ["203.0.114.7", "2001:db8::1", None])
def test_a_key_is_refused_from_other_addresses(db, address):
    _, raw_key = create()
    assert authenticate(raw_key, HOME)

    with pytest.raises(InvalidApiKey):
        authenticate(raw_key, address and ip_address(address))


def test_revokepanelkey_revokes_from_the_next_request_on(db, capsys):
    panel_key, raw_key = create()

    call_command("revokepanelkey", panel_key.prefix)

    assert capsys.readouterr().out == f"Revoked shop ({panel_key.prefix}…).\n"
    with pytest.raises(InvalidApiKey):
        authenticate(raw_key, HOME)
    with pytest.raises(CommandError, match="is already revoked"):
        call_command("revokepanelkey", panel_key.prefix)


def test_revokepanelkey_refuses_a_whole_key_and_does_not_repeat_it(db):
    panel_key, raw_key = create()

    with pytest.raises(CommandError, match="Nothing was revoked") as error:
        call_command("revokepanelkey", raw_key)

    assert error.value.returncode == 2
    assert panel_key.prefix not in str(error.value)
    assert authenticate(raw_key, HOME)


def test_revokepanelkey_fails_for_an_unknown_key(db):
    with pytest.raises(CommandError, match="There is no panel key npp_unknown0…"):
        call_command("revokepanelkey", "npp_unknown0")


def test_the_audit_log_has_creation_and_revocation_but_not_the_key(db):
    panel_key, raw_key = create()
    call_command("revokepanelkey", panel_key.prefix)

    events = list(AuditEvent.objects.order_by("pk").values_list("kind", "account", "details"))
    details = {"key": panel_key.prefix, "name": "shop", "allowed_networks": ["203.0.113.0/24"]}
    assert events == [("panel_key_created", None, details), ("panel_key_revoked", None, details)]
    assert raw_key not in str(events)


def test_the_time_of_use_is_recorded_once_a_minute(db, time_machine):
    time_machine.move_to("2026-05-01T12:00:00Z", tick=False)
    panel_key, raw_key = create()

    def statements():
        with counted() as work:
            authenticate(raw_key, HOME)
        return work.statements

    assert [statements(), statements()] == [2, 1]
    time_machine.shift(60)
    assert statements() == 2
    panel_key.refresh_from_db()
    assert f"{panel_key.last_used_at:%H:%M}" == "12:01"


@pytest.mark.parametrize("sent", ["", "npp_", "npp_" + "x" * 43, "x" * 47])
def test_text_that_is_not_a_key_is_refused(db, sent):
    create()

    with pytest.raises(InvalidApiKey):
        authenticate(sent, HOME)


def test_customers_keys_and_panel_keys_never_stand_for_each_other(db):
    _, raw_key = create("127.0.0.1")
    _, customers = create_api_key(factories.Account())

    assert post(key=raw_key, action="services").status_code == 401
    with pytest.raises(InvalidApiKey):
        keys.authenticate(raw_key, HOME)
    with pytest.raises(InvalidApiKey):
        authenticate(customers, HOME)


def test_only_superusers_see_them_in_the_admin_and_nobody_changes_them(client, staff, db):
    panel_key, _ = create()
    client.force_login(staff)

    page = client.get("/admin/apikeys/panelkey/")

    assert panel_key.prefix in page.text
    assert panel_key.digest not in page.text
    assert client.get(f"/admin/apikeys/panelkey/{panel_key.pk}/change/").status_code == 200
    assert client.get("/admin/apikeys/panelkey/add/").status_code == 403
    client.force_login(factories.Account(is_staff=True))
    assert client.get("/admin/apikeys/panelkey/").status_code == 403
