"""The packaged template, the function settings and the policies agree with each other and with the code."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from chalicelib import config
from chalicelib.api import browsers
from chalicelib.api.problems import CODES, TYPE_BASE
from chalicelib.domain.retrying import LONGEST_WAIT, MAX_SECONDS
from chalicelib.storage import items
from infra.deploy import STAGES, Package, package
from infra.front import GENERAL_SLOTS, WEBHOOK_SLOTS
from infra.settings import ROOT, child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG: dict[str, Any] = json.loads((ROOT / ".chalice" / "config.json").read_text())
FUNCTIONS = sorted(CONFIG["stages"]["local"]["lambda_functions"])
ASL: dict[str, Any] = json.loads((ROOT / "infra" / "payment.asl.json").read_text())
RESPONSE_TYPES = {
    "ACCESS_DENIED", "API_CONFIGURATION_ERROR", "AUTHORIZER_CONFIGURATION_ERROR", "AUTHORIZER_FAILURE",
    "BAD_REQUEST_BODY", "BAD_REQUEST_PARAMETERS", "DEFAULT_4XX", "DEFAULT_5XX", "EXPIRED_TOKEN",
    "INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT", "INVALID_API_KEY", "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN", "QUOTA_EXCEEDED", "REQUEST_TOO_LARGE", "RESOURCE_NOT_FOUND", "THROTTLED",
    "UNAUTHORIZED", "UNSUPPORTED_MEDIA_TYPE", "WAF_FILTERED",
}  # fmt: skip
# Actions that AWS offers no resource for.
NO_RESOURCE = {
    "dynamodb:ListStreams", "xray:PutTelemetryRecords", "xray:PutTraceSegments",
    "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
}  # fmt: skip

pytestmark = pytest.mark.xdist_group("template")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return package("local", tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def template(packaged: Package) -> dict[str, Any]:
    return packaged.template


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: row["Properties"] for name, row in template["Resources"].items() if row["Type"] == kind}


def in_map(template: dict[str, Any], value: Any, stage: str) -> Any:
    """What a FindInMap comes to in one stage; anything else is itself."""
    if isinstance(value, dict) and "Fn::FindInMap" in value:
        table, key, column = value["Fn::FindInMap"]
        assert key == {"Ref": "Stage"}
        return template["Mappings"][table][stage][column]
    return value


def config_name(logical_id: str) -> str:
    return "api_handler" if logical_id == "APIHandler" else logical_id.lower()


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((ROOT / ".chalice").glob("policy-*.json")):
        for statement in json.loads(file.read_text())["Statement"]:
            yield file.name, statement


# ---------------------------------------------------------------- functions


def test_every_function_has_memory_timeout_and_a_policy_of_its_own_in_every_stage(template: dict[str, Any]) -> None:
    packaged = {config_name(name) for name in of_type(template, "AWS::Serverless::Function")}
    for stage in STAGES:
        functions = CONFIG["stages"][stage]["lambda_functions"]
        assert set(functions) == packaged, stage
        policies = [settings["iam_policy_file"] for settings in functions.values()]
        assert len(set(policies)) == len(policies)
        for name, settings in functions.items():
            assert settings["lambda_memory_size"] >= 256, name
            assert settings["lambda_timeout"] >= 10, name
            assert (ROOT / ".chalice" / settings["iam_policy_file"]).exists()
    used = {settings["iam_policy_file"] for settings in CONFIG["stages"]["prod"]["lambda_functions"].values()}
    assert used == {file.name for file in (ROOT / ".chalice").glob("policy-*.json")}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_handler_of_the_template_imports_in_a_fresh_process(packaged: Package, function: str) -> None:
    functions = of_type(packaged.template, "AWS::Serverless::Function")
    handler = next(row["Handler"] for name, row in functions.items() if config_name(name) == function)
    module, attribute = handler.rsplit(".", 1)
    code = f"import importlib; assert callable(getattr(importlib.import_module({module!r}), {attribute!r}))"
    source = packaged.zip_path.parent.parent / "src"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=source,
        env=child_environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_function_has_a_name_and_a_log_group_that_expires(template: dict[str, Any]) -> None:
    groups = of_type(template, "AWS::Logs::LogGroup").values()
    named = {group["LogGroupName"]["Fn::Sub"] for group in groups}
    for name, function in of_type(template, "AWS::Serverless::Function").items():
        plain = config_name(name).removesuffix("_handler")
        assert function["FunctionName"] == {"Fn::Sub": f"railyard-${{Stage}}-{plain}"}
        assert f"/aws/lambda/${{{name}}}" in named
    assert all("RetentionInDays" in group for group in groups)


def test_the_environment_is_what_config_reads(template: dict[str, Any]) -> None:
    names = template["Globals"]["Function"]["Environment"]["Variables"]
    for stage in STAGES:
        loaded = config.load(dict.fromkeys(names, "x") | {"RAILYARD_STAGE": stage, "PROVIDER_BASE_URLS": "{}"})
        assert loaded.stage == stage
    assert names["PROVIDER_BASE_URLS"] == {"Ref": "ProviderBaseUrls"}
    assert template["Parameters"]["ProviderBaseUrls"]["Default"] == "{}"  # what a stage with real money must have


def test_a_function_outlives_what_it_waits_for() -> None:
    for stage in STAGES:
        functions = CONFIG["stages"][stage]["lambda_functions"]
        names = json.loads(json.dumps(dict.fromkeys(_environment_names(), "x")))
        settings = config.load(names | {"RAILYARD_STAGE": stage, "PROVIDER_BASE_URLS": ""})
        call = 2 * (settings.connect_timeout + settings.read_timeout) + 1  # wiring.timing
        for name in ("attempt", "resolve", "operate"):
            assert functions[name]["lambda_timeout"] > call, (stage, name)
        assert functions["deliver"]["lambda_timeout"] > settings.delivery_timeout, stage
        assert functions["api_handler"]["lambda_timeout"] > settings.max_wait, stage
        passes = (settings.sweep_passes - 1) * settings.sweep_pause
        assert functions["sweep"]["lambda_timeout"] > passes, stage


def _environment_names() -> list[str]:
    resources = yaml.load((ROOT / "infra" / "resources.yaml").read_text(), Loader=_Tagless)  # noqa: S506 - a SafeLoader
    return list(resources["Globals"]["Function"]["Environment"]["Variables"])


class _Tagless(yaml.SafeLoader):
    """Reads CloudFormation's short tags as None."""


_Tagless.add_multi_constructor("!", lambda *_: None)


def test_the_front_admits_fewer_requests_than_the_api_function_takes() -> None:
    reserved = CONFIG["stages"]["local"]["lambda_functions"]["api_handler"]["reserved_concurrency"]
    assert reserved > GENERAL_SLOTS + WEBHOOK_SLOTS


# ---------------------------------------------------------------- queues and triggers


def test_every_queue_has_dead_letters_a_redrive_policy_and_an_alarm(template: dict[str, Any]) -> None:
    queues = of_type(template, "AWS::SQS::Queue")
    work = {name: row for name, row in queues.items() if not name.endswith("DeadLetters")}
    assert len(work) == 5
    alarmed = {
        dimension["Value"]["Fn::GetAtt"][0]
        for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()
        for dimension in alarm.get("Dimensions", [])
        if dimension["Name"] == "QueueName"
    }
    for name, row in work.items():
        letters = row["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        assert letters in queues, name
        assert letters in alarmed, name
        assert queues[letters]["MessageRetentionPeriod"] == 14 * 86400 > row["MessageRetentionPeriod"]
        for stage in STAGES:
            assert in_map(template, row["RedrivePolicy"]["maxReceiveCount"], stage) >= 5


def test_a_message_stays_hidden_six_times_as_long_as_its_consumer_may_run(template: dict[str, Any]) -> None:
    queues = of_type(template, "AWS::SQS::Queue")
    consumed = 0
    for mapping in of_type(template, "AWS::Lambda::EventSourceMapping").values():
        source = mapping["EventSourceArn"]["Fn::GetAtt"][0]
        if source not in queues:
            continue
        consumed += 1
        consumer = config_name(mapping["FunctionName"]["Ref"])
        for stage in STAGES:
            timeout = CONFIG["stages"][stage]["lambda_functions"][consumer]["lambda_timeout"]
            assert in_map(template, queues[source]["VisibilityTimeout"], stage) >= 6 * timeout, (stage, consumer)
    assert consumed == 5


def test_queue_consumers_report_partial_failures_and_are_bounded(template: dict[str, Any]) -> None:
    for name, mapping in of_type(template, "AWS::Lambda::EventSourceMapping").items():
        if name == "RelayFromPayments":
            continue
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        for stage in STAGES:
            assert in_map(template, mapping["ScalingConfig"]["MaximumConcurrency"], stage) >= 2, name
            consumer = config_name(mapping["FunctionName"]["Ref"])
            assert "reserved_concurrency" not in CONFIG["stages"][stage]["lambda_functions"][consumer]


def test_the_outbox_never_skips(template: dict[str, Any]) -> None:
    relay = of_type(template, "AWS::Lambda::EventSourceMapping")["RelayFromPayments"]
    assert relay["MaximumRetryAttempts"] == -1
    assert relay["MaximumRecordAgeInSeconds"] == -1
    assert relay["BisectBatchOnFunctionError"] is False
    assert "FunctionResponseTypes" not in relay
    assert relay["StartingPosition"] == "TRIM_HORIZON"


def test_every_function_that_is_no_route_and_no_task_has_a_trigger(template: dict[str, Any]) -> None:
    triggered = {row["FunctionName"]["Ref"] for row in of_type(template, "AWS::Lambda::EventSourceMapping").values()}
    for rule in of_type(template, "AWS::Events::Rule").values():
        triggered |= {target["Arn"]["Fn::GetAtt"][0] for target in rule["Targets"]}
    machine = of_type(template, "AWS::Serverless::StateMachine")["PaymentWorkflow"]
    triggered |= {arn["Fn::GetAtt"][0] for arn in machine["DefinitionSubstitutions"].values()}
    assert triggered | {"APIHandler"} == set(of_type(template, "AWS::Serverless::Function"))


# ---------------------------------------------------------------- policies


def test_no_policy_has_a_wildcard(template: dict[str, Any]) -> None:
    machine = of_type(template, "AWS::Serverless::StateMachine")["PaymentWorkflow"]
    inline = [("PaymentWorkflow", row) for policy in machine["Policies"] for row in policy.get("Statement", [])]
    for where, statement in [*statements(), *inline]:
        actions, resources = statement["Action"], statement["Resource"]
        assert isinstance(actions, list)
        assert not any("*" in action for action in actions), where
        if "*" in resources:
            assert set(actions) <= NO_RESOURCE, (where, statement["Sid"])
            continue
        for resource in resources:
            text = resource.get("Fn::Sub", "")
            assert text.startswith("arn:${AWS::Partition}:") or "Fn::GetAtt" in resource, (where, resource)
            assert ":railyard-${Stage}-" in text or "/railyard-${Stage}-" in text or "Fn::GetAtt" in resource, where
            assert not text.endswith(":*") or ":execution:" in text or ":log-group:" in text, (where, text)


def test_every_consumer_may_read_its_queue(template: dict[str, Any]) -> None:
    queues = of_type(template, "AWS::SQS::Queue")
    for mapping in of_type(template, "AWS::Lambda::EventSourceMapping").values():
        source = mapping["EventSourceArn"]["Fn::GetAtt"][0]
        if source not in queues:
            continue
        name = queues[source]["QueueName"]["Fn::Sub"]
        file = f"policy-{config_name(mapping['FunctionName']['Ref'])}.json"
        allowed = [row for where, row in statements() if where == file and "sqs:DeleteMessage" in row["Action"]]
        assert any(resource["Fn::Sub"].endswith(f":{name}") for row in allowed for resource in row["Resource"]), file


@pytest.mark.parametrize("name", ["api", "attempt", "resolve", "park", "operate", "ingest"])
def test_who_reads_payments_may_open_what_is_sealed_in_them(name: str) -> None:
    """Under the merchant's look-up key, which lies in the merchants table and opens with KMS."""
    mine = [row for file, row in statements() if file == f"policy-{name}.json"]
    readable = [json.dumps(row["Resource"]) for row in mine if "dynamodb:Query" in row["Action"]]
    assert any("-payments" in text for text in readable)
    assert any("-merchants" in text for text in readable)
    assert any("kms:Decrypt" in row["Action"] for row in mine)


# What each function may write or send: the whole list, so that whoever adds to a policy adds here, and is asked why.
WRITES: dict[str, dict[str, str]] = {
    "api": {
        "payments": "put update", "guards": "put update", "stats": "put update", "merchants": "put update",
        "queues": "provider-events", "kms": "Decrypt Encrypt", "states": "start",
    },
    "attempt": {"payments": "put update", "guards": "put update", "stats": "put update", "kms": "Decrypt"},
    "resolve": {"payments": "put update", "guards": "put update", "kms": "Decrypt"},
    "park": {"payments": "put update", "kms": "Decrypt"},
    "relay": {"queues": "notifications operations projections"},
    "operate": {"payments": "put update", "guards": "put update", "kms": "Decrypt", "states": "start"},
    "ingest": {"payments": "put update", "guards": "put update", "kms": "Decrypt", "states": "start"},
    "notify": {"deliveries": "put update", "queues": "deliveries", "kms": "Decrypt"},
    "deliver": {"deliveries": "put update", "kms": "Decrypt"},
    "project": {"guards": "put update", "stats": "put update", "merchants": "put"},
    "sweep": {"payments": "put update", "deliveries": "put update", "queues": "deliveries operations"},
    "watch": {"stats": "put delete"},
}  # fmt: skip
_VERBS = {"dynamodb:PutItem": "put", "dynamodb:UpdateItem": "update", "dynamodb:DeleteItem": "delete"}


def allowed_writes() -> dict[str, dict[str, str]]:
    """What the policies say, in the words of WRITES."""
    found: dict[str, dict[str, set[str]]] = {}
    for file, statement in statements():
        mine = found.setdefault(file.removeprefix("policy-").removesuffix(".json"), {})
        for action in statement["Action"]:
            for resource in statement["Resource"]:
                name = re.sub(r".*railyard-\$\{Stage\}-", "", resource.get("Fn::Sub", "")) if resource != "*" else ""
                if action in _VERBS:
                    mine.setdefault(name, set()).add(_VERBS[action])
                elif action == "sqs:SendMessage":
                    mine.setdefault("queues", set()).add(name)
                elif action.startswith("kms:"):
                    mine.setdefault("kms", set()).add(action.removeprefix("kms:"))
                elif action == "states:StartExecution":
                    mine.setdefault("states", set()).add("start")
    order = ["put", "update", "delete"]
    return {
        function: {
            what: " ".join(sorted(verbs, key=lambda verb: (order.index(verb) if verb in order else 0, verb)))
            for what, verbs in mine.items()
        }
        for function, mine in found.items()
    }


def test_which_function_may_write_what() -> None:
    assert allowed_writes() == WRITES


def test_nothing_but_the_tables_and_queues_of_the_stage_is_written(template: dict[str, Any]) -> None:
    """Every action that changes something, in every policy, names one resource of ours; none has a wildcard."""
    changing = re.compile(
        r"(Put|Update|Delete|Write|Send|Start|Create|Encrypt|Change|Receive|Tag|Set|Stop|Batch.*Write)"
    )
    for file, statement in statements():
        for action in statement["Action"]:
            if not changing.search(action.partition(":")[2]) or action in NO_RESOURCE:
                continue
            for resource in statement["Resource"]:
                text = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
                tail = text.rpartition(":log-group:")[2].removesuffix(":*")  # the streams of one group
                assert "*" not in tail, (file, action, text)
    assert template["Resources"]


def test_the_merchants_table_is_written_by_kind_of_row() -> None:
    """Only the API writes merchants, people, keys and audit lines; project ends experiments, and says so."""
    keys: dict[tuple[str, str], set[str]] = {}
    for file, statement in statements():
        if not any("-merchants" in json.dumps(resource) for resource in statement["Resource"]):
            continue
        for action in statement["Action"]:
            if action in _VERBS:
                assert len(statement["Resource"]) == 1, (file, statement["Sid"])
                keys[file, _VERBS[action]] = set(
                    statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
                )
    assert set(keys) == {("policy-api.json", "put"), ("policy-api.json", "update"), ("policy-project.json", "put")}
    assert keys["policy-api.json", "update"] == {"keys/*"}
    assert keys["policy-project.json", "put"] == {"routing/*", "audit/*"}
    written = {re.sub(r"\{.*", "*", pk) for pk in _merchants_partitions()}
    assert written - {"*"} | {"mer_*"} == keys["policy-api.json", "put"]


def _merchants_partitions() -> list[str]:
    """Partition keys of the merchants table's rows, as their classes describe them."""
    told = [model.__doc__ or "" for model in items._TABLES["merchants"]]
    return [text.partition("pk = ")[2].partition(",")[0] for text in told if "pk = " in text]


# ---------------------------------------------------------------- API


def test_api_gateway_logs_no_bodies(template: dict[str, Any]) -> None:
    (api,) = of_type(template, "AWS::Serverless::Api").values()
    assert not any(setting.get("DataTraceEnabled") for setting in api["MethodSettings"])


def test_every_answer_of_api_gateway_itself_is_a_problem_document(template: dict[str, Any]) -> None:
    responses = of_type(template, "AWS::ApiGateway::GatewayResponse")
    assert {row["ResponseType"] for row in responses.values()} == RESPONSE_TYPES
    assert template["Parameters"]["ErrorTypeBase"]["Default"] == TYPE_BASE
    for name, row in responses.items():
        text = row["ResponseTemplates"]["application/json"]["Fn::Sub"]
        document = json.loads(text.replace("${ErrorTypeBase}", TYPE_BASE))
        assert set(document) == {"type", "title", "status", "detail", "code", "param", "request_id"}, name
        assert document["code"] in CODES, name
        assert document["type"] == TYPE_BASE + document["code"]
        assert str(document["status"]) == row["StatusCode"]
        assert row["ResponseParameters"]["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert row["ResponseParameters"]["gatewayresponse.header.Railyard-Request-Id"] == "context.requestId"
        for header, value in browsers.SECURITY.items():
            if "'" not in value:
                assert row["ResponseParameters"][f"gatewayresponse.header.{header}"] == f"'{value}'", name


# ---------------------------------------------------------------- tables


def test_every_table_is_kept_safe_in_prod(template: dict[str, Any]) -> None:
    tables = of_type(template, "AWS::DynamoDB::Table")
    in_prod = {"Fn::If": ["IsProd", True, False]}
    assert {row["TableName"]["Fn::Sub"].rsplit("-", 1)[1] for row in tables.values()} == {
        "payments", "merchants", "guards", "deliveries", "stats",
    }  # fmt: skip
    for name, row in tables.items():
        assert row["DeletionProtectionEnabled"] == in_prod, name
        assert row["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == in_prod, name
        assert row["SSESpecification"]["SSEEnabled"] == in_prod, name
        assert row["BillingMode"] == "PAY_PER_REQUEST", name
        assert all(
            index["Projection"] == {"ProjectionType": "KEYS_ONLY"} for index in row.get("GlobalSecondaryIndexes", [])
        )


# ---------------------------------------------------------------- alarms


def test_every_alarm_on_our_own_metrics_watches_a_metric_that_is_emitted(template: dict[str, Any]) -> None:
    """``metric`` emits each one for the service alone too: tests/unit/test_metrics.py holds that."""
    emitted: set[str] = set()
    for file in (ROOT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "metric":
                emitted |= {str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant)}
    for alarm in of_type(template, "AWS::CloudWatch::Alarm").values():
        if alarm.get("Namespace") == "Railyard":
            assert [dimension["Name"] for dimension in alarm["Dimensions"]] == ["service"]
            assert alarm["MetricName"] in emitted


def test_rules_that_cannot_be_read_are_told(template: dict[str, Any]) -> None:
    watched = {alarm.get("MetricName") for alarm in of_type(template, "AWS::CloudWatch::Alarm").values()}
    assert "RulesUnreadable" in watched


def test_every_alarm_says_what_it_means(template: dict[str, Any]) -> None:
    for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmDescription"].endswith("."), name
        assert alarm["AlarmName"]["Fn::Sub"].startswith("railyard-${Stage}-"), name


# ---------------------------------------------------------------- workflow


def tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, state) for name, state in ASL["States"].items() if state["Type"] == "Task")


def test_every_task_is_given_longer_than_its_function() -> None:
    for name, state in tasks():
        for stage in STAGES:
            function = CONFIG["stages"][stage]["lambda_functions"][name.lower()]
            assert state["TimeoutSeconds"] > function["lambda_timeout"], (stage, name)


def test_attempt_and_resolve_outlast_throttles_under_both_their_names_and_end_in_park() -> None:
    for name in ("Attempt", "Resolve"):
        throttled, crashed = ASL["States"][name]["Retry"]
        assert {"Lambda.TooManyRequestsException", "Lambda.Unknown"} <= set(throttled["ErrorEquals"])
        assert throttled["MaxAttempts"] > crashed["MaxAttempts"]
        assert crashed["ErrorEquals"] == ["States.ALL"]
        assert ASL["States"][name]["Catch"] == [
            {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Park"}
        ]


def test_the_comment_adds_up_the_time_outs() -> None:
    attempt = ASL["States"]["Attempt"]
    throttled, crashed = attempt["Retry"]
    runs = crashed["MaxAttempts"] + 1
    crashing = runs * attempt["TimeoutSeconds"] + sum(
        crashed["IntervalSeconds"] * crashed["BackoffRate"] ** number for number in range(crashed["MaxAttempts"])
    )
    throttles = sum(
        min(throttled["IntervalSeconds"] * throttled["BackoffRate"] ** number, throttled["MaxDelaySeconds"])
        for number in range(throttled["MaxAttempts"])
    )
    visit = round(crashing) + -(-throttles // 1)
    # Attempts begin within an hour of the first one; then three resolves, as patient as a provider may ask for.
    total = visit + MAX_SECONDS + LONGEST_WAIT + visit + 3 * (LONGEST_WAIT + visit)
    for number in (crashing, visit, total, ASL["TimeoutSeconds"]):
        assert f"{number:.0f} s" in ASL["Comment"] or f"TimeoutSeconds {number:.0f}" in ASL["Comment"], number
    assert total <= ASL["TimeoutSeconds"]


def test_every_state_is_reached_and_ends_somewhere() -> None:
    states = ASL["States"]
    reached, queue = set(), [ASL["StartAt"]]
    while queue:
        name = queue.pop()
        if name in reached:
            continue
        reached.add(name)
        state = states[name]
        following = [state.get("Next"), state.get("Default")]
        following += [choice["Next"] for choice in state.get("Choices", []) + state.get("Catch", [])]
        following = [one for one in following if one]
        assert following or state["Type"] in {"Succeed", "Fail"}, name
        queue += following
    assert reached == set(states)


# ---------------------------------------------------------------- LocalStack


def test_the_compose_file_pins_its_image_and_listens_on_loopback_only() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.localstack.yml").read_text())
    service = compose["services"]["localstack"]
    assert service["image"] == "${LOCALSTACK_IMAGE:-localstack/localstack:4.14.0}"
    assert service["environment"]["LAMBDA_DOCKER_NETWORK"] == compose["networks"]["railyard"]["name"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
