"""The door of the API: what every request goes through before a use case is asked, and after.

Chalice turns an exception in a view into a bare 500 before any middleware sees it, so everything
happens in ``Api.route``, around the view: size and type of the body (413, 415), the caller (401), their
rate (429), their scope (403), the ids in the path (404), the query (422), the Idempotency-Key (400), the
body (400, 422), the view, the error table, one log line, one metric. ``reshape`` catches what Chalice
answers by itself.
"""

from __future__ import annotations

import functools
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from chalice.app import Blueprint, Chalice, Response

from chalicelib import wiring
from chalicelib.api import auth, browsers, idempotency, parsing
from chalicelib.api.problems import CONTENT_TYPE, Refused, internal_error, problem_headers, problem_text
from chalicelib.api.schemas import NoQuery
from chalicelib.domain import cards
from chalicelib.domain.access import PLAN_LIMITS
from chalicelib.domain.audit import Actor
from chalicelib.domain.errors import NotFoundError, RailyardError, RateLimited
from chalicelib.observability import logger, metric
from chalicelib.services.idempotency import Idem, answer_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chalice.app import Request
    from pydantic import BaseModel

    from chalicelib.domain.access import Caller, Rate
    from chalicelib.domain.model import Tenant
    from chalicelib.services.kit import Kit
    from chalicelib.storage.limits import Taken

T = TypeVar("T")

REQUEST_ID = "Railyard-Request-Id"
# Every path answers all of these, so that API Gateway's "missing authentication token" stays for unknown paths.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_ULID = "[0-9A-HJKMNP-TV-Z]{26}"
# What a path parameter may look like, and the code of its 404. Anything else is absent without a read.
_IDS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "payment_id": (re.compile(f"pay_{_ULID}"), "payment_not_found"),
    "order_id": (re.compile(f"order_{_ULID}"), "order_not_found"),
    "refund_id": (re.compile(f"rf_{_ULID}"), "refund_not_found"),
    "provider": (re.compile("[a-z0-9_]{1,32}"), "account_not_found"),
    "account": (re.compile("[A-Za-z0-9_-]{1,64}"), "account_not_found"),
    "account_id": (re.compile("[A-Za-z0-9_-]{1,64}"), "account_not_found"),
    "customer_id": (re.compile("cus_[0-9a-f]{32}"), "customer_not_found"),
    "token_id": (re.compile(f"tok_{_ULID}"), "token_not_found"),
    "key_id": (re.compile(f"key_{_ULID}"), "key_not_found"),
    "user_id": (re.compile(f"usr_{_ULID}"), "user_not_found"),
    "merchant_id": (re.compile("mer_[0-9A-Za-z]{1,64}"), "merchant_not_found"),
    "version": (re.compile("[0-9a-f]{16}"), "not_found"),
    "file": (re.compile("[a-z0-9-]{1,64}[.][a-z0-9]{1,8}"), "not_found"),
}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path and method do, as declared; docs and the OpenAPI document are made from it."""

    method: str
    path: str
    name: str
    summary: str
    response: str  # an output model of outputs.py
    status: int
    scope: str | None  # None: no authentication
    limit: Rate | None  # by address, where there is no authentication
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    idempotent: bool  # needs an Idempotency-Key
    waits: bool  # honours Prefer: wait
    errors: Sequence[int]  # statuses besides those every such route may answer
    max_body: int
    raw: bool  # the view reads the body's bytes itself


@dataclass(slots=True)
class Call:
    """One request on its way through a view."""

    kit: Kit
    request: Request
    request_id: str
    route: Route
    path: str  # concrete, with checked ids
    headers: Mapping[str, str]  # by lower-case names
    ip: str  # the address that API Gateway saw
    caller: Caller | None = None
    taken: Taken | None = None  # of a rate limit
    idempotency_key: str = ""
    json: Any = field(default=None, repr=False)  # the body as parsed, before validation

    @property
    def tenant(self) -> Tenant:
        """Whose world this is; only on authenticated routes."""
        return self.who.tenant

    @property
    def who(self) -> Caller:
        """Who asks; only on authenticated routes."""
        if self.caller is None:
            msg = f"{self.route.path} is not authenticated"
            raise RuntimeError(msg)
        return self.caller

    @property
    def by(self) -> Actor:
        """Who asks, and from where, for the audit log."""
        if self.caller is None:
            return Actor("anybody", "anybody", self.request_id, self.ip)
        return Actor(self.caller.id, self.caller.kind, self.request_id, self.ip)

    def header(self, name: str) -> str | None:
        """A header's value, whatever the case of its name."""
        return self.headers.get(name.lower())

    def once(
        self,
        effect: Callable[[Idem], T],
        render: Callable[[T], Mapping[str, object]],
        *,
        wait: int = 0,
        settled: Callable[[T], T] = lambda made: made,
        current: Callable[[str], Mapping[str, object]] | None = None,
    ) -> Reply:
        """Have the effect once for this request's Idempotency-Key; see ``idempotency.once``.

        The body leaves only a keyed hash behind, from which nobody can guess an address, a number or a secret.
        """
        hash_key = self.kit.merchants.get(self.tenant).lookup_key
        idem = Idem(
            key=idempotency.scoped(self.tenant, self.request.method, self.path, self.idempotency_key),
            fingerprint=idempotency.fingerprint(self.json, hash_key),
            earlier=idempotency.fingerprint(self.json),
            status=self.route.status,
            render=render,
            ttl=self.kit.settings.idempotency_ttl,
            wait=wait,
        )
        answer = idempotency.once(self.kit, idem, effect, settled=settled, current=current)
        return Reply(answer.body, answer.status, {"Idempotency-Replayed": "true"} if answer.replayed else {})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a view answers: an object to render, or the exact bytes of one."""

    shown: Mapping[str, object] | bytes
    status: int | None = None  # None: as declared
    headers: Mapping[str, str] = field(default_factory=dict)


class Api(Blueprint):
    """A Blueprint whose routes declare what they take, need and answer."""

    def __init__(self, import_name: str) -> None:
        """As for Blueprint."""
        super().__init__(import_name)
        self.declared: list[Route] = []
        self._complete = False

    def route(  # type: ignore[override]  # a route says all about itself
        self,
        path: str,
        *,
        methods: Sequence[str] = ("GET",),
        scope: str | None,
        limit: Rate | None = None,
        response: str,
        status: int = 200,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = NoQuery,
        idempotent: bool = False,
        waits: bool = False,
        errors: Sequence[int] = (),
        max_body: int = parsing.MAX_BODY,
        raw: bool = False,
    ) -> Callable[[Callable[..., Reply]], Callable[..., Response]]:
        """Declare a view. It is called with the Call, the path's ids, and ``body`` and ``query`` as validated.

        ``query=None`` leaves the query string alone. GET is also answered to HEAD.
        """
        (method,) = methods

        def decorate(view: Callable[..., Reply]) -> Callable[..., Response]:
            declared = Route(
                method, path, view.__name__, (view.__doc__ or "").strip().splitlines()[0], response, status, scope,
                limit, body, query, idempotent, waits, tuple(errors), max_body, raw,
            )  # fmt: skip
            self.declared.append(declared)
            handler = self._handler(declared, view)
            # Chalice's own check of the content type is left out: ours has the order and the words.
            register = super(Api, self).route(
                path, methods=[method, "HEAD"] if method == "GET" else [method], content_types=["*/*"]
            )
            return cast("Callable[..., Response]", register(handler))

        return decorate

    def register(self, app: Chalice, options: dict[str, Any]) -> None:
        """Add what answers the methods that no view was declared for, then register everything."""
        if not self._complete:
            self._complete = True
            for path, names in _methods_by_path(self.declared).items():
                self._refuse_others(path, names)
        super().register(app, options)

    def _refuse_others(self, path: str, known: Sequence[str]) -> None:
        allow = ", ".join((*known, "OPTIONS"))
        declared = Route("OPTIONS", path, "options", "", "", 204, None, None, None, None, False, False, (), 0, True)  # noqa: FBT003
        scopes = [route.scope for route in self.declared if route.path == path]

        def options(call: Call, **__: str) -> Reply:
            return Reply(b"", headers={"Allow": allow, **browsers.preflight(call.kit, call.headers, known, scopes)})

        def refuse(_: Call, **__: str) -> Reply:
            raise Refused(405, "method_not_allowed", f"This path takes {allow}.", headers={"Allow": allow})

        # A name of its own for each: Chalice keeps handlers by name.
        suffix = re.sub(r"\W+", "_", path)
        for view, methods in ((options, ["OPTIONS"]), (refuse, [m for m in METHODS[:-1] if m not in known])):
            handler = self._handler(declared, view)
            handler.__name__ = f"{view.__name__}{suffix}"
            super().route(path, methods=methods, content_types=["*/*"])(handler)

    def _handler(self, route: Route, view: Callable[..., Reply]) -> Callable[..., Response]:
        @functools.wraps(view)
        def handler(**ids: str) -> Response:
            return _answer(self.current_request, getattr(self, "lambda_context", None), route, view, ids)

        return handler


def _methods_by_path(declared: Sequence[Route]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for route in declared:
        found[route.path] += ["GET", "HEAD"] if route.method == "GET" else [route.method]
    return found


# -- one request -----------------------------------------------------------------------------------


def request_id_of(request: Request | None, context: object) -> str:
    """``req_`` and API Gateway's request id, or Lambda's."""
    gateway_id = request.context.get("requestId") if request is not None else None
    return f"req_{gateway_id or getattr(context, 'aws_request_id', None) or 'unknown'}"


def _answer(
    request: Request, context: object, route: Route, view: Callable[..., Reply], ids: Mapping[str, str]
) -> Response:
    started = time.perf_counter()
    request_id = request_id_of(request, context)
    logger.thread_safe_clear_keys()
    logger.thread_safe_append_keys(function="api", request_id=request_id)
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    ip = str((request.context.get("identity") or {}).get("sourceIp") or "")
    call = Call(wiring.kit(), request, request_id, route, route.path, headers, ip)
    try:
        response = _response(_checked(call, view, ids), route.status)
        response = browsers.conditional(response, request.method, route.path, headers)
    except RailyardError as error:
        response = _refusal(error, request_id)
    except Exception:  # noqa: BLE001 - the last line: whatever it is becomes a 500, logged with its traceback
        logger.exception("%s %s failed", request.method, route.path)
        response = _refusal(internal_error(), request_id)
    own = {REQUEST_ID: request_id, **_rate_headers(call.taken), **_shared(call)}
    response.headers = {**browsers.SECURITY, **response.headers, **own}
    if request.method == "HEAD":
        response.body = ""
    _record(call, response.status_code, ids, (time.perf_counter() - started) * 1000)
    return response


def _shared(call: Call) -> dict[str, str]:
    """What lets a page of another origin read the answer; without it the answer stays as good as it is."""
    try:
        return browsers.shared(call.kit, call.headers, call.route.scope)
    except Exception:  # noqa: BLE001 - the effect stands, and whoever asked must learn of it
        logger.exception("whether pages of that origin may ask could not be looked up")
        return {}


def _checked(call: Call, view: Callable[..., Reply], ids: Mapping[str, str]) -> Reply:
    """Everything a request must pass, in the order in which it is answered for."""
    route, request = call.route, call.request
    if route.method == "OPTIONS":  # and what is refused with a 405
        return view(call, **ids)
    body = parsing.raw_body(request, route.max_body)
    if body and not route.raw:
        parsing.check_json_type(call.header("content-type"))
    _admit(call)
    call.path = _concrete(route.path, ids)
    _look_again(call)
    now = call.kit.now()
    given: dict[str, Any] = dict(ids)
    if route.query is not None:
        query = parsing.validated(route.query, parsing.query_values(request.query_params), now)
        if route.query is not NoQuery:
            given["query"] = query
    if route.idempotent:
        call.idempotency_key = idempotency.key_in(call.header(idempotency.HEADER))
    if route.raw:
        given["body"] = body
    elif route.body is not None:
        call.json = parsing.parse_json(body)
        given["body"] = parsing.validated(route.body, call.json, now)
    return view(call, **given)


def _admit(call: Call) -> None:
    """Find out who asks, how often, and whether they may; raises what says that they may not."""
    kit, route = call.kit, call.route
    if route.scope is None:
        if route.limit is not None:
            # Routes of one limit share one bucket: each of them hashes a password.
            _take(call, f"{route.limit.burst}/{auth.address_of(kit, call.ip)}", route.limit)
        return
    call.caller = auth.caller_of(kit, call.headers, call.request.method, call.ip)
    logger.thread_safe_append_keys(merchant_id=call.tenant.merchant_id, mode=call.tenant.mode)
    plan = kit.people.profile(call.tenant.merchant_id).plan
    _take(call, bucket_of(kit, call.who, call.ip), PLAN_LIMITS[plan])
    auth.check_scope(kit, call.who, route.scope)
    browsers.check_origin(kit, call.headers, call.who)


def _look_again(call: Call) -> None:
    """Whoever changes something in person is looked up as they are now; raises what says that they may not any more."""
    scope = call.route.scope
    if scope is not None and call.who.kind == "user" and not scope.endswith(":read"):
        call.caller = auth.as_now(call.kit, call.who, scope)


def bucket_of(kit: Kit, caller: Caller, ip: str) -> str:
    """Whose requests are counted together: a caller's, but of a publishable key each address's that uses it."""
    shopper = f"/{auth.address_of(kit, ip)}" if caller.kind == "publishable_key" else ""
    return f"caller/{caller.id}{shopper}"


def _take(call: Call, name: str, limit: Rate) -> None:
    """Take a token of a bucket; raises RateLimited."""
    call.taken = call.kit.limits.take(name, limit)
    if not call.taken.is_given:
        raise RateLimited("requests", call.taken.wait)


def _rate_headers(taken: Taken | None) -> dict[str, str]:
    """As in draft-ietf-httpapi-ratelimit-headers-10: what there is, how much of it is left and when it is full."""
    if taken is None:
        return {}
    seconds = max(1, math.ceil(taken.limit.burst / taken.limit.per_second))
    full = math.ceil((taken.limit.burst - taken.left) / taken.limit.per_second)
    return {
        "RateLimit-Policy": f'"default";q={taken.limit.burst};w={seconds}',
        "RateLimit": f'"default";r={taken.left};t={full}',
    }


def _concrete(path: str, ids: Mapping[str, str]) -> str:
    """The path with its ids; raises NotFoundError for one that cannot exist."""
    for name, value in ids.items():
        form, code = _IDS[name]
        if not form.fullmatch(value):
            raise NotFoundError(code, "There is nothing of that id.", param=name)
        path = path.replace(f"{{{name}}}", value)
    return path


def _refusal(error: RailyardError, request_id: str) -> Response:
    return Response(problem_text(error, request_id), problem_headers(error), error.status)


def _response(reply: Reply, status: int) -> Response:
    body = reply.shown if isinstance(reply.shown, bytes) else answer_bytes(reply.shown)
    headers: dict[str, Any] = {"Content-Type": "application/json", "Cache-Control": "no-store", **reply.headers}
    return Response(body.decode(), headers, reply.status or status)


def _record(call: Call, status: int, ids: Mapping[str, str], milliseconds: float) -> None:
    """One line and one metric per request: no bodies, no query, no headers."""
    method, path = call.request.method, call.route.path
    # What has the form of an id may still be anything: a card number in its place must not be written down.
    known: dict[str, Any] = {
        name: value for name, value in ids.items() if _IDS[name][0].fullmatch(value) and not cards.has_number(value)
    }
    by = call.caller.id if call.caller else None
    try:
        logger.info("request", method=method, route=path, status=status, ms=round(milliseconds, 1), by=by, **known)
        metric("ApiLatency", milliseconds, "Milliseconds", route=f"{method} {path}", status=str(status))
    except Exception:  # noqa: BLE001 - the effect stands, and whoever asked must learn of it
        logger.exception("a request could not be written down")


# -- what Chalice answers by itself ----------------------------------------------------------------

_OWN_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "The request cannot be read."),
    401: ("unauthorized", "The credentials are missing or wrong."),
    403: ("forbidden", "These credentials may not do this."),
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not know that method."),
    413: ("payload_too_large", "The request body is larger than is accepted."),
    415: ("unsupported_media_type", "Send application/json."),
    429: ("rate_limited", "Slow down and try again."),
}


def reshape(request: Request | None, get_response: Callable[[Any], Response]) -> Response:
    """HTTP middleware: gives Chalice's own error answers the shape of ours."""
    try:
        response = get_response(request)
    except Exception:  # noqa: BLE001 - Chalice would answer these with its own JSON
        logger.exception("a request failed outside of its view")
        response = Response("", status_code=500)
    if response.status_code < 400 or response.headers.get("Content-Type") == CONTENT_TYPE:  # noqa: PLR2004
        return response
    code, detail = _OWN_ERRORS.get(response.status_code, ("invalid_request", "The request was refused."))
    status = response.status_code
    error = internal_error() if status >= 500 else Refused(status, code, detail)  # noqa: PLR2004
    request_id = request_id_of(request, getattr(request, "lambda_context", None))
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-type"}
    return Response(
        problem_text(error, request_id),
        {**headers, **problem_headers(error), **browsers.SECURITY, REQUEST_ID: request_id},
        error.status,
    )
