"""Route: the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chalicelib.api import lists, people_views
from chalicelib.api import people_schemas as inputs
from chalicelib.api.http import Api, Call, Reply
from chalicelib.storage import audits

if TYPE_CHECKING:
    from chalicelib.domain.audit import Entry

api = Api(__name__)


@api.route("/v1/audit", scope="audit:read", query=inputs.AuditQuery, response="AuditEntryList")
def list_audit_entries(call: Call, query: inputs.AuditQuery) -> Reply:
    """List who has done what in this mode and in both, newest first."""

    def keep(entry: Entry) -> bool:
        return (
            entry.mode in (None, call.tenant.mode)
            and query.action in (None, entry.action)
            and query.object_id in (None, entry.object_id)
            and query.actor_id in (None, entry.actor.id)
        )

    page = audits.page(
        call.tenant.merchant_id, limit=query.limit, cursor=lists.after_id(query.cursor, "aud"), keep=keep
    )
    return Reply(lists.shown(page, people_views.audit_entry))
