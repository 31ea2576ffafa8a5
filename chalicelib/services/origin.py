"""The country that an IP address was assigned to, by the five regional registries' records."""

from __future__ import annotations

from chalicelib.domain import origin


def country_of(ip: str | None) -> str | None:
    """The country of a public IP address, or None; an ISO 3166-1 alpha-2 code.

    It is where the block of addresses is registered, which is not always where its user sits: good for
    a doubt. The registries agree with MaxMind's database for about 95 % of IPv4 addresses (Zander 2012,
    "On the accuracy of IP geolocation based on IP allocation data").
    """
    return origin.country_of(ip, _registered)


def _registered(ip: str) -> str | None:
    # Not at the top: most functions never ask, and the table is 2 MB.
    from iptocc import country_code  # noqa: PLC0415

    return country_code(ip)
