"""A model of the hand that uses the desk: what it clicks and types, and how long that takes a skilled agent.

The operators are those of the keystroke-level model (Card, Moran and Newell, 1980), in seconds. Where a thing is on the
screen decides what it costs: no pointing if the pointer rests on it already, a scroll if it is out of view.

Each operator lasts as long as the model says, and what the desk does meanwhile costs nothing. The rest is the machine's
time, for which the agent waits.
"""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

from playwright.sync_api import Locator, Page

KEY = 0.2  # K: a key of a skilled typist; each key of a chord is one
POINT = 1.1  # P: to move the pointer to something; a scroll is taken to cost as much
BUTTON = 0.1  # B: to press the mouse's button
HOME = 0.4  # H: to move the hand between mouse and keyboard
THINK = 1.35  # M: to prepare mentally for one thing: to decide, to find something on the page

# Whether the middle of an element is in the window, and nothing covers it.
IN_VIEW = """thing => {
    const box = thing.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return top !== null && (thing.contains(top) || top.contains(thing));
}"""

UNDER_POINTER = "(thing, [x, y]) => thing.contains(document.elementFromPoint(x, y))"

# Whether desk.js takes clicks and keys: it takes none while it sends a form, nor on a page that has just appeared.
READY = "() => !sending && Date.now() >= restsUntil"

Wait = Callable[[], Any]


@dataclass
class Count:
    """What a task took."""

    clicks: int = 0
    keys: int = 0
    pages: int = 0  # that the browser loaded
    hand: float = 0.0  # seconds of the model
    machine: float = 0.0  # seconds of the server and the browser, for which the agent waits

    def __add__(self, other: "Count") -> "Count":
        return Count(*(mine + others for mine, others in zip(astuple(self), astuple(other), strict=True)))


class Hand:
    """An agent's hand at one browser window. It rests on the mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = Count()
        self._on_mouse = True
        self._pointer = (0.0, 0.0)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.on("domcontentloaded", self._loaded)

    def _loaded(self, page: Page) -> None:
        self.count.pages += 1

    def start(self, path: str) -> None:
        """Open the page on which a task begins, which is not counted, and begin to count."""
        self.page.goto(path)
        self.page.mouse.move(0, 0)
        self._pointer = (0.0, 0.0)
        self.start_here()

    def start_here(self) -> None:
        """Begin to count on the page as it is, with the hand on the mouse and the pointer where it rests."""
        self._on_mouse = True
        self.count = Count()
        self._started = time.monotonic()

    def stop(self) -> Count:
        self.count.machine = time.monotonic() - self._started - self.count.hand
        return self.count

    def think(self) -> None:
        self._take(THINK)

    def see(self, *things: Locator) -> None:
        """Take in things on the page: find them, and scroll to those that are not in view."""
        self.think()
        for thing in things:
            self._scroll_to(thing)

    def click(self, thing: Locator, *, loads: bool = False, until: Locator | None = None) -> None:
        """Click on something. Waits for the page that this loads, or until something is visible."""
        self._home(on_mouse=True)
        self._scroll_to(thing)
        if not thing.evaluate(UNDER_POINTER, list(self._pointer)):
            box = thing.bounding_box()
            assert box is not None
            self._pointer = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self._take(POINT)
            self.page.mouse.move(*self._pointer)
        self._take(BUTTON)
        self.count.clicks += 1
        x, y = self._pointer
        self._act(lambda: self.page.mouse.click(x, y), loads, until)

    def type(self, text: str) -> None:
        self._home(on_mouse=False)
        self._keys(len(text))
        self.page.keyboard.type(text)

    def press(self, keys: str, *, times: int = 1, loads: bool = False, until: Locator | None = None) -> None:
        """Press a key or a chord such as ``Control+v``. Waits as ``click`` does."""
        self._home(on_mouse=False)
        for _ in range(times):
            self._keys(len(keys.split("+")))
            self._act(lambda: self.page.keyboard.press(keys), loads, until)

    def paste(self, text: str, *, loads: bool = False) -> None:
        """Paste what was copied elsewhere: two keys, whatever its length."""
        self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        self.press("Control+v", loads=loads)

    def _keys(self, count: int) -> None:
        self.count.keys += count
        self._take(count * KEY)

    def _home(self, *, on_mouse: bool) -> None:
        if on_mouse != self._on_mouse:
            self._on_mouse = on_mouse
            self._take(HOME)

    def _scroll_to(self, thing: Locator) -> None:
        thing.wait_for()
        if not thing.evaluate(IN_VIEW):
            self._take(POINT)
            thing.evaluate("thing => thing.scrollIntoView({block: 'center', behavior: 'instant'})")
        thing.element_handle().wait_for_element_state("stable")

    def _take(self, seconds: float) -> None:
        self.count.hand += seconds
        self.page.wait_for_timeout(seconds * 1000)

    def _act(self, act: Wait, loads: bool, until: Locator | None) -> None:
        if not self.page.evaluate(READY):
            self.page.wait_for_function(READY)
        if loads:
            with self.page.expect_event("load"):
                act()
        else:
            act()
        if until is not None:
            until.wait_for()
