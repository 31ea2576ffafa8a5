"""What says who a customer is and how to reach them: what is private about a payment, and how it is shown.

Country and segment say where from and of what kind: routing and its backtests need them, and they name nobody.
Whatever else a merchant tells of a customer is private, also what is added one day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chalicelib.domain.model import Payment

PRIVATE = ("customer", "method", "next_action")  # of a payment's fields, those that hold what is private
_OPEN_OF_CUSTOMER = frozenset({"country", "segment"})
_PRIVATE_OF_METHOD = frozenset({"vpa"})
_SHOWN_OF_VPA = 2
_SHOWN_OF_CONTACT = 4
_DOTS = "•••"


def open_customer(customer: Mapping[str, str]) -> dict[str, str]:
    """What anybody may know of a customer."""
    return {name: value for name, value in customer.items() if name in _OPEN_OF_CUSTOMER}


def open_method(method: Mapping[str, str]) -> dict[str, str]:
    """A payment's method without what is the customer's own."""
    return {name: value for name, value in method.items() if name not in _PRIVATE_OF_METHOD}


def private_of(payment: Payment) -> dict[str, Any]:
    """What is private about a payment, by field; empty if nothing is.

    What the customer has to do next is private as a whole: providers' forms carry addresses and numbers.
    """
    customer = {name: value for name, value in payment.customer.items() if name not in _OPEN_OF_CUSTOMER}
    method = {name: value for name, value in payment.method.items() if name in _PRIVATE_OF_METHOD}
    values = (customer, method, payment.next_action)
    return {name: value for name, value in zip(PRIVATE, values, strict=True) if value}


def masked_customer(customer: Mapping[str, str]) -> dict[str, str]:
    """A customer as lists show one: enough to know somebody again, too little to reach them."""
    return {
        name: value if name in _OPEN_OF_CUSTOMER else _MASKS.get(name, _all)(value) for name, value in customer.items()
    }


def masked_method(method: Mapping[str, str]) -> dict[str, str]:
    """A payment's method as lists show it."""
    return {name: _vpa(value) if name in _PRIVATE_OF_METHOD else value for name, value in method.items()}


def _all(_: str) -> str:
    return _DOTS


def _email(value: str) -> str:
    """``ab@host`` is ``a•••@host``."""
    name, _, host = value.rpartition("@")
    return f"{name[:1]}{_DOTS}@{host}"


def _vpa(value: str) -> str:
    """``asha@okbank`` is ``as•••@okbank``; a name that short shows nothing of itself."""
    name, _, bank = value.rpartition("@")
    return f"{name[:_SHOWN_OF_VPA] if len(name) > _SHOWN_OF_VPA else ''}{_DOTS}@{bank}"


def _contact(value: str) -> str:
    """The last four digits."""
    return _DOTS + value[-_SHOWN_OF_CONTACT:]


_MASKS = {"email": _email, "contact": _contact}
