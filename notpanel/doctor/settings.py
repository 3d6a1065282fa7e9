"""Checks of the settings, as far as they can be judged by themselves."""

from collections.abc import Iterator

from django.conf import settings

from notpanel.doctor.checks import Check
from notpanel.server.checks import check_counters, check_debug, check_secret_key, check_worker

OF_THIS_MACHINE = {"localhost", "127.0.0.1", "[::1]"}  # the default of ALLOWED_HOSTS


def _debug() -> Iterator[str]:
    check_debug()
    if settings.DEBUG:
        yield "DEBUG is on: error pages show the source and the settings. Set DEBUG=off."


def _hosts() -> Iterator[str]:
    hosts = set(settings.ALLOWED_HOSTS)
    if "*" in hosts:
        yield "ALLOWED_HOSTS is *: links in mails would lead wherever a request says. Name the hosts of the site."
    if settings.HTTPS and hosts <= OF_THIS_MACHINE:
        yield "ALLOWED_HOSTS names only this machine: all other names get 421. Name the hosts of the site."
    if not settings.HTTPS and hosts - OF_THIS_MACHINE:
        yield "HTTPS is off: passwords and cookies travel unencrypted. Set HTTPS=on, behind a proxy that speaks TLS."


def _proxies() -> Iterator[str]:
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        yield (
            "HTTPS is on, and TRUSTED_PROXIES is empty: the proxy that speaks TLS is not trusted, so pages redirect "
            "for ever and all clients count as one address. Name the network of the proxy."
        )
    for network in settings.TRUSTED_PROXIES:
        if network.prefixlen == 0:
            yield f"TRUSTED_PROXIES has {network}: every client can claim any address. Name the proxies' networks."


def _listening() -> None:
    if settings.WORKER:
        check_worker()


CHECKS = (
    Check("debug", "DEBUG is off.", _debug),
    Check("secret_key", "SECRET_KEY is long enough.", check_secret_key),
    Check("hosts", "ALLOWED_HOSTS and HTTPS suit each other.", _hosts),
    Check("proxies", "TRUSTED_PROXIES names the proxies that speak TLS for this site.", _proxies),
    Check("counters", "All processes of this server count the rate limits together.", check_counters),
    Check("listening", "The worker beside the server, if there is one, can listen for jobs.", _listening),
)
