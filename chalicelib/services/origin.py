"""The country that an IP address was assigned to, by the five regional registries' records."""

from __future__ import annotations


def registered(ip: str, /) -> str | None:
    """A ``CountryOf``: where the block of a public address is registered.

    That is not always where its user sits: good for a doubt. The registries agree with MaxMind's database
    for about 95 % of IPv4 addresses (Zander 2012, "On the accuracy of IP geolocation based on IP allocation
    data").
    """
    # Not at the top: most functions never ask, and the table is 2 MB.
    from iptocc import country_code  # noqa: PLC0415

    return country_code(ip)
