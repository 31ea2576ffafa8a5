"""The canary dies when it should: every kind of mark is found in every place that is searched."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import re
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.providers.http import UrllibHttpClient
from chalicelib.providers.registry import NAMES, build
from infra.sandbox.config import load
from tests.conftest import OVERHEARD, check_log
from tests.support import aws, marks, search
from tests.support.api import CARD, ROOT, Api
from tests.support.marks import PERSONAL, SEARCHED, SECRETS
from tests.support.search import Ear, Leak, Overheard
from tests.support.stack_search import StackSearch, in_home
from tests.support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

API_KEY = "sk_test_" + "0123456789abcdef" * 4 + "01234567"
# One of each kind, as it may stand in a document, and some of the ways in which people and programs write it.
PLANTED: dict[str, tuple[str, ...]] = {
    "card number": ("4242424242424242", "4111 1111-1111.1111", "x378282246310005y", "3782 822463 10005"),
    "CVV": (
        '"cvv": "739"',
        "{'cvv': '8391'}",
        "card%5Bcvc%5D=739",
        r"\"cvv\":\"739\"",
        "CVV: 739",
        'security_code="739"',
    ),
    "API key": (API_KEY, API_KEY.replace("test", "live"), f"Bearer {API_KEY}."),
    "webhook secret": (marks.WEBHOOK_SECRET, "whsec_" + base64.b64encode(b"s" * 32).decode()),
    "provider's credential": tuple(sorted(marks.sandbox_secrets())),
    "lookup key": ("k" * 32, "6b" * 32),
    "password": (marks.PASSWORD,),
    "access token": (f"Bearer {'.'.join(('eyJhbGciOiJIUzI1NiJ9', 'eyJpc3MiOiJyYWlseWFyZCJ9', 'c' * 43))}",),
    "session secret": (f"__Host-railyard=ses_{'0' * 26}.{'s' * 43}; theme=dark",),
    "email": (
        marks.EMAIL,
        "any.one+x@canary.example",
        "Asha@Canary.example",
        "asha@canary.EXAMPLE",
        "asha@example.com",
        "email=asha%40canary.example",
    ),
    "contact": (marks.CONTACT, "9800000007", "+91 98000 00000", "98000-00000"),
    "ip": marks.IPS,
    "VPA": (marks.VPA, "success@sim", "vpa=late_success%40sim"),
}
EACH = [(kind, planted) for kind, ways in PLANTED.items() for planted in ways]


def wire(planted: str) -> dict[str, Any]:
    """A row's attribute with it."""
    return {"S": json.dumps({"note": f"see {planted} here"}) if "\\" not in planted and '"' not in planted else planted}


def hidden(planted: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same where nobody sees it at first sight."""
    said = f"see {planted} here".encode()
    yield "base64", {"S": base64.b64encode(said).decode()}
    yield "base64 for URLs", {"S": "q=" + base64.urlsafe_b64encode(b"\xff" + said).decode()}
    yield "binary", {"B": base64.b64encode(said).decode()}
    yield "zlib", {"B": base64.b64encode(zlib.compress(said)).decode()}
    yield "gzip", {"B": base64.b64encode(gzip.compress(said)).decode()}
    yield (
        "zlib in base64 in zlib",
        {"B": base64.b64encode(zlib.compress(base64.b64encode(zlib.compress(said)))).decode()},
    )


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as made:
        yield made


def kinds(world: World) -> set[tuple[str, str]]:
    """What is found in a world, and where."""
    return {(find.kind, find.where.partition(",")[0]) for find in search.in_world(world, SEARCHED)}


def put(world: World, **attributes: Any) -> None:
    key = {"pk": {"S": "canary"}, "sk": {"S": "canary"}}
    world.dynamo.tables[f"{aws.PREFIX}-payments"].put(key | attributes)


def clear(world: World) -> None:
    world.dynamo.tables[f"{aws.PREFIX}-payments"].partitions.clear()


# -- marks ---------------------------------------------------------------------------------------------


def test_every_kind_of_mark_is_planted() -> None:
    assert {mark.kind for mark in SECRETS | PERSONAL} == set(PLANTED)
    for mark in SECRETS | PERSONAL:  # and each of them is found by what it is
        assert any(mark.needle in planted for planted in PLANTED[mark.kind]) or mark.kind in (
            "card number", "CVV", "contact", "lookup key"
        ), mark  # fmt: skip


@pytest.mark.parametrize("number", sorted(marks.CARD_NUMBERS))
def test_every_marked_card_number_is_found(number: str) -> None:
    assert [find.kind for find in search.found("here", f"<{number}>", SECRETS)] == ["card number"]


def test_every_secret_of_an_account_at_the_sandbox_is_marked() -> None:
    secret = {
        name: {one.name for one in build(name, UrllibHttpClient(1, 1)).connection.credentials if one.secret}
        for name in NAMES
    }
    for provider in load():
        for name, value in provider.credentials.items():
            assert (value in marks.sandbox_secrets()) == (name in secret[provider.personality]), (provider.id, name)
        assert provider.webhook_secret in marks.sandbox_secrets()


def test_a_key_is_marked_and_the_hint_of_it_is_not() -> None:
    with World() as world:
        api = Api(world)
        for key in (api.key, api.other_key, api.live_key):
            assert [find.kind for find in search.found("here", key, SECRETS)] == ["API key"]
            assert not list(search.found("here", f"{key[:12]}…{key[-4:]}", SECRETS))


@pytest.mark.parametrize(
    "text",
    [
        "", "42424242424242421", "14242424242424242", "424242", "…4242", "2026-11-21T04:23:20.000000+0000", "1795235000.123",
        'the "cvv" of 4 cards', '{"param":"cvv","length":3}', "cvv_length 300", "sk_test_012345", "whsec_", "asha@other.example",
        "98000000", "1980000000012", "@simulator", "success at sim", "pay_01KAQ000000000000000000001-01",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_mark_is_left_alone(text: str) -> None:
    assert not list(search.found("here", text, SEARCHED))


# -- worlds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "planted"), EACH)
def test_a_mark_in_a_row_is_found(world: World, kind: str, planted: str) -> None:
    put(world, note=wire(planted))
    assert (kind, "railyard-local-payments") in kinds(world)
    for _, attribute in hidden(planted):
        put(world, note=attribute)
        assert (kind, "railyard-local-payments") in kinds(world), attribute
    clear(world)
    assert not kinds(world)


@pytest.mark.parametrize(("kind", "planted"), EACH)
def test_a_mark_in_a_message_is_found(world: World, kind: str, planted: str) -> None:
    message = world.new_message(json.dumps({"body": planted}) if '"' not in planted else planted)
    world.queues["notifications"].append(message)
    assert kinds(world) == {(kind, "notifications")}
    world.queues["notifications"].clear()
    world.dead.append(("notifications", message))
    assert kinds(world) == {(kind, "dead letters")}
    world.dead.clear()


def test_a_mark_in_a_message_that_was_consumed_is_found(world: World) -> None:
    entries = [{"Id": "0", "MessageBody": json.dumps({"note": API_KEY})}]
    world._play_SendMessageBatch({"QueueUrl": "https://queue.test/deliveries", "Entries": entries})
    world.queues["deliveries"].clear()
    assert kinds(world) == {("API key", "deliveries")}
    world.sent.clear()


def test_a_mark_in_an_execution_is_found(world: World) -> None:
    world._play_StartExecution({"name": "pay_1-1", "input": json.dumps({"note": API_KEY})})
    assert kinds(world) == {("API key", "executions")}
    world.executions.clear()


def test_a_world_with_a_secret_in_clear_does_not_end_well() -> None:
    with (
        pytest.raises(Leak, match=r"card number in railyard-local-payments: .*see 4242424242424242 here"),
        World() as world,
    ):
        put(world, note=wire("4242424242424242"))


def test_personal_details_fail_a_world_as_secrets_do() -> None:
    with World() as world:
        put(world, note=wire(marks.EMAIL))
        assert search.in_world(world)
        clear(world)


def test_a_world_that_broke_tells_what_broke_it() -> None:
    world = World()
    put(world, note=wire(API_KEY))
    error = LookupError("this")
    world.__exit__(LookupError, error, None)  # raises nothing of its own


def test_one_in_four_worlds_with_a_fault_is_searched_and_always_the_same() -> None:
    from tests.support.world import Fault, Point  # noqa: PLC0415 - only here

    with World() as world:
        assert search.is_sampled(world)
        chosen = []
        for at in range(400):
            world.fault, world.points = Fault(at, "lost"), [Point("request", "x")] * (at // 10)
            chosen.append((search.is_sampled(world), search.is_sampled(world)))
        world.fault = None
    assert all(first == second for first, second in chosen)
    assert 60 < sum(first for first, _ in chosen) < 140


def test_the_api_seals_its_secrets_and_a_card_leaves_no_number() -> None:
    with World() as world:
        api = Api(world)
        api.made("/v1/tokens", CARD)
        assert not search.in_world(world, SECRETS)
        assert api.world.kit.merchants.get(world.merchant().tenant).webhook_secret == marks.WEBHOOK_SECRET


@pytest.mark.parametrize("attribute", [{"S": f"x {API_KEY}"}, {"B": zlib.compress(API_KEY.encode())}])
def test_a_mark_in_a_table_of_a_service_is_found(attribute: dict[str, Any]) -> None:
    aws.set_environment()
    with mock_aws():
        aws.create_tables()
        client = boto3.client("dynamodb")
        item = {"pk": {"S": "p"}, "sk": {"S": "s"}, "note": attribute}
        client.put_item(TableName=f"{aws.PREFIX}-payments", Item=item)
        finds = search.in_tables(client)
        assert {find.kind for find in finds} == {"API key"}


# -- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack",
    [lambda raw: raw, zlib.compress, gzip.compress, base64.b64encode, lambda raw: json.dumps({"B": base64.b64encode(raw).decode()}).encode()],
)  # fmt: skip
def test_a_mark_in_a_file_is_found_unless_the_file_is_spared(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sqs.json").write_bytes(pack(f"\xff see {API_KEY}".encode("latin-1")))
    assert {find.kind for find in search.in_files(tmp_path, SECRETS)} == {"API key"}
    assert not search.in_files(tmp_path, SECRETS, spared=("state/",))


def test_a_mark_in_a_zip_file_is_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.py", f"KEY = '{API_KEY}'")
    assert [find.where for find in search.in_files(tmp_path, SECRETS)] == ["code.zip/settings.py"]


# -- a stack -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "kinds"),
    [
        ("state/sqs.json", API_KEY, {"API key"}),
        ("state/sqs.json", marks.EMAIL, {"email"}),
        ("state/cloudwatch_logs.json", f"{API_KEY} {marks.EMAIL}", {"API key", "email"}),
        ("logs/emulator.log", f"{marks.WEBHOOK_SECRET} {marks.EMAIL} success@sim", {"webhook secret", "email", "VPA"}),
        ("run.log", f"{API_KEY} {marks.WEBHOOK_SECRET}", set()),
        ("run.log", "4242424242424242 rzp_test_secret", {"card number", "provider's credential"}),
        ("state/bank.pickle", f"{marks.EMAIL} rzp_test_secret", set()),
        ("state/bank.pickle", "4242424242424242", {"card number"}),
        ("seed.json", API_KEY, set()),
        ("anything/else", API_KEY, {"API key"}),
    ],
)  # fmt: skip
def test_what_a_stopped_stack_leaves_is_searched_for_what_must_not_be_there(
    tmp_path: Path, name: str, text: str, kinds: set[str]
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(json.dumps({"note": f"see {text}"}))
    assert {find.kind for find in in_home(tmp_path)} == kinds


def _plant_row(text: str) -> None:
    aws.create_tables()
    item: dict[str, Any] = {"pk": {"S": "p"}, "sk": {"S": "s"}, "body": {"B": zlib.compress(text.encode())}}
    boto3.client("dynamodb").put_item(TableName=f"{aws.PREFIX}-guards", Item=item)


def _plant_message(text: str) -> None:
    client = boto3.client("sqs", "us-east-1")
    url = client.create_queue(QueueName="a-dlq", Attributes={"ReceiveMessageWaitTimeSeconds": "20"})["QueueUrl"]
    for number in range(25):
        client.send_message(QueueUrl=url, MessageBody=text if number == 24 else "nothing")


def _plant_object(text: str) -> None:
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="a-bucket")
    client.put_object(Bucket="a-bucket", Key="a", Body=gzip.compress(text.encode()))


def _plant_execution(text: str) -> None:
    client = boto3.client("stepfunctions", "us-east-1")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    role = "arn:aws:iam::123456789012:role/a"
    machine = client.create_state_machine(name="a", definition=definition, roleArn=role)["stateMachineArn"]
    client.start_execution(stateMachineArn=machine, name="pay_1-1", input=json.dumps({"note": text}))


def _plant_log_event(text: str) -> None:
    client = boto3.client("logs", "us-east-1")
    client.create_log_group(logGroupName="/aws/lambda/a")
    client.create_log_stream(logGroupName="/aws/lambda/a", logStreamName="1")
    event = {"timestamp": int(time.time() * 1000), "message": text}
    client.put_log_events(logGroupName="/aws/lambda/a", logStreamName="1", logEvents=[event])


@pytest.mark.parametrize("planted", ["4242424242424242", API_KEY])
@pytest.mark.parametrize(
    ("service", "plant"),
    [
        ("rows", _plant_row), ("messages", _plant_message), ("objects", _plant_object), ("executions", _plant_execution),
        ("log events", _plant_log_event),
    ],
)  # fmt: skip
def test_a_mark_in_a_service_is_found(
    monkeypatch: pytest.MonkeyPatch, service: str, plant: Callable[[str], None], planted: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        plant(f"see {planted} here")
        search_of_it = StackSearch(None)
        kinds = {find.kind for find in search_of_it.finds()}
    assert kinds == {"card number" if planted.isdigit() else "API key"}
    assert search_of_it.looked_at[service] > 0


# -- the log -------------------------------------------------------------------------------------------


def hear(log: Callable[[logging.Logger], None], level: int = logging.DEBUG, name: str = "railyard.canary") -> list[str]:
    """The kinds of marks that are heard in what is logged, by an ear of the test's own."""
    overheard = Overheard()
    ear = Ear(overheard)
    logger = logging.Logger(name, level)  # noqa: LOG001 - nobody else shall hear it
    logger.addHandler(ear)
    log(logger)
    return sorted({find.kind for find in overheard.take()})


@pytest.mark.parametrize(("kind", "planted"), EACH)
def test_a_mark_in_a_log_line_is_heard(kind: str, planted: str) -> None:
    assert hear(lambda logger: logger.warning(f"see {planted} here")) == [kind]  # noqa: G004 - as it may be written
    assert hear(lambda logger: logger.warning("see %s here", planted)) == [kind]
    assert kind in hear(lambda logger: logger.warning("it", extra={"note": f"see {planted.replace(chr(34), '')} here"}))


def test_a_mark_in_an_exception_or_behind_it_is_heard() -> None:
    def fail(logger: logging.Logger) -> None:
        behind = LookupError(API_KEY)
        behind.__cause__ = ValueError(marks.EMAIL)
        logger.error("it failed", exc_info=behind)

    assert hear(fail) == ["API key", "email"]


def test_exceptions_that_cause_each_other_come_to_an_end() -> None:
    def fail(logger: logging.Logger) -> None:
        first, second = LookupError(API_KEY), ValueError()
        first.__cause__, second.__context__ = second, first
        logger.error("it failed", exc_info=first)

    assert hear(fail) == ["API key"]


def test_tracing_and_aws_own_logs_hold_no_bodies() -> None:
    """Functions, API and workflow are traced by AWS alone, which notes times and names.

    Powertools' Tracer would note every answer and exception, X-Ray's SDK every request: nothing uses them.
    """
    sources = [ROOT / "app.py", ROOT / "requirements.txt", *(ROOT / "chalicelib").rglob("*.py")]
    assert len(sources) > 100
    told = {file.name: file.read_text(encoding="utf-8").replace("xray_trace_id", "") for file in sources}  # an id
    assert not [name for name, text in told.items() if re.search(r"xray|x_ray|\bTracer\b|\btracing\b", text)]
    resources = aws.template()["Resources"]
    for settings in resources["RestAPI"]["Properties"]["MethodSettings"]:
        assert not settings.keys() & {"DataTraceEnabled", "LoggingLevel"}
    workflow = next(one for one in resources.values() if one.get("Type") == "AWS::Serverless::StateMachine")
    assert workflow["Properties"]["Logging"]["IncludeExecutionData"] is False
    environment = aws.template()["Globals"]["Function"]["Environment"]["Variables"]
    assert environment["POWERTOOLS_LOG_LEVEL"] == "INFO"
    assert not environment.keys() & {
        "POWERTOOLS_LOGGER_LOG_EVENT",
        "POWERTOOLS_DEV",
        "POWERTOOLS_TRACER_CAPTURE_RESPONSE",
    }


def test_of_libraries_what_no_stage_shows_is_not_heard() -> None:
    assert hear(lambda logger: logger.debug(API_KEY), name="botocore.endpoint") == []
    assert hear(lambda logger: logger.info(API_KEY), name="botocore.endpoint") == ["API key"]
    assert hear(lambda logger: logger.debug(API_KEY), name="railyard") == ["API key"]


@pytest.mark.parametrize("name", ["", "railyard", "urllib3.connectionpool"])
def test_the_suites_own_ear_is_there_and_fails_the_test(name: str, pytestconfig: pytest.Config) -> None:
    logging.getLogger(name).error("see %s", API_KEY)
    with pytest.raises(Leak, match="API key in the log of"):
        check_log(pytestconfig)
    assert pytestconfig.stash[OVERHEARD].finds == []
