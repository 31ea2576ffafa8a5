"""Block and allow lists: what of a payment is on them, in about the same time for ten entries and for thousands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from chalicelib.domain.origin import BIN_LENGTHS, address_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    # Version → for each prefix length in use, the longest first: bits to shift out, and what is left of each network.
    Networks = Mapping[int, Sequence[tuple[int, Mapping[int, str]]]]


@dataclass(frozen=True)  # no slots: the sets are made once and kept beside the fields
class Lists:
    """Entries in the form that ``risk_settings.parse`` gives them; tuples, so that they are stored as they are."""

    bins: tuple[str, ...] = ()  # six or eight digits
    fingerprints: tuple[str, ...] = ()  # of cards, see cards.fingerprint
    email_domains: tuple[str, ...] = ()  # lower case; their subdomains too
    networks: tuple[str, ...] = ()  # CIDR, as ipaddress writes it
    vpas: tuple[str, ...] = ()  # lower case

    def matches(
        self,
        *,
        bin_: str | None = None,
        fingerprint: str | None = None,
        email: str | None = None,
        ip: str | None = None,
        vpa: str | None = None,
    ) -> Iterator[str]:
        """What of this is listed, as the subject of a sentence, always in the same order. Names no person."""
        entry = next(
            (bin_[:length] for length in BIN_LENGTHS if bin_ and len(bin_) >= length and bin_[:length] in self._bins),
            None,
        )
        if entry is not None:
            yield f"BIN {entry}"
        if fingerprint in self._fingerprints:
            yield "The card"
        domain = self._domain(email)
        if domain is not None:
            yield f"Email domain {domain}"
        network = self._network(ip)
        if network is not None:
            yield f"IP network {network}"
        if vpa is not None and vpa.lower() in self._vpas:
            yield "The VPA"

    def _domain(self, email: str | None) -> str | None:
        if not self._email_domains or not email:
            return None
        domain = domain_of(email)
        while domain:
            if domain in self._email_domains:
                return domain
            domain = domain.partition(".")[2]
        return None

    def _network(self, ip: str | None) -> str | None:
        address = address_of(ip) if self.networks else None
        if address is None:
            return None
        number = int(address)
        for shift, networks in self._networks[address.version]:
            if number >> shift in networks:
                return networks[number >> shift]
        return None

    @cached_property
    def _bins(self) -> frozenset[str]:
        return frozenset(self.bins)

    @cached_property
    def _fingerprints(self) -> frozenset[str]:
        return frozenset(self.fingerprints)

    @cached_property
    def _email_domains(self) -> frozenset[str]:
        return frozenset(self.email_domains)

    @cached_property
    def _vpas(self) -> frozenset[str]:
        return frozenset(self.vpas)

    @cached_property
    def _networks(self) -> Networks:
        return _by_length(self.networks)


def domain_of(email: str) -> str:
    """The domain of an email address in lower case and ASCII (IDNA); "" if there is none."""
    domain = email.rpartition("@")[2].rstrip(".").lower()
    try:
        return domain.encode("idna").decode() if not domain.isascii() else domain
    except UnicodeError:
        return ""


@lru_cache(maxsize=64)  # settings are read again every few seconds, and hardly ever differ
def _by_length(networks: tuple[str, ...]) -> Networks:
    tables: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
    for network in networks:
        text, _, length = network.partition("/")
        address: IPv4Address | IPv6Address = IPv6Address(text) if ":" in text else IPv4Address(text)
        shift = address.max_prefixlen - int(length)
        tables[address.version].setdefault(shift, {})[int(address) >> shift] = network
    return {version: sorted(table.items()) for version, table in tables.items()}
