from django.http import HttpRequest

from apikeys.models import Account


class SignedInRequest(HttpRequest):
    user: Account
