"""Metrics: alarms watch a service as a whole, dashboards look closer; both must find each metric."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chalicelib.observability import metric

if TYPE_CHECKING:
    import pytest


def test_a_metric_counts_for_the_service_and_by_its_dimensions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "railyard-dev")
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "false")
    metric("ProviderMismatch", provider="razorpay")
    line = json.loads(capsys.readouterr().out)
    (definition,) = line["_aws"]["CloudWatchMetrics"]
    assert definition["Dimensions"] == [["service"], ["service", "provider"]]
    assert (line["service"], line["provider"], line["ProviderMismatch"]) == ("railyard-dev", "razorpay", [1.0])


def test_a_metric_without_dimensions_counts_for_the_service_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "railyard-dev")
    monkeypatch.setenv("POWERTOOLS_METRICS_DISABLED", "false")
    metric("OldestUnknownSeconds", 12.5, "Seconds")
    (definition,) = json.loads(capsys.readouterr().out)["_aws"]["CloudWatchMetrics"]
    assert definition["Dimensions"] == [["service"]]
    assert definition["Metrics"] == [{"Name": "OldestUnknownSeconds", "Unit": "Seconds"}]
