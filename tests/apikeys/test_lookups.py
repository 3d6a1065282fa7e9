"""Accounts are found by a part of their names."""

import pytest

from apikeys.lookups import accounts_named
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("part", ["some-shop", "SOME", "e-s", "Shop", "op", "ann@Example.org", "ANN@", "xample.o", "-"])
def test_any_part_of_a_name_in_either_case_finds_the_account(part):
    account = factories.Account(username="Some-Shop" if part != "-" else "-", email="Ann@example.ORG")
    factories.Account(username="another")

    assert list(accounts_named([part])) == [account]


@pytest.mark.parametrize("part", ["some shop", "s", "shopsome", "emo", "%", "__", "\\", "meso", "ann@example.or_"])
def test_what_is_no_part_of_a_name_finds_nothing(part):
    factories.Account(username="some-shop", email="ann@example.org")

    assert not accounts_named([part])


def test_letters_of_other_scripts_are_found():
    account = factories.Account(username="Łódź-магазин-店")

    for part in ("łó", "МАГ", "店", "н-店"):
        assert list(accounts_named([part])) == ([account] if len(part) > 1 else [])


def test_the_whole_name_comes_first():
    longer, whole = factories.Account(username="a-shop"), factories.Account(username="SHOP")
    by_mail = factories.Account(username="zoe", email="shop")

    assert list(accounts_named(["shop"])) == [whole, by_mail, longer]


def test_several_names_are_found_at_once():
    accounts = [factories.Account(username=name) for name in ("ann", "ben")]
    factories.Account(username="zoe")

    assert list(accounts_named(["an", "be"])) == accounts


def test_no_name_finds_nothing():
    factories.Account()

    assert not accounts_named([])
