"""Routes: signing up, in and out. What they answer holds secrets, so no Idempotency-Key keeps it.

A repeat of signing in makes a second session; of signing up, a 409; of setting a password by its token, a 401.
"""

from __future__ import annotations

from chalicelib.api import auth, people_views, schemas
from chalicelib.api import people_schemas as inputs
from chalicelib.api.http import Api, Call, Reply
from chalicelib.domain.access import Rate
from chalicelib.services import people, sessions

api = Api(__name__)

# Of one address. Guessing the password of one email is slowed by a backoff of its own, see services/sessions.py.
_SIGN_UP = Rate(5 / 3600, 10)
_SIGN_IN = Rate(0.5, 30)

_COOKIE = f"{auth.COOKIE}={{value}}; Path=/; Max-Age={{seconds}}; Secure; HttpOnly; SameSite=Lax"


@api.route(
    "/v1/auth/signup", methods=["POST"], scope=None, limit=_SIGN_UP, body=inputs.SignupIn, response="SignedIn",
    status=201, errors=[409],
)  # fmt: skip
def sign_up(call: Call, body: inputs.SignupIn) -> Reply:
    """Make a merchant, and sign its first owner in."""
    owner = people.sign_up(call.kit, body.email, body.password, body.merchant_name, body.name, by=call.by)
    return Reply(people_views.signed_in(sessions.begin(call.kit, owner)))


@api.route(
    "/v1/auth/login", methods=["POST"], scope=None, limit=_SIGN_IN, body=inputs.LoginIn, response="SignedIn",
    errors=[401],
)  # fmt: skip
def log_in(call: Call, body: inputs.LoginIn) -> Reply:
    """Sign in with email and password."""
    return Reply(people_views.signed_in(sessions.log_in(call.kit, body.email, body.password, by=call.by)))


@api.route(
    "/v1/auth/refresh", methods=["POST"], scope=None, limit=_SIGN_IN, body=inputs.RefreshIn, response="SignedIn",
    errors=[401],
)  # fmt: skip
def refresh_session(call: Call, body: inputs.RefreshIn) -> Reply:
    """Get the next access and refresh token; a refresh token that comes twice ends its session."""
    return Reply(people_views.signed_in(sessions.refresh(call.kit, body.refresh_token, by=call.by)))


@api.route(
    "/v1/auth/logout", methods=["POST"], scope="profile:write", body=schemas.Empty, response="SignedOut",
)  # fmt: skip
def log_out(call: Call, body: schemas.Empty) -> Reply:  # noqa: ARG001 - checked to be empty
    """End the session that asks."""
    sessions.log_out(call.kit, call.who.session_id or "", by=call.by)
    return Reply({"object": "session", "ended": True})


@api.route(
    "/v1/auth/password", methods=["POST"], scope=None, limit=_SIGN_IN, body=inputs.PasswordIn, response="User",
    errors=[401],
)  # fmt: skip
def set_password(call: Call, body: inputs.PasswordIn) -> Reply:
    """Set a password with the token of an invitation or a reset, once."""
    return Reply(people_views.user(people.set_password(call.kit, body.token, body.password, by=call.by)))


@api.route(
    "/v1/auth/session", methods=["POST"], scope=None, limit=_SIGN_IN, body=inputs.LoginIn, response="PageSession",
    status=201, errors=[401, 403],
)  # fmt: skip
def open_page_session(call: Call, body: inputs.LoginIn) -> Reply:
    """Sign a browser in: sets the session's cookie, a new one whatever it had before."""
    auth.check_same_site(call.kit, call.headers)
    presented = auth.cookie_in(call.header("cookie"))
    cookie = sessions.open_page(call.kit, body.email, body.password, by=call.by, presented=presented)
    value = _COOKIE.format(value=cookie.value, seconds=int(call.kit.settings.cookie_ttl))
    return Reply(people_views.page_session(cookie), headers={"Set-Cookie": value})


@api.route("/v1/auth/session", scope="profile:read", response="PageSession")
def get_page_session(call: Call) -> Reply:
    """Get the session of the cookie that asks, with the token that its changes need."""
    return Reply(people_views.page_session(sessions.opened(call.kit, call.who)))


@api.route("/v1/auth/session", methods=["DELETE"], scope="profile:write", response="SignedOut")
def close_page_session(call: Call) -> Reply:
    """Sign a browser out: ends the session that asks, and takes its cookie away."""
    sessions.log_out(call.kit, call.who.session_id or "", by=call.by)
    return Reply({"object": "session", "ended": True}, headers={"Set-Cookie": _COOKIE.format(value="", seconds=0)})
