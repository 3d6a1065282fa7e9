"""Accounts are found by a part of their names."""

import pytest

from apikeys.lookups import find_accounts
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("part", ["some-shop", "SOME", "e-s", "Shop", "op", "ann@Example.org", "ANN@", "xample.o", "-"])
def test_any_part_of_a_name_in_either_case_finds_the_account(part):
    account = factories.Account(username="Some-Shop" if part != "-" else "-", email="Ann@example.ORG")
    factories.Account(username="another")

    assert find_accounts([part], 9) == [account]


@pytest.mark.parametrize("part", ["some shop", "s", "shopsome", "emo", "%", "__", "\\", "meso", "ann@example.or_"])
def test_text_that_is_not_part_of_a_name_finds_nothing(part):
    factories.Account(username="some-shop", email="ann@example.org")

    assert not find_accounts([part], 9)


def test_letters_of_other_scripts_are_found():
    account = factories.Account(username="Łódź-магазин-店")

    for part in ("łó", "МАГ", "店", "н-店"):
        assert find_accounts([part], 9) == ([account] if len(part) > 1 else [])


def test_the_whole_name_comes_first():
    longer, whole = factories.Account(username="a-shop"), factories.Account(username="SHOP")
    by_mail = factories.Account(username="zoe", email="shop")

    assert find_accounts(["shop"], 9) == [whole, by_mail, longer]


def test_several_names_are_found_at_once():
    accounts = [factories.Account(username=name) for name in ("ann", "ben")]
    factories.Account(username="zoe")

    assert find_accounts(["an", "be"], 9) == accounts


def test_the_whole_name_is_among_the_results_even_if_few_are_wanted():
    factories.Account.create_batch(3)  # customer…
    whole = factories.Account(username="custom")

    assert find_accounts(["custom"], 2)[0] == whole
    assert len(find_accounts(["custom"], 2)) == 2


def test_no_name_finds_nothing():
    factories.Account()

    assert not find_accounts([], 9)
