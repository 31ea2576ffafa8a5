"""Settings: complete for every stage, documented to the value, and consistent with the functions' time-outs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from chalicelib import config, wiring
from chalicelib.config import Settings, SettingsError, Stage
from chalicelib.domain.retrying import LONGEST_WAIT, MAX_SECONDS
from chalicelib.providers import registry
from tests.support import aws
from tests.support.asl import payment_definition

ROOT = Path(__file__).parents[2]
STAGES: tuple[Stage, ...] = get_args(Stage)
DOCUMENT = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
FUNCTIONS = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))["stages"]
WORKFLOW_SECONDS = 600.0
UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def settings(stage: str, **environ: str) -> Settings:
    return config.load(aws.ENVIRONMENT | {"RAILYARD_STAGE": stage} | environ)


class Recorder(dict[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__(aws.ENVIRONMENT)
        self.asked: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.append(name)
        return super().get(name, default)


OPTIONAL = {"PROVIDER_BASE_URLS"}


def read_names() -> list[str]:
    recorder = Recorder()
    config.load(recorder)
    return recorder.asked


# -- loading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_complete_profile_of_the_declared_types(stage: Stage) -> None:
    loaded = settings(stage)
    types = get_type_hints(Settings)
    assert loaded.stage == stage
    for field in dataclasses.fields(Settings):
        value, declared = getattr(loaded, field.name), types[field.name]
        if get_origin(declared) is tuple:
            assert isinstance(value, tuple)
            assert value
            assert all(type(wait) is float for wait in value), field.name
        elif declared in (int, float, str):
            assert type(value) is declared, field.name


def test_profiles_name_settings_that_exist_and_only_those() -> None:
    from_environment = {"stage", "prefix", "state_machine_arn", "credentials_key_id", "public_base_url"}
    from_environment |= {"provider_base_urls"}
    from_environment |= {field.name for field in dataclasses.fields(Settings) if field.name.endswith("_queue_url")}
    names = {field.name for field in dataclasses.fields(Settings)} - from_environment
    for stage in STAGES:
        assert set(config._PROFILES[stage]) == names


@pytest.mark.parametrize("name", [name for name in read_names() if name not in OPTIONAL])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_stops_with_its_name(name: str, value: str | None) -> None:
    environ = {key: text for key, text in aws.ENVIRONMENT.items() if key != name} | (
        {name: value} if value is not None else {}
    )
    with pytest.raises(SettingsError, match=rf"\b{name}\b"):
        config.load(environ)


def test_an_unknown_stage_stops_and_says_which_there_are() -> None:
    with pytest.raises(SettingsError, match=r"production.*local, localstack, dev, prod"):
        settings("production")


def test_the_public_address_has_no_slash_at_its_end() -> None:
    assert settings("local", PUBLIC_BASE_URL="https://pay.example/").public_base_url == "https://pay.example"


@pytest.mark.parametrize("text", ["x", "[]", '"http://x"', '{"razorpay": 1}', '{"razorpay": "file:///etc"}', "{"])
def test_provider_addresses_must_be_urls(text: str) -> None:
    with pytest.raises(SettingsError, match="PROVIDER_BASE_URLS"):
        settings("local", PROVIDER_BASE_URLS=text)


@pytest.mark.parametrize("stage", STAGES)
def test_only_a_stage_with_a_sandbox_bank_sends_providers_requests_elsewhere(stage: Stage) -> None:
    elsewhere = '{"razorpay": "http://127.0.0.1:8102/v1"}'
    for nothing in ("", "{}"):
        assert settings(stage, PROVIDER_BASE_URLS=nothing).provider_base_urls == {}
    if stage in ("local", "localstack"):
        assert settings(stage, PROVIDER_BASE_URLS=elsewhere).provider_base_urls == json.loads(elsewhere)
    else:
        with pytest.raises(SettingsError, match=f"PROVIDER_BASE_URLS must be empty in stage {stage}"):
            settings(stage, PROVIDER_BASE_URLS=elsewhere)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings("local").lease = 1.0  # type: ignore[misc]


# -- consistency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_wait_is_a_time_and_schedules_do_not_shrink(stage: Stage) -> None:
    loaded = settings(stage)
    for field in dataclasses.fields(Settings):
        value = getattr(loaded, field.name)
        if isinstance(value, float | int):
            assert value >= 0, field.name
        if isinstance(value, tuple):
            assert list(value) == sorted(value), field.name
            assert min(value) >= 0


@pytest.mark.parametrize("stage", STAGES)
def test_the_workflow_resolves_for_at_most_ten_minutes(stage: Stage) -> None:
    waits = settings(stage).resolve_waits
    assert sum(waits) <= WORKFLOW_SECONDS
    assert max(waits) <= WORKFLOW_SECONDS


@pytest.mark.parametrize("stage", STAGES)
def test_the_whole_workflow_fits_its_own_time_out(stage: Stage) -> None:
    loaded = settings(stage)
    # Attempts begin within an hour of the first; each resolve may wait as long as the longest of them.
    waits = len(loaded.resolve_waits) * max(loaded.resolve_waits)
    longest = 2 * loaded.call_lease + MAX_SECONDS + LONGEST_WAIT + waits + len(loaded.resolve_waits) * loaded.call_lease
    assert longest < payment_definition()["TimeoutSeconds"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("function", ["attempt", "resolve", "operate"])
def test_a_calls_deadline_is_not_before_its_function_has_ended(stage: Stage, function: str) -> None:
    # Who finds an attempt or operation past its deadline may ask the provider: by then the first caller is gone.
    timeout = FUNCTIONS[stage]["lambda_functions"][function]["lambda_timeout"]
    assert timeout <= wiring.timing(settings(stage)).call


@pytest.mark.parametrize("stage", STAGES)
def test_a_calls_deadline_is_not_before_its_time_outs_add_up(stage: Stage) -> None:
    # The sweeper's function runs longer than one call: there the client's own time-outs are the bound.
    # An adapter makes at most two requests, each waits for a free connection, then connects, then reads.
    loaded = settings(stage)
    assert 2 * (2 * loaded.connect_timeout + loaded.read_timeout) <= loaded.call_lease


@pytest.mark.parametrize("stage", STAGES)
def test_a_lease_outlasts_the_next_planned_step(stage: Stage) -> None:
    loaded = settings(stage)
    assert loaded.lease >= loaded.retry_backoff_cap
    assert loaded.idempotency_ttl >= 86_400.0  # promised: at least a day
    assert loaded.payment_ttl > loaded.call_lease + sum(loaded.resolve_waits[:1])
    assert loaded.order_ttl >= loaded.payment_ttl


@pytest.mark.parametrize("stage", STAGES)
def test_an_old_webhook_secret_outlives_every_cache_and_on_aws_what_stripe_repeats(stage: Stage) -> None:
    loaded = settings(stage)
    assert loaded.rotation_overlap > loaded.cache_ttl
    if stage in ("dev", "prod"):
        assert loaded.rotation_overlap > 3 * 86_400.0


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_delivery_goes_at_once_and_the_api_answers_before_the_gateway_gives_up(stage: Stage) -> None:
    loaded = settings(stage)
    assert loaded.delivery_waits[0] == 0
    assert loaded.max_wait <= 20
    assert loaded.max_wait < FUNCTIONS[stage]["lambda_functions"]["api_handler"]["lambda_timeout"] <= 29


@pytest.mark.parametrize("stage", STAGES)
def test_one_run_of_the_sweeper_ends_before_the_next_but_one_and_before_its_time_out(stage: Stage) -> None:
    loaded = settings(stage)
    assert loaded.sweep_passes >= 1
    assert (loaded.sweep_passes - 1) * loaded.sweep_pause < FUNCTIONS[stage]["lambda_functions"]["sweep"][
        "lambda_timeout"
    ]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", registry.NAMES)
def test_not_found_can_become_definite_before_a_person_is_asked(stage: Stage, name: str) -> None:
    # Two reads past deadline and settle window must fit the schedule, or nothing unsent is ever known to be.
    timing = wiring.timing(settings(stage))
    window = registry.build(name, http=None).capabilities.settle_window  # type: ignore[arg-type]
    moments, at = [], 0.0
    for wait in (*timing.resolve, *timing.sweep):
        at = max(at + wait, timing.call)
        moments.append(at)
    assert sum(moment >= timing.call + window for moment in moments) >= 2


# -- the document ------------------------------------------------------------------------------------


def rows(columns: int) -> list[list[str]]:
    """The rows of the document's tables that have so many columns and a name in the first."""
    lines = [line.strip().strip("|").split("|") for line in DOCUMENT.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in cells] for cells in lines if len(cells) == columns]


def names_in(cells: list[str]) -> list[str]:
    return re.findall(r"`(\w+)`", cells[0])


def values(cell: str) -> list[float]:
    """The numbers in a cell, in seconds where they have a unit."""
    found = []
    for text in cell.split(","):
        number, _, unit = text.strip().partition(" ")
        found.append(float(number) * UNITS[unit] if unit else float(number))
    return found


def test_every_variable_of_the_functions_is_documented_and_no_other() -> None:
    documented = [name for cells in rows(2) for name in names_in(cells)]
    declared = aws.template()["Globals"]["Function"]["Environment"]["Variables"]
    assert sorted(documented) == sorted(declared)
    assert set(read_names()) <= set(documented)


def test_every_setting_is_documented_with_the_value_of_every_stage() -> None:
    documented = {names_in(cells)[0]: cells[1:3] for cells in rows(4)}
    assert list(documented) == list(config._PROFILES["prod"])
    for name, (quick, slow) in documented.items():
        for stage in STAGES:
            value = getattr(settings(stage), name)
            shown = values(quick if stage in ("local", "localstack") else slow)
            assert shown == list(value if isinstance(value, tuple) else [value]), (stage, name)


def test_every_setting_says_what_it_means() -> None:
    for cells in [*rows(2), *rows(3), *rows(4)]:
        assert len(cells[-1].split()) >= 4, cells[0]


def test_every_variable_of_the_programs_is_documented_and_no_other() -> None:
    source = (ROOT / "infra" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'os\.environ\.get\("(\w+)"', source))
    assert {name for cells in rows(3) for name in names_in(cells)} == read


def test_nothing_else_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("chalicelib", "infra")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ|os\.getenv|from os import.*(environ|getenv)", path.read_text(encoding="utf-8"))
    }
    assert readers == {"chalicelib/config.py", "infra/settings.py"}
