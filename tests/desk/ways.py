"""The fastest way for each task on the desk as it is, for an agent who knows it well.

A way begins on the list of refills as it opens, unless it says otherwise. It ends when the browser shows that the task
is done, and asserts that the database has it too.
"""

import re
from collections.abc import Callable, Sequence

from django.utils import timezone
from playwright.sync_api import Locator, expect

from apikeys.models import Account
from refills.models import Refill
from refills.settlement import claim
from refills.statuses import RefillStatus
from tests.desk.data import LOT, REASONS, Data
from tests.desk.hand import Count, Hand

LIST = "/admin/refills/refill/"
NOTE = "The supplier asks for a new link."
REFUSED = "A request would be refused now: Refill period has expired"


def settle_one(hands: Sequence[Hand], data: Data) -> Count:
    hand, [oldest] = hands[0], _queue(1, data.agents[0])
    hand.start(LIST)
    hand.think()
    hand.click(_row(hand, oldest).get_by_role("button", name="Complete"), loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.COMPLETED, oldest)
    return count


def settle_thirty(hands: Sequence[Hand], data: Data) -> Count:
    """Work through the list by keys. A page that changes in place stays scrolled to what the agent needs to decide."""
    hand, [*refills, following] = hands[0], _queue(31, data.agents[0])
    page = hand.page
    hand.start(LIST)
    hand.think()
    hand.press("j", loads=True)
    for refill, after in zip(refills, [*refills[1:], following], strict=True):
        expect(_number(hand, refill)).to_be_visible()
        hand.see(
            page.locator(".desk-glance").get_by_text("Start", exact=True), page.get_by_text("Would it be accepted now?")
        )
        hand.press("c", until=_number(hand, after))
    count = hand.stop()
    expect(page.get_by_text(f"Refill #{refills[-1].number} was completed.")).to_be_visible()
    _assert_status(RefillStatus.COMPLETED, *refills)
    return count


def forty_of_one_service(hands: Sequence[Hand], data: Data) -> Count:
    """Filter by the service's number, with the keyboard: the button moves the focus into the filters."""
    hand, service = hands[0], data.lots.pop()
    refills = list(Refill.objects.in_flight().filter(service=service))
    assert len(refills) == LOT
    page = hand.page
    hand.start(LIST)
    hand.think()
    hand.click(page.get_by_role("button", name="Filters"))
    hand.press("Tab", times=3)
    hand.press("Enter", until=page.locator(".select2-search__field"))
    hand.type(str(service.pk))
    page.locator(".select2-results__option--highlighted", has_text=str(service)).wait_for()
    hand.press("Enter")
    hand.press("Tab", times=2)
    hand.press("Enter", loads=True)  # in a field, where it applies the filters
    hand.think()
    hand.click(page.locator("#action-toggle"))
    hand.click(page.locator(".question a"))
    hand.press("c", loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.COMPLETED, *refills)
    return count


def reject_twelve(hands: Sequence[Hand], data: Data) -> Count:
    """Go from box to box by the arrows. The bar of actions has the reason; Enter in its next field runs the action."""
    hand, refills = hands[0], _queue(24, data.agents[0])[::2]
    page = hand.page
    hand.start(LIST)
    hand.think()
    hand.click(_row(hand, refills[0]).get_by_role("checkbox"))
    for _ in refills[1:]:
        hand.think()
        hand.press("ArrowDown", times=2)
        hand.press("Space")
    hand.press("r", until=page.get_by_label("Reason", exact=True))
    hand.think()
    hand.press(REASONS[0][0].lower())
    hand.press("Tab")
    hand.press("Enter", loads=True)
    count = hand.stop()
    _assert_status(RefillStatus.REJECTED, *refills)
    assert {refill.reason_text for refill in Refill.objects.filter(pk__in=[each.pk for each in refills])} == {
        REASONS[0]
    }
    return count


def find_by_link(hands: Sequence[Hand], data: Data) -> Count:
    """Paste the link, as the customer sent it, into the list: it is searched for, and the order is judged."""
    hand, order = hands[0], data.without_refill.pop()
    hand.start(LIST)
    hand.think()
    hand.paste(order.link.replace("https://", "https://www.") + "?igsh=MzRlODBiNWFlZA", loads=True)
    hand.see(hand.page.get_by_text(REFUSED))
    return hand.stop()


def find_by_number(hands: Sequence[Hand], data: Data) -> Count:
    """Paste the number of an order with a settled refill into the list, in the same way."""
    hand, order = hands[0], data.with_refill.pop()
    hand.start(LIST)
    hand.think()
    hand.paste(f"#{order.number}", loads=True)
    hand.see(hand.page.get_by_text(REFUSED))
    return hand.stop()


def correct_a_mistake(hands: Sequence[Hand], data: Data) -> Count:
    """Undo, by its key, what the message on the list reports. The task begins when that shows the wrong number."""
    hand, [refill] = hands[0], _queue(1, data.agents[0])
    page = hand.page
    hand.start(LIST)
    hand.click(_row(hand, refill).get_by_role("button", name="Complete"), loads=True)
    _assert_status(RefillStatus.COMPLETED, refill)
    hand.start_here()
    hand.see(page.get_by_text(f"Refill #{refill.number} was completed."))
    hand.press("u", loads=True)
    count = hand.stop()
    expect(page.get_by_text(f"Refill #{refill.number} was set back to pending.")).to_be_visible()
    _assert_status(RefillStatus.PENDING, refill)
    return count


def hand_over(hands: Sequence[Hand], data: Data) -> Count:
    """Begin on the page of a refill that the giver has taken, and write the note there.

    The first agent sends the colleague the number by other means. The colleague reads the note and takes the refill
    over.
    """
    giver, taker = hands
    refill = _queue(200, data.agents[0])[-1]
    claim([refill.pk], data.agents[0])
    giver.start(f"{LIST}{refill.pk}/change/")
    giver.think()
    giver.press("n")
    giver.type(NOTE)
    giver.press("Tab")
    giver.press("Enter", until=giver.page.get_by_text("was given your note"))
    gave = giver.stop()
    taker.start(LIST)
    taker.think()
    taker.press("/", until=taker.page.locator("#searchbar:focus"))
    taker.type(str(refill.number))
    taker.press("Enter", loads=True)
    taker.click(_row(taker, refill).get_by_title(refill.pk), loads=True)
    taker.see(taker.page.get_by_text(NOTE))
    taker.press("t", until=taker.page.get_by_role("button", name="Release"))
    took = taker.stop()
    refill.refresh_from_db()
    assert refill.claimed_by == data.agents[1]
    assert refill.notes.get().text == NOTE
    return gave + took


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


def _queue(count: int, agent: Account) -> list[Refill]:
    """Return the first refills that wait and that ``agent`` may settle."""
    now = timezone.now()
    return list(Refill.objects.waiting(now).free_for(agent, now).oldest_first()[:count])


def _row(hand: Hand, refill: Refill) -> Locator:
    return hand.page.get_by_role("row").filter(has=hand.page.get_by_title(refill.pk))


def _number(hand: Hand, refill: Refill) -> Locator:
    """Return the number at the top of a refill's page."""
    return hand.page.locator("#desk-page strong", has_text=re.compile(f"^#{refill.number}$"))


def _assert_status(status: RefillStatus, *refills: Refill) -> None:
    pks = [refill.pk for refill in refills]
    assert Refill.objects.filter(pk__in=pks, status=status).count() == len(pks)
