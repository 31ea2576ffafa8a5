"""Money is an integer in the currency's minor unit; floats and bools never get in."""

from __future__ import annotations

import re
from decimal import Decimal

MAX_AMOUNT = 99_999_999_999  # minor units
_PLAIN = re.compile(r"[0-9]{1,15}(\.[0-9]{1,10})?", re.ASCII)  # no exponent, no sign, and not too long to look at

# ISO 4217 minor-unit exponents of what people pay with. Left out on purpose: codes without a minor unit
# (XAU, XXX and other X-codes), and units of account and fund codes that nobody holds in a purse (CLF, USN,
# CHE, ...). Checked against the `iso4217` package in the tests, which name each one that is left out.
EXPONENTS: dict[str, int] = {
    **dict.fromkeys(
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY"
        " COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS"
        " INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR"
        " MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD"
        " SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW"
        " ZWG".split(),
        2,
    ),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}


def is_amount(value: object) -> bool:
    """Whether ``value`` is a positive integer of minor units within the limit."""
    return type(value) is int and 0 < value <= MAX_AMOUNT


def to_decimal_string(amount: int, currency: str) -> str:
    """Minor units as an exact decimal string: (149900, "INR") is "1499.00", (5, "JPY") is "5"."""
    exponent = EXPONENTS[currency]
    if exponent == 0:
        return str(amount)
    whole, part = divmod(abs(amount), 10**exponent)
    return f"{'-' if amount < 0 else ''}{whole}.{part:0{exponent}d}"


def from_decimal(value: object, currency: str) -> int | None:
    """Minor units of an exact decimal, given as text or Decimal: ("1499.00", "INR") is 149900.

    None for what is no amount of that currency: a float, a bool, a negative one, or a fraction of
    its smallest coin. A provider may leave out zeros or add some: "10", "10.0" and "10.000" are all ten.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None or isinstance(value, bool | float) or not isinstance(value, str | int | Decimal):
        return None
    written = value if isinstance(value, str) else f"{value}"  # a Decimal is not expanded: 1E+9 stays so
    if not _PLAIN.fullmatch(written):
        return None
    whole, _, part = written.partition(".")
    digits = part.rstrip("0")
    if len(digits) > exponent:
        return None
    amount = int(whole + digits.ljust(exponent, "0"))
    return amount if amount <= MAX_AMOUNT else None
