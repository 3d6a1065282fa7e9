"""Why something about orders was not done."""

from collections.abc import Sequence

from notpanel.kit.refusals import Refusal


class OrderNotFound(Refusal):
    message = "Order not found"
    cause = "Order ID doesn't exist or doesn't belong to your account."


class BadFile(Refusal):
    """A file has errors. ``errors`` holds the first of them, as pairs of line number and text."""

    message = "{errors}\nNothing was changed."

    def __init__(self, errors: Sequence[tuple[int, str]], count: int) -> None:
        self.errors, self.count = sorted(errors), count
        lines = [f"line {line}: {text}" for line, text in self.errors]
        if count > len(lines):
            lines.append(f"and {count - len(lines):,} more")
        super().__init__(errors="\n".join(lines))
