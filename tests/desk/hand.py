"""A model of the hand that uses the desk: what it clicks and types, and how long that takes a skilled agent.

The operators are those of the keystroke-level model (Card, Moran and Newell, 1980), in seconds. Where a thing is on the
screen decides what it costs: no pointing if the pointer rests on it already, a scroll if it is out of view.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page

KEY = 0.2  # K: a key of a skilled typist; each key of a chord is one
POINT = 1.1  # P: to move the pointer to something; a scroll is taken to cost as much
BUTTON = 0.1  # B: to press the mouse's button
HOME = 0.4  # H: to move the hand between mouse and keyboard
THINK = 1.35  # M: to prepare mentally for one thing: to decide, to find something on the page

# Whether a thing's middle is in the window, and nothing lies over it.
IN_VIEW = """thing => {
    const box = thing.getBoundingClientRect();
    const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return top !== null && (thing.contains(top) || top.contains(thing));
}"""

UNDER_POINTER = "(thing, [x, y]) => thing.contains(document.elementFromPoint(x, y))"

Wait = Callable[[], Any]


@dataclass
class Count:
    """What a task took."""

    clicks: int = 0
    keys: int = 0
    pages: int = 0  # that the browser loaded
    hand: float = 0.0  # seconds of the model
    machine: float = 0.0  # seconds of the server and the browser


class Hand:
    """An agent's hand at one browser window. It rests on the mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.count = Count()
        self._on_mouse = True
        self._pointer = (0.0, 0.0)
        page.on("domcontentloaded", self._loaded)

    def _loaded(self, page: Page) -> None:
        self.count.pages += 1

    def start(self, path: str) -> None:
        """Open the page on which a task begins, which counts for nothing, and begin to count."""
        self.page.goto(path)
        self.page.mouse.move(0, 0)
        self._on_mouse, self._pointer = True, (0.0, 0.0)
        self.count = Count()
        self._started = time.monotonic()

    def stop(self) -> Count:
        self.count.machine = time.monotonic() - self._started
        return self.count

    def think(self) -> None:
        self.count.hand += THINK

    def see(self, *things: Locator) -> None:
        """Look at things on the page: scroll to those that are not wholly in view, and take them in."""
        for thing in things:
            self._scroll_to(thing)
        self.think()

    def click(self, thing: Locator, *, loads: bool = False, until: Locator | None = None) -> None:
        """Click on something. Waits for the page that this loads, or until something is visible."""
        self._home(on_mouse=True)
        self._scroll_to(thing)
        if not thing.evaluate(UNDER_POINTER, list(self._pointer)):
            box = thing.bounding_box()
            assert box is not None
            self._pointer = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            self.page.mouse.move(*self._pointer)
            self.count.hand += POINT
        self.count.hand += BUTTON
        self.count.clicks += 1
        x, y = self._pointer
        self._waiting(lambda: self.page.mouse.click(x, y), loads, until)

    def choose(self, box: Locator, label: str) -> None:
        """Choose from a list that drops down, with two clicks: the browser's own list is out of a script's reach."""
        self.click(box)
        self.page.keyboard.press("Escape")  # closes the list; no key of the agent's
        box.select_option(label=label)
        self.count.hand += POINT + BUTTON
        self.count.clicks += 1

    def type(self, text: str) -> None:
        self._home(on_mouse=False)
        self._keys(len(text))
        self.page.keyboard.type(text)

    def press(self, keys: str, *, times: int = 1, loads: bool = False, until: Locator | None = None) -> None:
        """Press a key or a chord such as ``Control+v``. Waits as ``click`` does."""
        self._home(on_mouse=False)
        for _ in range(times):
            self._keys(len(keys.split("+")))
            self._waiting(lambda: self.page.keyboard.press(keys), loads, until)

    def paste(self, text: str) -> None:
        """Paste what was copied elsewhere: two keys, whatever its length."""
        self._home(on_mouse=False)
        self._keys(2)
        self.page.keyboard.insert_text(text)

    def _keys(self, count: int) -> None:
        self.count.keys += count
        self.count.hand += count * KEY

    def _home(self, *, on_mouse: bool) -> None:
        if on_mouse != self._on_mouse:
            self._on_mouse = on_mouse
            self.count.hand += HOME

    def _scroll_to(self, thing: Locator) -> None:
        thing.wait_for()
        if not thing.evaluate(IN_VIEW):
            thing.evaluate("thing => thing.scrollIntoView({block: 'center', behavior: 'instant'})")
            self.count.hand += POINT
        thing.element_handle().wait_for_element_state("stable")

    def _waiting(self, act: Wait, loads: bool, until: Locator | None) -> None:
        if loads:
            with self.page.expect_event("load"):
                act()
        else:
            act()
        if until is not None:
            until.wait_for()
