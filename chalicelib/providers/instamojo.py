"""Instamojo, API v1.1: a payment request that carries our reference, paid by the customer on Instamojo's page.

Making a request charges nobody, but it has no idempotency key: a lost one is looked up in the list of
requests, where its purpose is our reference. A request may see several payments, failed ones first; the
one that is paid decides it. Refunds have no key either: ours is the end of a refund's text, so that it is
found again in the list. Nothing is ever authorized, so there is nothing to capture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from chalicelib.domain import ids
from chalicelib.domain.errors import ErrorClass, ErrorCode, PaymentError
from chalicelib.domain.outcome import Charge, ChargeStatus, Effect, EffectStatus, NotFound, NotSent, Unknown
from chalicelib.providers import instamojo_wire as wire
from chalicelib.providers.base import (
    Account,
    BadSignature,
    Capabilities,
    ChargeIntent,
    ChargeRef,
    Connection,
    Credential,
)
from chalicelib.providers.calls import Answer, call, conflict, rows, section, text, unknown, unreadable
from chalicelib.providers.signatures import digest, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from chalicelib.domain.outcome import (
        ChargeLookup,
        ChargeOutcome,
        EffectLookup,
        EffectOutcome,
        Exchange,
        ProviderEvent,
        SettlementLine,
    )
    from chalicelib.providers.http import HttpClient

_MARGIN = timedelta(hours=1)  # by which Instamojo's clock and ours may differ
_PAGE = 200  # rows; at most 500 are allowed, and an answer of ours at most a megabyte
_PAGES = 50  # the bound only ends a broken list
# Each list's field of the answer, and the id of a row.
_LISTS = {
    "payment-requests": ("payment_requests", "id"),
    "payments": ("payments", "payment_id"),
    "refunds": ("refunds", "id"),
}
_UNPAID = frozenset({ChargeStatus.ACTION_REQUIRED, ChargeStatus.DECLINED, ChargeStatus.CANCELED})


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows of a list that no earlier page showed."""

    rows: Sequence[Mapping[str, object]]
    exchange: Exchange


class InstamojoProvider:
    """The Instamojo adapter. ``credentials``: api_key, auth_token and salt, which signs webhooks."""

    name = "instamojo"
    capabilities = Capabilities(
        methods=frozenset({"upi", "netbanking", "wallet", "card"}),
        currencies=frozenset({wire.CURRENCY}),
        min_amount=900,
        max_amount=20_000_000,
        manual_capture=frozenset(),
        partial_capture=False,
        partial_refund=True,
        void="api",
        idempotency_window=0,
        operation_idempotency_window=0,
        # Nothing says how far its lists lag behind, and nothing but the list guards against a second refund. So
        # long that by the shortest schedule two looks after it find nothing, and at the third one may send again.
        settle_window=180,
        authorization_window=0,
        closes_unpaid=True,
    )
    connection = Connection(
        credentials=(
            Credential("api_key", prefixes={"test": "test_"}),
            Credential("auth_token", prefixes={"test": "test_"}),
            Credential("salt"),
        ),
        webhook_secret="salt",  # noqa: S106 - the name of it
        base_urls={
            "test": "https://test.instamojo.com/api/1.1",
            "live": "https://www.instamojo.com/api/1.1",
        },
    )

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def create(self, account: Account, intent: ChargeIntent) -> ChargeOutcome:
        """Make the payment request that the customer is sent to; a lost one is looked up at once."""
        answer = self._call(account, "POST", "/payment-requests/", wire.request_form(intent))
        if isinstance(answer, NotSent):
            return answer
        if isinstance(answer, Answer):
            if not wire.accepted(answer):
                return wire.refused_charge(answer)
            made = wire.charge(section(answer.body, "payment_request"), ())
            if made.status is ChargeStatus.ACTION_REQUIRED and "request_id" in made.data:
                return replace(made, exchange=answer.exchange)
            answer = unreadable(answer)
        # The attempt is younger than its payment, whose id tells when that was made. Should the list not
        # show the request yet, it may still come to be: only the look-ups that follow can tell.
        found = self._by_purpose(account, intent.reference, ids.made_at(intent.payment_id) - _MARGIN, None)
        return found if isinstance(found, Charge) else answer

    def fetch(self, account: Account, charge: ChargeRef) -> ChargeLookup:
        """By the request's id, else among the requests of that hour by purpose, which is our reference."""
        request_id = charge.data.get("request_id")
        if request_id:
            return self._request(account, request_id)
        since, until = charge.created_at - _MARGIN, charge.created_at + _MARGIN
        return self._by_purpose(account, charge.reference, since, until)

    def capture(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:  # noqa: ARG002 - there is nothing to call
        """Instamojo takes the money at once, so nothing is ever left to capture."""
        return Effect(EffectStatus.FAILED, error=conflict("This provider does not hold money.", None))

    def void(self, account: Account, charge: ChargeRef, key: str) -> EffectOutcome:  # noqa: ARG002 - disabling twice is disabling
        """Close the request, then look: somebody may have paid it before, or be paying it right now."""
        request_id = charge.data.get("request_id")
        if not request_id:
            found = self.fetch(account, charge)
            request_id = found.data.get("request_id") if isinstance(found, Charge) else None
            if request_id is None:
                return _nothing_sent(found)
        answer = self._call(account, "POST", f"/payment-requests/{quote(request_id, safe='')}/disable/")
        if not isinstance(answer, Answer):
            return answer
        now = self._request(account, request_id)
        if not isinstance(now, Charge):
            error = unknown("not_found") if isinstance(now, NotFound) else now.error
            return Unknown(error, answer.exchange, answer.retry_after)
        if now.status is ChargeStatus.SUCCEEDED:
            return Effect(EffectStatus.FAILED, error=conflict("It has been paid.", None), exchange=answer.exchange)
        if not wire.accepted(answer) and now.status is not ChargeStatus.CANCELED:
            return wire.refused_effect(answer)
        status = EffectStatus.PENDING if now.status is ChargeStatus.PENDING else EffectStatus.SUCCEEDED
        return Effect(status, None, charge.amount, charge.currency, exchange=answer.exchange)

    def refund(self, account: Account, charge: ChargeRef, amount: int, key: str) -> EffectOutcome:
        """Refund ``amount``, unless the list of refunds shows one with this key."""
        payment_id = self._payment_id(account, charge)
        if not isinstance(payment_id, str):
            return payment_id
        # Another call could slip in between the look and the refund, so looking is no permit. The permit is the
        # operation's own row: one caller at a time moves it on, and none until the deadline and the settle
        # window of the call before are over. The look is for what that caller did and never heard of.
        before = self._find_refund(account, key)
        if not isinstance(before, NotFound):
            return before
        answer = self._call(account, "POST", "/refunds/", wire.refund_form(payment_id, amount, charge.currency, key))
        if not isinstance(answer, Answer):
            return answer
        if wire.accepted(answer):
            made = section(answer.body, "refund")
            return replace(wire.refund(made), exchange=answer.exchange) if text(made, "id") else unreadable(answer)
        if wire.is_conflict(answer):
            return Unknown(unknown("http_409"), answer.exchange, answer.retry_after)
        return self._refused(account, replace(charge, provider_reference=payment_id), amount, key, answer)

    def _refused(self, account: Account, charge: ChargeRef, amount: int, key: str, answer: Answer) -> EffectOutcome:
        """What a refused refund means: an earlier try of ours may be why, and not be listed yet.

        It has failed only if it was wrong in itself, or what others have got back, or that nobody has paid,
        explains it.
        """
        listed: list[Mapping[str, object]] = []
        for page in self._pages(account, "refunds", {}):
            if not isinstance(page, _Page):
                return Unknown(page.error, answer.exchange, answer.retry_after)
            listed += page.rows
        ours = next((row for row in listed if wire.refund_key(row) == key), None)
        if ours is not None:
            return replace(wire.refund(ours), exchange=answer.exchange)
        outcome = wire.refused_effect(answer)
        payment_id = charge.provider_reference or ""
        if not isinstance(outcome, Effect) or wire.is_definite(answer):
            return outcome
        if wire.leaves_less(listed, payment_id, charge.amount, amount):
            return outcome
        now = self.fetch(account, charge)
        if isinstance(now, Charge) and now.status in _UNPAID:
            return outcome
        return Unknown(unknown("unexplained"), answer.exchange, answer.retry_after)

    def fetch_refund(
        self,
        account: Account,
        charge: ChargeRef,  # noqa: ARG002 - a key or id is enough
        key: str,
        provider_reference: str | None,
    ) -> EffectLookup:
        """By refund id, else in the list of all refunds by our key."""
        if not provider_reference:
            return self._find_refund(account, key)
        answer = self._look(account, f"/refunds/{quote(provider_reference, safe='')}/")
        if not isinstance(answer, Answer):
            return answer
        found = section(answer.body, "refund")
        return replace(wire.refund(found), exchange=answer.exchange) if text(found, "id") else unreadable(answer)

    def verify_return(self, account: Account, charge: ChargeRef, params: Mapping[str, str]) -> None:  # noqa: ARG002 - nothing is signed
        """Check that the return is about our request. It is unsigned, so nothing else in it counts."""
        request_id = charge.data.get("request_id")
        if not request_id or params.get("payment_request_id") != request_id:
            reason = "the return names another payment request"
            raise BadSignature(reason)

    def parse_webhook(self, account: Account, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:  # noqa: ARG002 - the body carries its mac, and no time
        """Check the field ``mac`` against every active salt; what it covers is only where to look."""
        fields = wire.webhook_fields(body)
        require(account.webhook_secrets, wire.signed_message(fields), fields.get("mac"), make=wire.mac)
        return wire.event(fields, digest(body))

    def settlement_lines(self, account: Account, day: date) -> Sequence[SettlementLine] | NotSent | Unknown:
        """What was paid and given back on one Indian day.

        v1.1 reports no settlements. These are the day's payments, with the payout they went out with once
        they have, and the day's refunds, which never name one. A payment's fee includes the tax on it, and
        there is no UTR: what a payout came to is in Instamojo's dashboard.
        """
        begin = datetime(day.year, day.month, day.day, tzinfo=wire.INDIA)
        end = begin + timedelta(days=1)
        query = {"min_created_at": wire.instant(begin), "max_created_at": wire.instant(end)}
        lines: list[SettlementLine] = []
        for what, filters, good, line_of in (
            ("payments", query, wire.is_paid, wire.payment_line),
            ("refunds", {}, wire.is_refunded, wire.refund_line),
        ):
            for page in self._pages(account, what, filters):
                if not isinstance(page, _Page):
                    return page
                for row in page.rows:
                    if not (good(row) and wire.is_of(row, day)):
                        continue
                    line = line_of(row)
                    if line is None:
                        return Unknown(unknown("unexpected_answer"), page.exchange)
                    lines.append(line)
        return lines

    def _by_purpose(self, account: Account, reference: str, since: datetime, until: datetime | None) -> ChargeLookup:
        """How the request with our reference as its purpose stands; made in that time."""
        purpose = ids.short_reference(reference)
        query = {"min_created_at": wire.instant(since)}
        if until is not None:
            query["max_created_at"] = wire.instant(until)
        found: list[str] = []
        exchange = None
        for page in self._pages(account, "payment-requests", query):
            if not isinstance(page, _Page):
                return page
            exchange = page.exchange
            found += [str(row["id"]) for row in page.rows if text(row, "purpose") == purpose]
        best: Charge | None = None
        for request_id in found:
            shown = self._request(account, request_id)
            if isinstance(shown, NotSent | Unknown):
                return shown
            if isinstance(shown, Charge) and (best is None or _rank(shown) > _rank(best)):
                best = shown
        return best or NotFound(exchange)

    def _request(self, account: Account, request_id: str) -> ChargeLookup:
        """How a payment request stands, by its payments."""
        answer = self._look(account, f"/payment-requests/{quote(request_id, safe='')}/")
        if not isinstance(answer, Answer):
            return answer
        request = section(answer.body, "payment_request")
        if text(request, "id") != request_id:
            return unreadable(answer)
        listed = request.get("payments")
        payments: list[Mapping[str, object]] = []
        for listing in listed if isinstance(listed, list) else []:
            if isinstance(listing, dict):
                payments.append(listing)
            elif isinstance(listing, str):  # some versions name a payment by its id or address
                shown = self._look(account, f"/payments/{quote(listing.rstrip('/').rpartition('/')[2], safe='')}/")
                if isinstance(shown, NotSent | Unknown):
                    return shown
                if isinstance(shown, Answer):
                    payments.append(section(shown.body, "payment"))
        return replace(wire.charge(request, payments), exchange=answer.exchange)

    def _payment_id(self, account: Account, charge: ChargeRef) -> str | EffectOutcome:
        """The payment's id; when we never learned it, asked for before anything is sent."""
        if charge.provider_reference:
            return charge.provider_reference
        found = self.fetch(account, charge)
        if isinstance(found, Charge) and found.provider_reference:
            return found.provider_reference
        return _nothing_sent(found)

    def _find_refund(self, account: Account, key: str) -> EffectLookup:
        """The refund whose text ends in our key."""
        exchange = None
        for page in self._pages(account, "refunds", {}):
            if not isinstance(page, _Page):
                return page
            exchange = page.exchange
            for row in page.rows:
                if wire.refund_key(row) == key:
                    return replace(wire.refund(row), exchange=exchange)
        return NotFound(exchange)

    def _pages(self, account: Account, what: str, query: Mapping[str, str]) -> Iterator[_Page | NotSent | Unknown]:
        """A list page by page, until one brings nothing new: no promise is made of how many rows one has."""
        field, key = _LISTS[what]
        seen: set[str | None] = set()
        for number in range(1, _PAGES + 1):
            answer = self._look(account, f"/{what}/?{urlencode({**query, 'page': number, 'limit': _PAGE})}")
            if isinstance(answer, NotFound):
                if not seen:
                    yield Unknown(unknown("http_404"), answer.exchange)
                return  # past the last page
            if not isinstance(answer, Answer):
                yield answer
                return
            listed = answer.body.get(field)
            shown = rows(answer.body, field)
            named = {text(row, key): row for row in shown}
            if not isinstance(listed, list) or len(shown) < len(listed) or None in named:
                yield unreadable(answer)
                return
            fresh = [row for name, row in named.items() if name not in seen]
            yield _Page(fresh, answer.exchange)
            if not fresh:
                return
            seen |= named.keys()
        yield Unknown(unknown("too_many_rows"))

    def _look(self, account: Account, path: str) -> Answer | NotFound | NotSent | Unknown:
        """Ask for what is at ``path``; an Answer shows it."""
        answer = self._call(account, "GET", path)
        if not isinstance(answer, Answer) or wire.accepted(answer):
            return answer
        if wire.is_missing(answer):
            return NotFound(answer.exchange)
        return Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)

    def _call(
        self, account: Account, method: str, path: str, form: Mapping[str, str] | None = None
    ) -> Answer | NotSent | Unknown:
        headers = {
            "x-api-key": account.credentials.get("api_key", ""),
            "x-auth-token": account.credentials.get("auth_token", ""),
        }
        return call(self._http, method, account.base_url, path, headers=headers, form=form)


def _rank(charge: Charge) -> int:
    """Of several requests with one purpose the paid one counts, else one that may still be paid."""
    order = (ChargeStatus.SUCCEEDED, ChargeStatus.PENDING, ChargeStatus.ACTION_REQUIRED)
    return -order.index(charge.status) if charge.status in order else -len(order)


def _nothing_sent(found: ChargeLookup | EffectLookup) -> NotSent | Unknown | Effect:
    """An operation that ended before its call: the look-up failed, or there is nothing to act on."""
    if isinstance(found, NotSent):
        return found
    if isinstance(found, Unknown):
        error = PaymentError(
            ErrorClass.PROVIDER_UNAVAILABLE,
            ErrorCode.PROVIDER_UNAVAILABLE,
            "The charge could not be looked up; nothing was sent.",
            found.error.provider_code,
        )
        return NotSent(error, found.exchange, found.retry_after)
    if isinstance(found, Charge) and found.status in _UNPAID:
        error = conflict("Nobody has paid this.", None)
        return Effect(EffectStatus.FAILED, error=error, exchange=found.exchange)
    # There was one when it was made.
    return Unknown(unknown("not_found"), found.exchange)
