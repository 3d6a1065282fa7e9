"""Why something about a key or an account was not done."""

import math

from notpanel.kit.refusals import Refusal


class TooManyApiKeys(Refusal):
    message = "An account may have {limit} active API keys at most. Revoke one first."


class ApiKeysChanged(Refusal):
    message = "Your keys have changed in the meantime. Send the form again to create one more."


class ApiKeyRotated(Refusal):
    message = "This key was rotated in the meantime. Send the form again to rotate it once more."


class ApiKeyEnded(Refusal):
    message = "This key is revoked or has expired. Create a new one."


class NoReasonGiven(Refusal):
    message = "Give a reason."


class CannotSuspendYourself(Refusal):
    message = "You cannot suspend yourself."


class OnlySuperusers(Refusal):
    message = "Only superusers can change, suspend and restore the accounts of staff."


class LastSuperuser(Refusal):
    message = "This is the last active superuser. Make somebody else a superuser first."


class NameTaken(Refusal):
    message = "“{name}” is the name of another account. Choose another name."


class HasPassword(Refusal):
    message = "Only active staff who have no password yet can be invited. Others can reset theirs on the sign-in page."


class NoAddress(Refusal):
    message = "This account has no email address. Enter one, then send the invitation."


class InvitationNotSent(Refusal):
    message = (
        "The invitation to {email} could not be sent, and the account is kept. Check the address and the mail server, "
        "then send the invitation again."
    )


class AccountErased(Refusal):
    message = "This account was erased, and nobody can use it again. Create a new account."


class CannotEraseStaff(Refusal):
    message = "Accounts of staff and suppliers cannot be erased: the history says which of them settled refills."


class NotOfTheStaff(Refusal):
    message = "This account is not staff. Suspend it instead."


class CannotLeave(Refusal):
    message = "You cannot end your own account. Ask another superuser."


class SecondFactorMissing(Refusal):
    message = "This account has no second factor. Set one up first."


class SecondFactorIsRequired(Refusal):
    message = "Staff must have a second factor here. To change your phone, ask a superuser to reset it."


class WrongCode(Refusal):
    message = "This code is wrong or has been used before. Wait until your app shows the next one, and enter that."


class TooManyAttempts(Refusal):
    """No password is checked for the next ``wait`` seconds."""

    message = "Too many wrong passwords. Try again in {minutes}."

    def __init__(self, wait: int) -> None:
        self.wait = wait
        minutes = math.ceil(wait / 60)
        super().__init__(minutes=f"{minutes} minute{'s' if minutes > 1 else ''}")


class TooManyCodes(TooManyAttempts):
    """No code is checked for the next ``wait`` seconds."""

    message = "Too many wrong codes. Try again in {minutes}."


# ---- Webhooks. The first five are answers of the API: docs/contract.md, "Webhooks".


class WebhookNotFound(Refusal):
    message = "Webhook not found"
    cause = "The webhook doesn't exist, was removed, or doesn't belong to your account."


class InvalidWebhookUrl(Refusal):
    message = "Invalid webhook URL: {problem}"
    cause = "The URL cannot be posted to. The text says what is wrong with it."
    example = {"problem": "it must begin with https://"}


class UnknownWebhookEvent(Refusal):
    message = "Unknown webhook event"
    cause = "The parameter events names an event that doesn't exist. Names are case-sensitive."


class WebhookExists(Refusal):
    message = "A webhook with this URL already exists"
    cause = "Your account has an endpoint with exactly this URL. Remove it first, or use another URL."


class WebhookLimitReached(Refusal):
    message = "Webhook limit reached ({limit} per account)"
    cause = "Remove an endpoint before you add another."
    example = {"limit": 5}


class WebhookRotated(Refusal):
    message = "The secret was rotated in the meantime. Send the form again to rotate it once more."


class WebhookNotActive(Refusal):
    message = "Resume the webhook first: nothing is sent to it now."


class WebhookTestWaits(Refusal):
    message = "A test event is already on its way. See the deliveries below."


class NotReplayable(Refusal):
    message = "This delivery is already on its way. Reload the page to see its result."


class LinkExpired(Refusal):
    message = "This link has expired or has been used already. Ask for a new one."


class EmailNotConfirmed(Refusal):
    message = "Confirm your e-mail address before you choose mails."


class EmailTaken(Refusal):
    message = "Another account has this address. Choose a different one."
