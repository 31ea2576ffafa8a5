"""The field types that input schemas are made of. Wrong values raise errors whose type is our code."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from chalicelib.domain import cards
from chalicelib.domain.money import EXPONENTS, MAX_AMOUNT

MAX_METADATA = 50
MAX_PROOF = 100
MAX_CREDENTIALS = 10
MAX_ORDER_LIFE = timedelta(days=30)

# ISO 3166-1 alpha-2.
COUNTRIES = frozenset(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA"
    " CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA"
    " GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP"
    " KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS"
    " MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS"
    " RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW"
    " TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW".split()
)

_CREDENTIAL = re.compile("[a-z][a-z_]{0,31}")


def plain(text: str) -> str:
    """``text``, unless it has control characters or halves of surrogate pairs, which cannot be stored."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PydanticCustomError("invalid_field", "Control characters are not allowed.")
    return text


def _no_card(text: str) -> str:
    if cards.has_number(plain(text)):
        raise PydanticCustomError("card_number_not_allowed", "This looks like a card number; it must not be sent here.")
    return text


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise PydanticCustomError("unknown_currency", "Not an ISO 4217 currency with a minor unit.")
    return code


def _country(code: str) -> str:
    if code not in COUNTRIES:
        raise PydanticCustomError("invalid_field", "Not an ISO 3166-1 alpha-2 country code.")
    return code


def _ip(text: str) -> str:
    if "%" in text:  # an interface's name, which could be anything
        raise PydanticCustomError("invalid_field", "Not an IP address.")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise PydanticCustomError("invalid_field", "Not an IP address.") from None


def _contact(text: str) -> str:
    if not text.startswith("+"):
        _no_card(text)
    if len(re.sub(r"\D", "", text)) > 15:  # noqa: PLR2004 - E.164
        raise PydanticCustomError("invalid_field", "A phone number has at most 15 digits.")
    return text


def _card_number(text: str) -> str:
    digits = re.sub("[ -]", "", text)
    if not cards.is_number(digits):
        raise PydanticCustomError("card_number_invalid", "This is no card number.")
    return digits


def _credential_names(value: Any) -> Any:  # noqa: ANN401 - not checked yet
    """Names are repeated in errors: a secret in the place of one must not be."""
    if isinstance(value, dict) and not all(isinstance(name, str) and _CREDENTIAL.fullmatch(name) for name in value):
        raise PydanticCustomError("unknown_field", "No provider has a credential of such a name.")
    return value


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        _ = parts.port  # raises for one that is no number
    except ValueError:
        good = False
    if not good:
        raise PydanticCustomError("invalid_field", "Not an http or https URL.")
    return text


def _moment(value: Any) -> Any:  # noqa: ANN401 - anything JSON can hold
    """Only RFC 3339 text: pydantic alone would also take epoch numbers and bare dates."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", value):
        raise PydanticCustomError("invalid_field", "An RFC 3339 time with its offset is expected.")
    return value


def _soon(moment: datetime, info: ValidationInfo) -> datetime:
    now: datetime = info.context["now"] if info.context else moment
    if not now < moment <= now + MAX_ORDER_LIFE:
        raise PydanticCustomError("invalid_field", "The time must be in the future and at most 30 days away.")
    return moment


def _flat(pairs: dict[str, str]) -> dict[str, str]:
    for key in pairs:
        _no_card(key)
    return pairs


def _number(value: Any) -> Any:  # noqa: ANN401
    """A query parameter that is a number; pydantic alone would also take "1_0", " 7" and "3.0"."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,11}", value):
        return int(value)
    raise PydanticCustomError("invalid_field", "A whole number is expected.")


_Text = AfterValidator(_no_card)  # of any language, without control characters and card numbers

Text100 = Annotated[str, StringConstraints(min_length=1, max_length=100), _Text]
Text200 = Annotated[str, StringConstraints(min_length=1, max_length=200), _Text]
Text500 = Annotated[str, StringConstraints(min_length=1, max_length=500), _Text]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT, description="In the currency's minor unit.")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$"), AfterValidator(_currency)]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$"), AfterValidator(_country)]
Email = Annotated[
    str,
    # Not all of RFC 5322: what mail is really sent to, and nothing that could be markup or a header.
    StringConstraints(
        max_length=254, pattern=r'^[^\s@<>()\[\]\\,;:"]{1,64}@[^\s@<>()\[\]\\,;:"/?#]+\.[^\s@.,;:/?#]{2,}$'
    ),
    _Text,
]
Contact = Annotated[str, StringConstraints(pattern=r"^\+?[0-9][0-9 ().-]{4,24}$"), AfterValidator(_contact)]
Ip = Annotated[str, StringConstraints(max_length=45), AfterValidator(_ip)]
# Not checked for card numbers: shops' own order numbers in it look like them too often.
Url = Annotated[str, StringConstraints(max_length=2048, pattern=r"^https?://[!-~]+$"), AfterValidator(_url)]
# NPCI: an id at a handle, for example asha@okbank.
Vpa = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{2,256}@[A-Za-z][A-Za-z0-9]{1,63}$"), _Text]
BankCode = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]{2,32}$"), _Text]
# A provider's reference may be a long number, so it is not checked for card numbers; its form is narrow.
ProviderReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
OrderId = Annotated[str, StringConstraints(pattern=r"^order_[0-9A-HJKMNP-TV-Z]{26}$")]
TokenId = Annotated[str, StringConstraints(pattern=r"^tok_[0-9A-HJKMNP-TV-Z]{26}$")]
PaymentId = Annotated[str, StringConstraints(pattern=r"^pay_[0-9A-HJKMNP-TV-Z]{26}$")]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(min_length=1, max_length=40)],
         Annotated[str, StringConstraints(max_length=500), _Text]],
    Field(max_length=MAX_METADATA),
    AfterValidator(_flat),
]  # fmt: skip
ExpiresAt = Annotated[
    AwareDatetime,
    Field(strict=False),
    BeforeValidator(_moment),
    AfterValidator(_soon),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "In the future, at most 30 days away."}),
]
# The proof a browser brings back: looked at once, never stored.
ProofText = Annotated[str, StringConstraints(max_length=4000), AfterValidator(plain)]
Segment = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$"), _Text]
Provider = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
# Of any provider; which ones there have to be is checked against what the provider declares.
Credentials = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=500, pattern=r"^[ -~]+$")]],
    Field(max_length=MAX_CREDENTIALS, repr=False),
    BeforeValidator(_credential_names),
]
CardNumber = Annotated[
    str,
    Field(repr=False),
    AfterValidator(_card_number),
    WithJsonSchema({"type": "string", "description": "12 to 19 digits; spaces and dashes are left out."}),
]
Cvv = Annotated[str, StringConstraints(pattern=r"^[0-9]{3,4}$")]
Number = BeforeValidator(_number)
