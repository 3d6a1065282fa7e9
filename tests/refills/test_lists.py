"""A list that staff paste or upload: what its lines name, what the preview says, and how it is settled."""

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from orders.models import Order
from refills import lists
from refills.lists import Entry
from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests import factories
from tests.conftest import settle

URL = reverse("admin:refills_refill_list")


@pytest.fixture
def admin(client, staff):
    client.force_login(staff)
    return client


def preview(client, text, numbers="either", **fields):
    response = client.post(URL, {"text": text, "numbers": numbers} | fields)
    assert response.status_code == 200
    return response.context


def verdicts(context):
    return [line.problem or line.warning or "fine" for line in context["lines"]]


def confirm(client, context, to, **fields):
    """Press a button of the preview."""
    body = {"refills": context["refills"], "text": context["list_form"]["text"].value(), "numbers": "either", "to": to}
    return client.post(URL, body | fields)


def messages_of(response):
    return [str(message) for message in get_messages(response.wsgi_request)]


def make(**fields):
    refill = factories.Refill(**fields)
    refill.refresh_from_db()
    return refill


def test_ids_and_numbers_of_refills_and_orders_name_refills(admin):
    refills = [make(order__number=900_000 + n) for n in range(4)]
    by_id, by_number, by_order, by_order_number = refills

    context = preview(
        admin, f"{by_id.pk.lower()} #{by_number.number}\n“{by_order.order_id}”|\u200b{by_order_number.order.number}"
    )

    assert [line.refill for line in context["lines"]] == refills
    assert [line.entry.line for line in context["lines"]] == [1, 1, 2, 2]
    assert verdicts(context) == ["fine"] * 4


def test_each_line_that_is_left_out_says_why(admin, staff):
    ann = factories.Account(username="ann")
    settled, taken, small = make(), make(), make(order__quantity=100, order__number=900_001)
    settle([settled.pk], RefillStatus.COMPLETED, ann)
    claim([taken.pk], ann)
    bare = factories.Order(number=900_002)

    context = preview(
        admin,
        "\n".join(
            [
                settled.pk,
                taken.pk,
                f"{small.pk};120",
                str(small.order.number),
                "2,000,000,028",
                "ref_01HG9X7KJP4N0123456789ABCD",
                bare.pk,
            ]
        ),
    )

    told = verdicts(context)
    assert told[0].startswith("completed by ann at ")
    assert told[1].startswith("taken by ann at ")
    assert told[2:] == [
        "120 units are more than the 100 of the order, so they must be confirmed",
        "it is in the list already, in line 3",
        "there is no such refill or order",
        "there is no such refill or order",
        "no refill was requested for order #900002",
    ]
    assert context["good"] == [context["lines"][2]]


def test_the_preview_says_what_the_settlement_then_says(admin, staff):
    ann = factories.Account(username="ann")
    settled, taken, small = make(), make(), make(order__quantity=100)
    settle([settled.pk], RefillStatus.REJECTED, ann, words="Private.")
    claim([taken.pk], ann)
    entries = [Entry(1, settled.pk), Entry(2, taken.pk), Entry(3, small.pk, 101)]

    told = [line.problem or line.warning for line in lists.preview(entries, staff)]
    refused = settle([entry.text for entry in entries], RefillStatus.COMPLETED, staff, delivered=101).refused

    assert told == [refused[entry.text].text for entry in entries]


def test_a_number_of_a_refill_and_of_another_order_is_ambiguous_until_it_is_said_which(admin):
    refill = make(number=700)
    other = make(order__number=700, number=800)

    [told] = verdicts(preview(admin, "700"))
    assert told.startswith("it may be refill #700 or order #700")
    for numbers, meant in (("refills", refill), ("orders", other)):
        [line] = preview(admin, "700", numbers)["lines"]
        assert (line.refill, line.problem) == (meant, "")


def test_an_order_stands_for_its_refill_in_flight_else_for_the_one_that_was_settled(admin, staff):
    order = factories.Order(number=900_001)
    make(order=order, status="completed", staff=factories.Account(username="ann"))
    assert verdicts(preview(admin, order.pk))[0].startswith("completed by ann at")

    in_flight = make(order=order)

    assert [line.refill for line in preview(admin, order.pk)["good"]] == [in_flight]


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("{0},120", [120]),
        ("#{0} ; 120", [120]),
        ('"{0}"\t"120"', [120]),
        ("{0},0", [0]),
        ("{0} {1}", [None, None]),
        ("{0},{1},120", [None, None, None]),
        ("{0},1.5", [None, None]),
    ],
)
def test_a_second_column_is_the_figure_delivered(admin, text, units):
    refills = [make(number=4_000_001), make(number=4_000_002)]
    context = preview(admin, text.format(*(refill.number for refill in refills)))

    assert [line.entry.delivered for line in context["lines"]] == units


def test_exactly_what_was_previewed_is_completed_with_its_units(admin, staff):
    first, second, third = (make() for _ in range(3))
    context = preview(admin, f"{first.pk},120\n{second.pk}")
    newer = make(order=third.order, status="rejected")

    # The text of the form names something else by now: it is the ids that count.
    response = confirm(admin, context, "completed", text=f"{third.pk} {newer.pk}", delivered="7", note="by list")

    assert response.status_code == 302
    done = Refill.objects.filter(status="completed").order_by("number")
    assert [(r.pk, r.delivered, r.note, r.settled_by) for r in done] == [
        (first.pk, 120, "by list", staff),
        (second.pk, 7, "by list", staff),
    ]
    [message] = messages_of(response)
    assert message.startswith(f"2 refills (#{first.number}, #{second.number}) were completed.")
    assert "Undo" in message


def test_the_whole_list_is_undone_at_once(admin):
    refills = [make() for _ in range(3)]
    response = confirm(admin, preview(admin, "\n".join(f"{r.pk},{n}" for n, r in enumerate(refills))), "completed")
    assert response.status_code == 302

    admin.post(reverse("admin:refills_refill_undo"), {"refills": " ".join(refill.pk for refill in refills)})

    assert list(Refill.objects.values_list("status", "delivered")) == [("pending", None)] * 3


def test_what_changed_since_the_preview_is_refused_and_told_by_cause(admin):
    fine, settled, taken = make(), make(), make()
    context = preview(admin, f"{fine.pk} {settled.pk} {taken.pk}")
    ann = factories.Account(username="ann")
    settle([settled.pk], RefillStatus.REJECTED, ann, reason=factories.RejectionReason())
    claim([taken.pk], ann)

    [message] = messages_of(confirm(admin, context, "completed"))

    assert f"Refill #{fine.number} was completed. 2 refills were refused." in message
    assert f"#{settled.number}: rejected by ann at" in message
    assert f"#{taken.number}: taken by ann at" in message


def test_a_rejection_without_words_for_the_customer_keeps_everything(admin):
    refill = make()
    context = preview(admin, refill.pk)

    response = confirm(admin, context, "rejected", note="they called")

    page = response.content.decode()
    assert "a rejection needs one of them" in page
    assert response.context["form"]["note"].value() == "they called"
    assert response.context["refills"] == refill.pk
    assert response.context["list_form"]["text"].value() == refill.pk
    refill.refresh_from_db()
    assert refill.status == "pending"


def test_a_list_is_rejected_and_its_figures_do_not_matter(admin):
    refill, reason = make(), factories.RejectionReason(text="Private.")

    confirm(admin, preview(admin, f"{refill.pk},120"), "rejected", reason=reason.pk)

    refill.refresh_from_db()
    assert (refill.status, refill.reason_text, refill.delivered) == ("rejected", "Private.", None)


def test_an_invalid_figure_keeps_everything(admin):
    refill = make()

    response = confirm(admin, preview(admin, refill.pk), "completed", delivered="1e3", note="n")

    assert "Enter the delivered units as a whole number" in response.content.decode()
    assert (response.context["form"]["delivered"].value(), response.context["refills"]) == ("1e3", refill.pk)


def test_more_units_than_the_quantity_are_refused_until_they_are_confirmed(admin):
    refill = make(order__quantity=100)
    context = preview(admin, f"{refill.pk},120")

    response = confirm(admin, context, "completed")
    assert "so they must be confirmed" in messages_of(response)[0]
    assert response.context["good"]  # the preview is still there
    confirm(admin, context, "completed", delivered_confirmed="on")

    refill.refresh_from_db()
    assert refill.delivered == 120


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_read_as_pasted_text_is(admin, mark):
    pasted, uploaded = make(), make()
    file = SimpleUploadedFile("list.csv", f"{mark}{uploaded.pk},5\r\n".encode())

    context = preview(admin, pasted.pk, file=file)

    assert [line.refill for line in context["good"]] == [pasted, uploaded]
    assert context["list_form"]["text"].value() == f"{pasted.pk}\n{uploaded.pk},5\r\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "Upload a text file in UTF-8"),
        ("700\r\n".encode("utf-16"), "Upload a text file in UTF-8"),
        (b"700\x00701", "Upload a text file in UTF-8"),
        (b"7" * 2 * 1024 * 1024, "Upload a file of at most 256 KB."),
        (b"", "this one is empty"),
    ],
)
def test_a_bad_file_gets_a_sentence_and_the_text_stays(admin, content, told):
    response = admin.post(URL, {"text": "my list", "numbers": "either", "file": SimpleUploadedFile("x.csv", content)})

    assert response.status_code == 200
    assert told in response.context["list_form"].errors["file"][0]
    assert response.context["list_form"]["text"].value() == "my list"
    assert told in response.content.decode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Paste ids or numbers"),
        (" ,;| \n", "Paste ids or numbers"),
        ("7 " * 1001, "Paste at most 1,000 ids or numbers at once: these are 1,001."),
        ("7" * 300_000, "Paste at most 1,000 ids or numbers."),
    ],
)
def test_a_bad_text_gets_a_sentence_and_stays(admin, text, told):
    response = admin.post(URL, {"text": text, "numbers": "either"})

    assert told in response.context["list_form"].errors["text"][0]
    assert response.context["list_form"]["text"].value() == text


@pytest.mark.parametrize("carried", ["", "nonsense", "700", "ref_01HG9X7KJP4N0123456789ABCD:9e9"])
def test_a_form_that_names_no_refill_changes_nothing(admin, carried):
    refill = make()

    response = admin.post(URL, {"text": refill.pk, "numbers": "either", "refills": carried, "to": "completed"})

    assert response.status_code == 200
    refill.refresh_from_db()
    assert refill.status == "pending"


def thousand(count):
    account, service = factories.Account(), factories.Service()
    orders = Order.objects.bulk_create(factories.Order.build_batch(count, account=account, service=service))
    return Refill.objects.bulk_create(Refill(order=order, account=account, service=service) for order in orders)


# A message about a thousand is too long for a cookie: the session keeps it, with three statements more.
@pytest.mark.parametrize(("count", "confirmed"), [(10, 9), (1000, 12)])
def test_the_statements_do_not_grow_with_the_list(admin, django_assert_num_queries, count, confirmed):
    text = "\n".join(refill.order_id if n % 2 else refill.pk for n, refill in enumerate(thousand(count)))
    admin.get(URL)

    # session, user, second factor; refills, orders, the refills of the orders; the reasons
    with django_assert_num_queries(7):
        context = preview(admin, text)
    assert len(context["good"]) == count
    # session, user, second factor; the six of a settlement
    with django_assert_num_queries(confirmed):
        confirm(admin, context, "completed")

    assert Refill.objects.filter(status="completed").count() == count


def test_a_thousand_lines_with_different_figures_are_completed(admin):
    refills = thousand(1000)
    context = preview(admin, "\n".join(f"{refill.pk},{n}" for n, refill in enumerate(refills)))

    confirm(admin, context, "completed")

    assert sorted(Refill.objects.values_list("delivered", flat=True)) == list(range(1000))
