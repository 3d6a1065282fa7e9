from notpanel.api.errors import ApiError


class OrderNotFound(ApiError):
    message = "Order not found"
    cause = "Order ID doesn't exist or doesn't belong to your account."
