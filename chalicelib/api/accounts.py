"""Routes: provider accounts, through which a merchant's payments are made. Secrets go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.api import lists, schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.services import accounts
from chalicelib.services.attempts import webhook_url

if TYPE_CHECKING:
    from chalicelib.domain.merchant import Account

api = Api(__name__)

_ALL = "/v1/provider-accounts"
_ONE = f"{_ALL}/{{account_id}}"


def _render(call: Call, account: Account) -> dict[str, object]:
    connection = accounts.connection_of(call.kit, account)
    return views.account(account, call.tenant, connection, webhook_url(call.kit, account))


@api.route(
    _ALL, methods=["POST"], scope="accounts:write", body=schemas.AccountIn, response="ProviderAccount", status=201,
    idempotent=True,
)  # fmt: skip
def create_provider_account(call: Call, body: schemas.AccountIn) -> Reply:
    """Connect an account at a provider."""
    wish = accounts.NewAccount(body.provider, body.credentials, body.name)
    return call.once(
        lambda idem: accounts.connect(call.kit, call.tenant, wish, idem, by=call.by),
        lambda account: _render(call, account),
    )


@api.route(_ALL, scope="accounts:read", query=schemas.PageQuery, response="ProviderAccountList")
def list_provider_accounts(call: Call, query: schemas.PageQuery) -> Reply:
    """List provider accounts, newest first."""
    page = accounts.listed(call.kit, call.tenant, limit=query.limit, cursor=lists.after_account(query.cursor))
    return Reply(lists.shown(page, lambda account: _render(call, account)))


@api.route(_ONE, scope="accounts:read", response="ProviderAccount", errors=[404])
def get_provider_account(call: Call, account_id: str) -> Reply:
    """Get a provider account."""
    return Reply(_render(call, accounts.get(call.kit, call.tenant, account_id)))


@api.route(
    f"{_ONE}/test", methods=["POST"], scope="accounts:write", body=schemas.Empty, response="ConnectionTest",
    errors=[404],
)  # fmt: skip
def test_provider_account(call: Call, account_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001 - checked to be empty
    """Ask the provider for something that cannot exist, to see whether it lets us in."""
    return Reply(views.connection_test(accounts.probe(call.kit, call.tenant, account_id)))


@api.route(
    f"{_ONE}/rotate-secret", methods=["POST"], scope="accounts:write", body=schemas.RotateIn,
    response="ProviderAccount", idempotent=True, errors=[404],
)  # fmt: skip
def rotate_provider_account(call: Call, account_id: str, body: schemas.RotateIn) -> Reply:
    """Replace credentials; the old webhook secret is accepted for a while longer."""
    return call.once(
        lambda idem: accounts.rotate(
            call.kit, call.tenant, account_id, body.credentials, idem, keep_previous=body.keep_previous, by=call.by
        ),
        lambda account: _render(call, account),
    )


@api.route(
    f"{_ONE}/disable", methods=["POST"], scope="accounts:write", body=schemas.Empty, response="ProviderAccount",
    errors=[404, 429],
)  # fmt: skip
def disable_provider_account(call: Call, account_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001
    """Send no new charges to an account; what it has charged goes on."""
    account = accounts.set_enabled(call.kit, call.tenant, account_id, enabled=False, by=call.by)
    return Reply(_render(call, account))


@api.route(
    f"{_ONE}/enable", methods=["POST"], scope="accounts:write", body=schemas.Empty, response="ProviderAccount",
    errors=[404, 429],
)  # fmt: skip
def enable_provider_account(call: Call, account_id: str, body: schemas.Empty) -> Reply:  # noqa: ARG001
    """Send new charges to an account again."""
    account = accounts.set_enabled(call.kit, call.tenant, account_id, enabled=True, by=call.by)
    return Reply(_render(call, account))
