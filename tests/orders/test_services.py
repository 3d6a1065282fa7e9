"""action=services (contract.md)."""

from decimal import Decimal

from tests import factories


def test_the_active_services_are_listed(customer):
    factories.Service(
        id=7, name="Likes, été", type="Default", category="Likes", rate=Decimal("0.9"), refill=True, cancel=False
    )
    factories.Service(id=3, name="Views", category="Views", rate=Decimal("0.00123"), min=1, max=5, refill=False)
    factories.Service(id=5, active=False)

    response = customer.post("services")

    assert response.status_code == 200
    assert response.json() == [
        {
            "service": 3,
            "name": "Views",
            "type": "Default",
            "category": "Views",
            "rate": "0.00123",
            "min": "1",
            "max": "5",
            "refill": False,
            "cancel": False,
        },
        {
            "service": 7,
            "name": "Likes, été",
            "type": "Default",
            "category": "Likes",
            "rate": "0.90",
            "min": "50",
            "max": "10000",
            "refill": True,
            "cancel": False,
        },
    ]


def test_no_service_is_an_empty_list(customer):
    assert customer.post("services").json() == []


def test_the_statements_do_not_grow_with_the_catalogue(customer, django_assert_num_queries):
    factories.Service.create_batch(50)
    customer.post("services")

    with django_assert_num_queries(2):  # the key, the services
        customer.post("services")
