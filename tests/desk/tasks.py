"""The tasks that are measured, and how many of each a day of 300 refills has."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    name: str
    words: str
    times: float  # a day, of four agents together


# 300 refills: 160 in runs of thirty, 80 as two lots of forty, 36 as three lots of twelve, 24 one by one.
TASKS = (
    Task("settle_one", "settle one: complete the oldest, from the list", 24),
    Task("settle_thirty", "settle 30 in a row, each with a look at its order and rules", 160 / 30),
    Task("forty_of_one_service", "complete the forty of one service", 2),
    Task("reject_twelve", "reject 12 of a page for the same reason", 3),
    Task("find_by_link", "find the order of a pasted link, and say why it is refused", 20),
    Task("find_by_number", "find the order of a pasted `#number`, and say why it is refused", 10),
    Task("correct_a_mistake", "set back a refill that was completed in error", 3),
    Task("hand_over", "hand a refill over to a colleague, with a note", 4),
)
