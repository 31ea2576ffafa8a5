"""How Stripe is called: its headers, its idempotency keys, its lists. What the answers mean is in stripe_wire.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chalicelib.domain.outcome import NotSent, Unknown
from chalicelib.providers import stripe_wire as wire
from chalicelib.providers.calls import Answer, call, rows, text, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chalicelib.domain.merchant import Account
    from chalicelib.domain.outcome import Exchange
    from chalicelib.providers.http import HttpAnswer, HttpClient

TEST, LIVE = "sk_test_", "sk_live_"  # how a secret key begins
_PAGE = 100  # the most that a list returns


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list holds of what was wanted."""

    rows: list[Mapping[str, object]]
    exchange: Exchange | None


@dataclass(slots=True)
class _Heard:
    """An HttpClient that keeps the headers of its last answer: some of Stripe's say what the body means."""

    http: HttpClient
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        read_timeout: float | None = None,
    ) -> HttpAnswer:
        """Send one request; raises NotSentError or UnknownError."""
        answer = self.http.request(method, url, headers=headers, body=body, read_timeout=read_timeout)
        self.headers = answer.headers
        return answer


class StripeApi:
    """Calls to Stripe with an account's key."""

    def __init__(self, http: HttpClient) -> None:
        """``http`` is shared by every adapter."""
        self._http = http

    def post(
        self, account: Account, path: str, form: Mapping[str, str], key: str | None
    ) -> tuple[Answer | NotSent | Unknown, bool]:
        """The answer to a request that does something, and whether it is the first answer to ``key`` once more.

        An answer that leaves open what became of the request is Unknown, whatever its status.
        """
        heard = _Heard(self._http)
        headers = _headers(account) | ({} if key is None else {"idempotency-key": key})
        answer = call(heard, "POST", account.base_url, path, headers=headers, form=form)
        if isinstance(answer, Answer) and wire.is_undecided(answer, heard.headers):
            answer = Unknown(unknown(f"http_{answer.status}"), answer.exchange, answer.retry_after)
        return answer, heard.headers.get("idempotent-replayed") == "true"

    def get(self, account: Account, path: str) -> Answer | NotSent | Unknown:
        """Ask for something; ``path`` is quoted already."""
        return call(self._http, "GET", account.base_url, path, headers=_headers(account))

    def rows(
        self,
        account: Account,
        path: str,
        query: Mapping[str, str],
        pages: int,
        wanted: Callable[[Mapping[str, object]], bool] | None = None,
    ) -> Listed | Answer | NotSent | Unknown:
        """Every row of a list, or the wanted ones of the first page that has any; a refusal as it came.

        A list longer than ``pages`` is Unknown.
        """
        listed: list[Mapping[str, object]] = []
        asked = {**query, "limit": str(_PAGE)}
        exchange = None
        for _ in range(pages):
            answer = self.get(account, f"{path}?{urlencode(asked)}")
            if isinstance(answer, NotSent | Unknown) or not answer.ok:
                return answer
            exchange = answer.exchange
            page = rows(answer.body, "data")
            listed += [row for row in page if wanted is None or wanted(row)]
            if (wanted is not None and listed) or answer.body.get("has_more") is False:
                return Listed(listed, exchange)
            last = text(page[-1], "id") if page else None
            if last is None or answer.body.get("has_more") is not True:
                return Unknown(unknown("unexpected_answer"), exchange)
            asked["starting_after"] = last
        return Unknown(unknown("too_many_pages"), exchange)


def secret_key(account: Account) -> str:
    """The key that calls are made with; its prefix tells the mode."""
    return account.credentials.get("secret_key", "")


def publishable_key(account: Account) -> str | None:
    """The key that Stripe.js is started with in a browser."""
    return account.credentials.get("publishable_key") or None


def _headers(account: Account) -> dict[str, str]:
    return {"authorization": f"Bearer {secret_key(account)}", "stripe-version": wire.VERSION}
