"""Routes: the rules by which a merchant's payments are routed, and trying them out."""

from __future__ import annotations

from chalicelib.api import schemas, views
from chalicelib.api.http import Api, Call, Reply
from chalicelib.api.payments import wish_of
from chalicelib.services import experiments, rule_books, simulation

api = Api(__name__)

# Far more than can be valid (routing_settings.MAX_BYTES): who sends ten thousand rules learns which one is too many.
_MAX_BODY = 4 * 1024 * 1024


@api.route("/v1/routing", scope="routing:read", response="RoutingSettings")
def get_routing(call: Call) -> Reply:
    """Get the routing rules."""
    return Reply(views.routing_settings(rule_books.routing(call.kit, call.tenant), call.tenant))


@api.route(
    "/v1/routing", methods=["PUT"], scope="routing:write", body=schemas.RoutingIn, response="RoutingSettings",
    errors=[409], max_body=_MAX_BODY,
)  # fmt: skip
def put_routing(call: Call, body: schemas.RoutingIn) -> Reply:
    """Replace the routing rules; what is left out has its default."""
    given = body.model_dump(exclude={"version"}, exclude_unset=True)
    stored = rule_books.put_routing(call.kit, call.tenant, given, body.version, by=call.by)
    return Reply(views.routing_settings(stored, call.tenant))


@api.route("/v1/routing/experiments", scope="routing:read", response="ExperimentList")
def list_experiments(call: Call) -> Reply:
    """List the experiments of the routing rules, with what has come of each."""
    found = experiments.standings(call.kit, call.tenant)
    return Reply({"data": [views.experiment(standing, call.kit.now()) for standing in found], "next_cursor": None})


@api.route(
    "/v1/routing/simulate", methods=["POST"], scope="routing:read", body=schemas.SimulationIn,
    response="RoutingSimulation", errors=[404], max_body=_MAX_BODY,
)  # fmt: skip
def simulate_routing(call: Call, body: schemas.SimulationIn) -> Reply:
    """Say what would happen to a payment now, under the rules in force or others; nothing is charged or written."""
    given = body.routing.model_dump(exclude_unset=True) if body.routing else None
    found = simulation.simulate(call.kit, call.tenant, wish_of(body), given)
    return Reply(views.routing_simulation(found))
