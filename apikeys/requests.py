"""The request of an account that has signed in."""

from django.http import HttpRequest

from apikeys.models import Account


class SignedInRequest(HttpRequest):
    """The request that a view gets if only users who have signed in can reach it.

    It is a type only, for views behind ``login_required`` or ``admin_view``: no request is an instance of it.
    """

    user: Account
