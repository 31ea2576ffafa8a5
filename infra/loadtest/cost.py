"""What a simple payment and an idle month cost on AWS at list price, computed from measured counts.

    python -m infra.loadtest.cost [payments]

Counts (requests, units, messages, transitions, log bytes, CPU, alarms, queues) come from per_payment.py and from
infra/resources.yaml. Prices are those of US East (N. Virginia) in US dollars without any free tier. What cannot be
measured without AWS is assumed, and named in ASSUMED.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from infra.loadtest.per_payment import VARIANTS, Bench, Tally
from infra.settings import ROOT
from tests.support.aws import template

_MILLION, _GB, _MONTH_MINUTES = 1e6, 1e9, 60 * 24 * 30
PRICE = {
    "API Gateway REST request": 3.50 / _MILLION,
    "Lambda request": 0.20 / _MILLION,
    "Lambda GB-second, arm64": 0.0000133334,
    "DynamoDB write unit": 0.625 / _MILLION,
    "DynamoDB read unit": 0.125 / _MILLION,
    "SQS request": 0.40 / _MILLION,
    "Step Functions transition": 25.0 / _MILLION,
    "CloudWatch Logs GB": 0.50,
    "X-Ray trace": 5.0 / _MILLION,
    "metric, month": 0.30,
    "alarm metric, month": 0.10,
    "dashboard, month": 3.0,
    "KMS key, month": 1.0,
    "EventBridge event": 1.0 / _MILLION,
}
ASSUMED = {
    "seconds of an AWS call": 0.010,
    "seconds of a provider's answer": 0.300,
    "seconds of a merchant's answer": 0.200,
    "MB of memory that buy one processor": 1769,
    "bytes Lambda logs of each invocation": 350,
    "transitions of an execution besides its states (start and end)": 2,
    "traces of a payment: one for each invocation, all sampled": 1,
    "pollers of an idle queue": 5,
    "polls of a poller a minute (20 s each)": 3,
}
_LAMBDA_BYTES = ASSUMED["bytes Lambda logs of each invocation"]


def _memory(function: str) -> int:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    functions = config["stages"]["prod"]["lambda_functions"]
    return int(functions["api_handler" if function == "api" else function]["lambda_memory_size"])


def _seconds(tally: Tally, function: str, count: int) -> float:
    """How long the invocations of a function take on AWS: its CPU at its share of a processor, and its waiting."""
    waits = {"provider": "seconds of a provider's answer", "merchant": "seconds of a merchant's answer"}
    waiting = sum(
        number * ASSUMED[waits.get(call.split()[0], "seconds of an AWS call")]
        for (who, call), number in tally.calls.items()
        if who == function
    )
    slower = ASSUMED["MB of memory that buy one processor"] / _memory(function)
    return (tally.cpu[function] * slower + waiting) / count


def payment(tally: Tally, count: int) -> dict[str, float]:
    """Dollars of one payment, by service."""
    invocations = sum(tally.invocations.values()) / count
    gb_seconds = sum(_seconds(tally, name, count) * _memory(name) / 1024 for name in tally.invocations)
    sends = sum(number for (_, call), number in tally.calls.items() if call.startswith("sqs")) / count
    received = sum(tally.messages.values()) / count
    transitions = tally.transitions / count + ASSUMED["transitions of an execution besides its states (start and end)"]
    logged = sum(tally.logged.values()) / count + invocations * _LAMBDA_BYTES
    return {
        "API Gateway": tally.invocations["api"] / count * PRICE["API Gateway REST request"],
        "Lambda requests": invocations * PRICE["Lambda request"],
        "Lambda duration": gb_seconds * PRICE["Lambda GB-second, arm64"],
        "DynamoDB writes": sum(tally.writes.values()) / count * PRICE["DynamoDB write unit"],
        "DynamoDB reads": sum(tally.reads.values()) / count * PRICE["DynamoDB read unit"],
        "SQS": (sends + 2 * received) * PRICE["SQS request"],  # each message is received and deleted by itself
        "Step Functions": transitions * PRICE["Step Functions transition"],
        "CloudWatch Logs": logged / _GB * PRICE["CloudWatch Logs GB"],
        "X-Ray": invocations * PRICE["X-Ray trace"],
    }


def _of_type(kind: str) -> list[dict[str, Any]]:
    rows = template()["Resources"].values()
    return [row.get("Properties", {}) for row in rows if row.get("Type") == f"AWS::{kind}"]


def idle(sweep: Tally) -> dict[str, float]:
    """Dollars of a month without a payment, by reason."""
    alarms = _of_type("CloudWatch::Alarm")
    alarmed = sum(max(1, sum("MetricStat" in metric for metric in alarm.get("Metrics", ()))) for alarm in alarms)
    queues = sum(not row["QueueName"].endswith("-dlq") for row in _of_type("SQS::Queue"))
    polls = queues * ASSUMED["pollers of an idle queue"] * ASSUMED["polls of a poller a minute (20 s each)"]
    gb_seconds = _seconds(sweep, "sweep", 1) * _memory("sweep") / 1024
    logged = sum(sweep.logged.values()) + _LAMBDA_BYTES
    minutely = {
        f"polling of {queues} queues": polls * PRICE["SQS request"],
        "the schedules' events": len(_of_type("Events::Rule")) * PRICE["EventBridge event"],
        "sweep: requests and duration": PRICE["Lambda request"] + gb_seconds * PRICE["Lambda GB-second, arm64"],
        "sweep: reads of the due indexes": sum(sweep.reads.values()) * PRICE["DynamoDB read unit"],
        "sweep: logs": logged / _GB * PRICE["CloudWatch Logs GB"],
        "sweep: traces": PRICE["X-Ray trace"],
        # Not measured: one query that finds nobody, in no more time and log than a sweep's eight.
        "watch: at most": PRICE["Lambda request"]
        + gb_seconds * PRICE["Lambda GB-second, arm64"]
        + 0.5 * PRICE["DynamoDB read unit"]
        + logged / _GB * PRICE["CloudWatch Logs GB"]
        + PRICE["X-Ray trace"],
    }
    return {
        f"{len(alarms)} alarms on {alarmed} metrics": alarmed * PRICE["alarm metric, month"],
        "dashboard": len(_of_type("CloudWatch::Dashboard")) * PRICE["dashboard, month"],
        "KMS key": len(_of_type("KMS::Key")) * PRICE["KMS key, month"],
    } | {name: cost * _MONTH_MINUTES for name, cost in minutely.items()}


def series(emitted: list[str]) -> set[tuple[str, ...]]:
    """The custom metrics, each with one set of dimensions, that EMF lines make."""
    found: set[tuple[str, ...]] = set()
    for text in emitted:
        line = json.loads(text)
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                values = tuple(f"{name}={line[name]}" for name in names)
                found |= {(metric["Name"], *values) for metric in directive["Metrics"]}
    return found


def _show(title: str, costs: dict[str, float], digits: int) -> None:
    print(f"\n{title}")
    for name, cost in costs.items():
        print(f"  {name:40} {cost:.{digits}f}")
    print(f"  {'together':40} {sum(costs.values()):.{digits}f}")


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    bench = Bench()
    with bench:
        minute = bench.idle_minute()
        tally, _ = bench.measure(VARIANTS[0], count)
        metrics = series(bench.emitted)
    costs = payment(tally, count)
    _show("a simple payment, US dollars", costs, 8)
    print(
        f"  without X-Ray, which samples less from one request a second on: {sum(costs.values()) - costs['X-Ray']:.8f}"
    )
    _show("an idle month of 30 days, US dollars", idle(minute), 3)
    metric_cost = len(metrics) * PRICE["metric, month"]
    print(f"\ncustom metrics that such payments emit: {len(metrics)}, at most {metric_cost:.2f} a month (by the hour)")


if __name__ == "__main__":
    main()
