"""What to do about the words with which suppliers refuse. Staff maintain the list (``SupplierText``)."""

from functools import cached_property

from refills.models import RejectionReason, SupplierText

REJECTED = "The refill was rejected after it had been checked."  # if nothing in the list says more


class KnownTexts:
    """The list as it is now, read once."""

    @cached_property
    def _entries(self) -> list[tuple[str, SupplierText]]:
        entries = [(_plain(entry.text), entry) for entry in SupplierText.objects.select_related("reason")]
        return sorted(entries, key=lambda entry: -len(entry[0]))

    def find(self, words: str) -> SupplierText | None:
        """Return the longest entry that the words contain, in either case; None: they are unknown."""
        said = _plain(words)
        return next((entry for text, entry in self._entries if text in said), None)

    def reason_of_rejection(self, words: str) -> RejectionReason:
        """Return the reason for rejecting a refill that the supplier had accepted before."""
        known = self.find(words)
        if known is not None and known.reason is not None:
            return known.reason
        return RejectionReason.objects.get_or_create(text=REJECTED, defaults={"active": False})[0]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
