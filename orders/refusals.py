"""Why something about orders was not done."""

from notpanel.kit.refusals import Refusal


class OrderNotFound(Refusal):
    message = "Order not found"
    cause = "Order ID doesn't exist or doesn't belong to your account."
