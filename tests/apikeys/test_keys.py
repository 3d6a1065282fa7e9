import hashlib
import itertools
import re
from datetime import timedelta
from ipaddress import ip_address

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apikeys.keys import (
    KEY_WITH_ITS_ACCOUNT,
    LARGEST_NUMBER_OF_KEYS,
    ApiKeyDetails,
    authenticate,
    change_api_key,
    create_api_key,
    latest_prefix,
    revoke_api_key,
    rotate_api_key,
)
from apikeys.models import LONGEST_GRACE, ApiKey, AuditEvent
from apikeys.refusals import ApiKeyEnded, ApiKeyRotated, ApiKeysChanged, TooManyApiKeys
from notpanel.kit.refusals import AccountSuspended, InvalidApiKey
from notpanel.kit.sql import fetch
from notpanel.urls import ACTIONS
from tests import factories, races


def test_the_raw_key_is_256_random_bits_with_a_recognisable_prefix(db):
    _, raw_key = create_api_key(factories.Account())
    _, another = create_api_key(factories.Account())

    assert re.fullmatch("np_[A-Za-z0-9_-]{43}", raw_key)
    assert raw_key != another


def test_only_its_digest_and_its_visible_beginning_are_stored(db):
    api_key, raw_key = create_api_key(factories.Account(), ApiKeyDetails("shop"))

    assert api_key.digest == hashlib.sha256(raw_key.encode()).hexdigest()
    assert api_key.prefix == raw_key[:11]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text FROM apikeys_apikey k")
        assert raw_key not in cursor.fetchone()[0]


def test_an_account_has_ten_active_keys_at_most(db):
    account = factories.Account()
    for _ in range(LARGEST_NUMBER_OF_KEYS):
        api_key, _ = create_api_key(account)

    with pytest.raises(TooManyApiKeys, match="10 active API keys at most"):
        create_api_key(account)

    create_api_key(factories.Account())
    assert revoke_api_key(api_key)
    create_api_key(account)
    assert account.api_keys.filter(revoked_at=None).count() == LARGEST_NUMBER_OF_KEYS


def test_a_key_is_revoked_once(db):
    api_key, _ = create_api_key(factories.Account())
    assert revoke_api_key(api_key)
    api_key.refresh_from_db()
    first = api_key.revoked_at

    assert not revoke_api_key(api_key)
    api_key.refresh_from_db()
    assert api_key.revoked_at == first


def test_the_database_refuses_a_limit_of_zero(db):
    with pytest.raises(IntegrityError, match="apikey_limit_is_positive"), transaction.atomic():
        create_api_key(factories.Account(), limit_per_minute=0)


def test_the_database_refuses_an_unknown_tier(db):
    with pytest.raises(IntegrityError, match="account_tier_is_known"), transaction.atomic():
        factories.Account(tier="gold")


class TestRaces:
    pytestmark = races.MARKS

    def test_the_tenth_key_is_created_once(self):
        account = factories.Account()
        for _ in range(LARGEST_NUMBER_OF_KEYS - 1):
            create_api_key(account)

        def create():
            try:
                return create_api_key(account)
            except TooManyApiKeys:
                return None

        created = races.race([create] * 20)

        assert sum(result is not None for result in created) == 1
        assert ApiKey.objects.filter(account=account, revoked_at=None).count() == LARGEST_NUMBER_OF_KEYS

    def test_a_form_that_is_sent_several_times_creates_one_key_or_rotates_it_once(self):
        def or_none(call, *args, **kwargs):
            try:
                return call(*args, **kwargs)
            except (ApiKeysChanged, ApiKeyRotated):
                return None

        account = factories.Account()
        created = races.race([lambda: or_none(create_api_key, account, latest="")] * 5)
        [(api_key, _)] = filter(None, created)

        values = races.race([lambda: or_none(rotate_api_key, ApiKey.objects.get(), api_key.prefix)] * 5)

        [raw_key] = filter(None, values)
        assert raw_key.startswith(ApiKey.objects.get().prefix)


@pytest.mark.parametrize("ended", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}])
def test_a_key_that_was_revoked_or_expired_meanwhile_is_not_rotated(db, ended):
    api_key, _ = create_api_key(factories.Account())
    ApiKey.objects.update(**ended)

    with pytest.raises(ApiKeyEnded, match="revoked or has expired"):
        rotate_api_key(api_key, api_key.prefix)

    assert ApiKey.objects.get().digest == api_key.digest


ENDED = [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}]


@pytest.mark.parametrize("ended", ENDED)
def test_a_revoked_or_expired_key_is_not_changed(db, ended):
    api_key, _ = create_api_key(factories.Account(), ApiKeyDetails("shop"))
    ApiKey.objects.update(**ended)

    with pytest.raises(ApiKeyEnded, match="revoked or has expired"):
        change_api_key(api_key, ApiKeyDetails("till", ("10.0.0.0/8",)))

    api_key.refresh_from_db()
    assert (api_key.name, api_key.allowed_networks) == ("shop", [])


def test_a_change_affects_only_the_details_of_one_key(db):
    account = factories.Account()
    other, _ = create_api_key(account, ApiKeyDetails("other"))
    api_key, raw_key = create_api_key(account, ApiKeyDetails("shop"), limit_per_minute=7)
    end = timezone.now() + timedelta(days=1)

    change_api_key(api_key, ApiKeyDetails("till", ("10.0.0.0/8",), end))

    assert (api_key.name, api_key.allowed_networks, api_key.expires_at) == ("till", ["10.0.0.0/8"], end)
    assert api_key.limit_per_minute == 7
    assert authenticate(raw_key, ip_address("10.0.0.1")).api_key_id == api_key.pk
    assert ApiKey.objects.get(pk=other.pk).name == "other"


def test_rotating_and_revoking_affect_one_key_only(db):
    account = factories.Account()
    _, other = create_api_key(account)
    api_key, _ = create_api_key(account)

    rotate_api_key(api_key, api_key.prefix)
    assert revoke_api_key(api_key)

    assert authenticate(other).account_id == account.pk


def test_rotating_a_key_clears_its_time_of_last_use(db):
    api_key, raw_key = create_api_key(factories.Account())
    authenticate(raw_key)

    rotate_api_key(api_key, api_key.prefix)

    assert api_key.last_used_at is None


@pytest.mark.parametrize("prefix", ["", "np_another0", "a\x00b"])
def test_a_key_is_not_rotated_if_the_form_has_another_prefix(db, prefix):
    api_key, raw_key = create_api_key(factories.Account())

    with pytest.raises(ApiKeyRotated):
        rotate_api_key(api_key, prefix)

    assert authenticate(raw_key)


def test_an_expired_key_may_be_revoked(db):
    api_key, _ = create_api_key(factories.Account(), ApiKeyDetails(expires_at=timezone.now()))

    assert revoke_api_key(api_key)


def test_the_statement_and_the_queryset_find_the_same_keys(db):
    now = timezone.now()
    second = timedelta(seconds=1)
    for revoked_at, expires_at in itertools.product(
        (None, now - second, now + second), (None, now - second, now, now + second)
    ):
        api_key, _ = create_api_key(factories.Account())
        ApiKey.objects.filter(pk=api_key.pk).update(revoked_at=revoked_at, expires_at=expires_at)

    found = {
        row[0]
        for digest in ApiKey.objects.values_list("digest", flat=True)
        for row in fetch(KEY_WITH_ITS_ACCOUNT, {"digest": digest, "now": now})
    }

    assert found == set(ApiKey.objects.active(now).values_list("pk", flat=True))
    assert len(found) == 2


def test_authenticate_returns_the_account_and_the_key(db):
    account = factories.Account(tier="agency")
    api_key, raw_key = create_api_key(account, limit_per_minute=7)

    caller = authenticate(raw_key)

    assert (caller.account_id, caller.tier) == (account.pk, "agency")
    assert (caller.api_key_id, caller.api_key_prefix, caller.limit_per_minute) == (api_key.pk, api_key.prefix, 7)


def test_an_address_that_is_not_allowed_does_not_learn_that_the_account_is_suspended(db):
    _, raw_key = create_api_key(factories.Account(is_active=False), ApiKeyDetails(allowed_networks=("10.0.0.0/8",)))

    for elsewhere in (ip_address("192.0.2.1"), None):
        with pytest.raises(InvalidApiKey):
            authenticate(raw_key, elsewhere)
    with pytest.raises(AccountSuspended):
        authenticate(raw_key, ip_address("10.0.0.1"))


def test_the_use_of_a_suspended_accounts_key_is_not_recorded(db):
    api_key, raw_key = create_api_key(factories.Account(is_active=False))

    with pytest.raises(AccountSuspended):
        authenticate(raw_key)

    assert ApiKey.objects.get(pk=api_key.pk).last_used_at is None


def test_the_use_of_a_key_is_recorded_once_a_minute(db, time_machine):
    _, raw_key = create_api_key(factories.Account())
    start = timezone.now()

    def last_use_at(seconds):
        time_machine.move_to(start + timedelta(seconds=seconds), tick=False)
        authenticate(raw_key)
        return (ApiKey.objects.get().last_used_at - start).total_seconds()

    assert [last_use_at(seconds) for seconds in (0, 59.9, 60, 61, 120)] == [0, 0, 60, 60, 120]


def test_a_use_that_another_request_has_just_recorded_is_not_recorded_again(db, monkeypatch):
    _, raw_key = create_api_key(factories.Account())
    recorded = timezone.now() - timedelta(seconds=1)

    def fetch_and_wait(*args):
        rows = fetch(*args)
        ApiKey.objects.update(last_used_at=recorded)
        return rows

    monkeypatch.setattr("apikeys.keys.fetch", fetch_and_wait)
    authenticate(raw_key)

    assert ApiKey.objects.get().last_used_at == recorded


def test_the_latest_prefix_is_of_the_key_created_last_even_if_revoked(db):
    account = factories.Account()
    assert latest_prefix(account) == ""
    create_api_key(account, latest="")
    last, _ = create_api_key(account)
    create_api_key(factories.Account())
    revoke_api_key(last)

    assert latest_prefix(account) == last.prefix
    with pytest.raises(ApiKeysChanged):
        create_api_key(account, latest="")
    create_api_key(account, latest=last.prefix)


class TestGrace:
    """The old value may keep working for a while after a rotation."""

    @pytest.fixture
    def key(self, db):
        return create_api_key(factories.Account())

    def test_both_values_authenticate_the_same_key(self, key):
        api_key, old = key
        new = rotate_api_key(api_key, api_key.prefix, timedelta(hours=1))

        assert authenticate(old) == authenticate(new)
        assert authenticate(old).api_key_id == api_key.pk

    def test_a_second_rotation_ends_the_value_from_before_the_old_one(self, key):
        api_key, first = key
        second = rotate_api_key(api_key, api_key.prefix, LONGEST_GRACE)
        third = rotate_api_key(api_key, api_key.prefix, LONGEST_GRACE)

        with pytest.raises(InvalidApiKey):
            authenticate(first)
        assert authenticate(second) == authenticate(third)

    def test_a_rotation_without_grace_ends_the_old_value_at_once(self, key):
        api_key, first = key
        second = rotate_api_key(api_key, api_key.prefix, LONGEST_GRACE)
        rotate_api_key(api_key, api_key.prefix)

        for value in (first, second):
            with pytest.raises(InvalidApiKey):
                authenticate(value)

    def test_revoking_the_key_ends_both(self, key):
        api_key, old = key
        new = rotate_api_key(api_key, api_key.prefix, LONGEST_GRACE)
        revoke_api_key(api_key)

        for value in (old, new):
            with pytest.raises(InvalidApiKey):
                authenticate(value)

    def test_no_grace_is_longer_than_a_day(self, key):
        api_key, _ = key

        with pytest.raises(IntegrityError), transaction.atomic():
            rotate_api_key(api_key, api_key.prefix, LONGEST_GRACE + timedelta(seconds=1))

    def test_the_grace_is_in_the_audit_log(self, key):
        api_key, _ = key
        rotate_api_key(api_key, api_key.prefix, timedelta(hours=1))

        assert AuditEvent.objects.get(kind="key_rotated").details["until"] == api_key.previous_until.isoformat()

    def test_both_values_are_found_by_an_index(self, key):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            statement = KEY_WITH_ITS_ACCOUNT.replace("%(digest)s", "'x'").replace("%(now)s", "now()")
            cursor.execute(f"EXPLAIN {statement}")
            plan = "\n".join(line for (line,) in cursor.fetchall())

        assert plan.count("Bitmap Index Scan on apikeys_apikey_") == 2, plan


def test_a_read_only_key_may_only_read(customer):
    ApiKey.objects.update(read_only=True)

    refused = [action.name for action in ACTIONS if customer.post(action.name).status_code == 403]

    assert refused == ["refill", "webhook.add", "webhook.remove"]
    assert customer.post("refill", order="1").json() == {"error": "API key is read-only"}
    assert customer.post("refill").json() == {"error": "API key is read-only"}
