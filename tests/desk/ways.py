"""The fastest way for each task on the desk as it is, for an agent who knows it well.

A way begins on the list of refills as it opens. It ends when the browser shows that the task is done, and asserts that
the database has it too. ``NotPossible`` says what an agent has to do instead.
"""

from collections.abc import Callable, Sequence

from playwright.sync_api import Locator

from refills.models import Refill
from refills.settlement import StatusChange, change_status, claim
from refills.statuses import RefillStatus
from tests.desk.data import LOT, REASONS, Data
from tests.desk.hand import Count, Hand

LIST = "/admin/refills/refill/"


class NotPossible(Exception):
    """The desk has no way for this task."""


def settle_one(hands: Sequence[Hand], data: Data) -> Count:
    hand, oldest = hands[0], _oldest()
    hand.start(LIST)
    hand.think()
    hand.click(_row(hand, oldest).get_by_role("button", name="Complete"), loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.COMPLETED, oldest)
    return count


def settle_thirty(hands: Sequence[Hand], data: Data) -> Count:
    """Settle on the page of each refill: the next one opens by itself, and Complete stays under the pointer."""
    hand, refills = hands[0], _queue(30)
    hand.start(LIST)
    hand.think()
    hand.click(_row(hand, refills[0]).get_by_title(refills[0].pk), loads=True)
    for refill in refills:
        assert refill.pk in hand.page.url
        hand.see(hand.page.get_by_text("Start count"), hand.page.get_by_text("Would it be accepted now?"))
        hand.click(hand.page.get_by_role("button", name="Complete"), loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.COMPLETED, *refills)
    return count


def forty_of_one_service(hands: Sequence[Hand], data: Data) -> Count:
    hand, service = hands[0], data.lots.pop()
    refills = list(Refill.objects.in_flight().filter(service=service))
    assert len(refills) == LOT
    page = hand.page
    hand.start(LIST)
    hand.think()
    hand.click(page.locator("a", has_text="Filters"))
    hand.click(page.locator("select[name*=service] + .select2"), until=page.locator(".select2-search__field"))
    hand.type(str(service.name).partition(",")[0])
    only = page.locator(".select2-results__option--highlighted", has_text=service.name)
    only.wait_for()
    hand.press("Enter")
    hand.click(page.get_by_role("button", name="Apply"), loads=True)
    hand.think()
    hand.click(page.locator("#action-toggle"))
    hand.click(page.locator(".actions .question a, a.question, .question a").first)
    hand.choose(page.locator("select[name=action]"), "Complete selected refills")
    hand.click(page.get_by_role("button", name="Run"), loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.COMPLETED, *refills)
    return count


def reject_twelve(hands: Sequence[Hand], data: Data) -> Count:
    hand, refills = hands[0], _queue(24)[::2]
    page = hand.page
    hand.start(LIST)
    for refill in refills:
        hand.think()
        hand.click(_row(hand, refill).get_by_role("checkbox"))
    hand.choose(page.locator("select[name=action]"), "Reject selected refills…")
    hand.click(page.get_by_role("button", name="Run"), loads=True)
    hand.think()
    hand.choose(page.get_by_label("Reason"), REASONS[0])
    hand.click(page.get_by_role("button", name="Reject"), loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.REJECTED, *refills)
    return count


def find_by_link(hands: Sequence[Hand], data: Data) -> Count:
    """Search the orders, because this one has no refill; a search finds whole links only, so mend the link first.

    The order's page does not judge it, so the agent compares its completion with the period on the service's page.
    """
    hand, order = hands[0], data.without_refill.pop()
    page = hand.page
    hand.start(LIST)
    hand.think()
    hand.click(page.locator("a[href='/admin/orders/order/']").first, loads=True)
    search = page.locator("#searchbar")
    hand.click(search)
    hand.paste(order.link.replace("https://", "https://www.") + "?igsh=MzRlODBiNWFlZA")
    hand.think()
    hand.press("Control+Backspace")
    while "?" in search.input_value():
        hand.press("Backspace")
    hand.press("Home")
    hand.press("ArrowRight", times=len("https://"))
    hand.press("Delete", times=len("www."))
    assert search.input_value() == order.link
    hand.press("Enter", loads=True)
    hand.click(page.get_by_role("link", name=order.pk), loads=True)
    hand.see(page.get_by_text("Completed at"))
    hand.click(page.get_by_role("link", name=str(order.service)), loads=True)
    hand.see(page.get_by_text("Refill period").first)
    hand.think()  # the dates, compared
    return hand.stop()


def find_by_number(hands: Sequence[Hand], data: Data) -> Count:
    """Search the refills, because an earlier one's page judges the order; take the ``#`` away first."""
    hand, order = hands[0], data.with_refill.pop()
    page = hand.page
    refill = Refill.objects.get(order=order)
    hand.start(LIST)
    hand.think()
    hand.click(page.locator("#searchbar"))
    hand.paste(f"#{order.number}")
    hand.press("Home")
    hand.press("Delete")
    hand.press("Enter", loads=True)
    hand.click(_row(hand, refill).get_by_title(refill.pk), loads=True)
    hand.see(page.get_by_text("Refill period has expired"))
    return hand.stop()


def correct_a_mistake(hands: Sequence[Hand], data: Data) -> Count:
    hand, refill = hands[0], _oldest()
    change_status([refill.pk], StatusChange(RefillStatus.COMPLETED), data.agents[0])
    hand.start(f"{LIST}{refill.pk}/change/")
    assert hand.page.locator("#content-main form").count() == 0
    raise NotPossible(
        "The page of a settled refill has no button. The customer is told that it was completed; it counts towards the "
        "cap, and another refill can only be requested by the customer."
    )


def hand_over(hands: Sequence[Hand], data: Data) -> Count:
    """Release, and have the colleague take it by the number that the agent tells; the note goes by another program."""
    giver, taker = hands
    refill = _queue(200)[-1]
    claim([refill.pk], data.agents[0])
    taker.start(LIST)
    giver.start(f"{LIST}{refill.pk}/change/")
    giver.think()
    giver.click(giver.page.get_by_role("button", name="Release"), loads=True)
    gave = giver.stop()
    taker.think()
    taker.click(taker.page.locator("#searchbar"))
    taker.type(str(refill.number))
    taker.press("Enter", loads=True)
    taker.click(_row(taker, refill).get_by_role("button", name="Take"), loads=True)
    took = taker.stop()
    refill.refresh_from_db()
    assert refill.claimed_by == data.agents[1]
    return Count(
        gave.clicks + took.clicks,
        gave.keys + took.keys,
        gave.pages + took.pages,
        gave.hand + took.hand,
        took.machine,  # the taker's clock ran all the time
    )


WAYS: dict[str, Callable[[Sequence[Hand], Data], Count]] = {
    way.__name__: way
    for way in (
        settle_one,
        settle_thirty,
        forty_of_one_service,
        reject_twelve,
        find_by_link,
        find_by_number,
        correct_a_mistake,
        hand_over,
    )
}


def _queue(count: int) -> list[Refill]:
    """Return the first refills of the queue that nobody has taken."""
    return list(Refill.objects.in_flight().filter(claimed_by=None).oldest_first()[:count])


def _oldest() -> Refill:
    return _queue(1)[0]


def _row(hand: Hand, refill: Refill) -> Locator:
    return hand.page.get_by_role("row").filter(has=hand.page.get_by_title(refill.pk))


def _assert_status(status: RefillStatus, *refills: Refill) -> None:
    pks = [refill.pk for refill in refills]
    assert Refill.objects.filter(pk__in=pks, status=status).count() == len(pks)
