from django.http import HttpRequest


def is_superuser(request: HttpRequest) -> bool:
    """Return whether a superuser is signed in. Superusers alone manage staff."""
    return bool(request.user.is_active and request.user.is_superuser)
