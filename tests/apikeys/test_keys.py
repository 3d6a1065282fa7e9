import hashlib
import re

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apikeys.keys import (
    LARGEST_NUMBER_OF_KEYS,
    ApiKeyDetails,
    create_api_key,
    revoke_api_key,
    rotate_api_key,
)
from apikeys.models import ApiKey
from apikeys.refusals import ApiKeyEnded, ApiKeyRotated, ApiKeysChanged, TooManyApiKeys
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


def test_the_database_refuses_a_limit_of_nothing(db):
    with pytest.raises(IntegrityError, match="apikey_limit_is_positive"), transaction.atomic():
        create_api_key(factories.Account(), limit_per_minute=0)


def test_the_database_refuses_an_unknown_tier(db):
    with pytest.raises(IntegrityError, match="account_tier_is_known"), transaction.atomic():
        factories.Account(tier="gold")


class TestRaces:
    pytestmark = races.pytestmark

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

    def test_of_a_form_that_is_sent_several_times_one_creates_a_key_and_one_rotates_it(self):
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
def test_a_key_that_ended_meanwhile_gets_no_new_value(db, ended):
    api_key, _ = create_api_key(factories.Account())
    ApiKey.objects.update(**ended)

    with pytest.raises(ApiKeyEnded, match="revoked or has expired"):
        rotate_api_key(api_key, api_key.prefix)

    assert ApiKey.objects.get().digest == api_key.digest
