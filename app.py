"""Table of contents: every route and every function lives in one of these blueprints."""

from __future__ import annotations

from chalice.app import Chalice

from chalicelib import workers, workflow
from chalicelib.api import (
    accounts,
    audit,
    customers,
    keys,
    meta,
    orders,
    payments,
    people,
    platform,
    providers,
    refunds,
    risk,
    routing,
    sessions,
    tokens,
    webhooks,
)
from chalicelib.web import pages

app = Chalice(app_name="railyard")

for blueprint in (
    meta.api,
    orders.api,
    payments.api,
    refunds.api,
    tokens.api,
    accounts.api,
    providers.api,
    risk.api,
    routing.api,
    customers.api,
    sessions.api,
    people.api,
    keys.api,
    audit.api,
    platform.api,
    webhooks.api,
    pages.api,
    workflow.tasks,
    workers.workers,
):
    app.register_blueprint(blueprint)
