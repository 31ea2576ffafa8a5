"""Pages: signing in, and their files. A page's requests go to the API with its session's cookie."""

from __future__ import annotations

from chalicelib.api.http import Api, Call, Reply
from chalicelib.domain.errors import NotFoundError
from chalicelib.web.assets import assets

api = Api(__name__)

# Nothing but our own files, and nobody else's frame: no inline script, no inline style.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@api.route("/sign-in", scope=None, query=None, response="")
def sign_in_page(call: Call) -> Reply:  # noqa: ARG001 - the same for everybody
    """Show where people sign in, and who is signed in."""
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _POLICY}
    return Reply(assets().page("sign-in.html"), headers=headers)


@api.route("/static/{version}/{file}", scope=None, query=None, response="", errors=[404])
def get_asset(call: Call, version: str, file: str) -> Reply:  # noqa: ARG001
    """Get a file of the pages; it never changes under its address."""
    found = assets().get(version, file)
    if found is None:
        raise NotFoundError("not_found", "There is no such file.", param="file")
    body, kind = found
    return Reply(body, headers={"Content-Type": kind, "Cache-Control": "public, max-age=31536000, immutable"})
