"""The stage's tables, made in moto from infra/resources.yaml itself."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import yaml

TEMPLATE = Path(__file__).parents[2] / "infra" / "resources.yaml"
REGION = "ap-south-1"
PREFIX = "railyard-local"
KEY_ALIAS = "alias/railyard-local-credentials"

ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "POWERTOOLS_TRACE_DISABLED": "1",
    "POWERTOOLS_LOG_LEVEL": "ERROR",
    "POWERTOOLS_METRICS_DISABLED": "true",
    "RAILYARD_STAGE": "local",
    "RAILYARD_PREFIX": PREFIX,
    "PAYMENT_STATE_MACHINE_ARN": f"arn:aws:states:{REGION}:123456789012:stateMachine:{PREFIX}-payment",
    "OPERATIONS_QUEUE_URL": "https://queue.test/operations",
    "PROVIDER_EVENTS_QUEUE_URL": "https://queue.test/provider-events",
    "NOTIFICATIONS_QUEUE_URL": "https://queue.test/notifications",
    "DELIVERIES_QUEUE_URL": "https://queue.test/deliveries",
    "PROJECTIONS_QUEUE_URL": "https://queue.test/projections",
    "CREDENTIALS_KEY_ID": KEY_ALIAS,
    "PUBLIC_BASE_URL": "http://127.0.0.1:8000",
}


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short intrinsics as plain values: names are all we need."""


def _intrinsic(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return str(loader.construct_scalar(node)).replace("${Stage}", "local")
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _intrinsic)


@lru_cache(maxsize=1)
def template() -> dict[str, Any]:
    """infra/resources.yaml with the intrinsics flattened."""
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return loaded


def set_environment() -> None:
    """The environment every function has, pointed at nothing real."""
    os.environ.update(ENVIRONMENT)  # noqa: TID251 - it is written here, and read where it should be
    os.environ.pop("AWS_ENDPOINT_URL", None)  # noqa: TID251


def table_definitions() -> list[dict[str, Any]]:
    """The properties of every table of the template."""
    resources = template()["Resources"].values()
    return [resource["Properties"] for resource in resources if resource.get("Type") == "AWS::DynamoDB::Table"]


def create_tables(endpoint_url: str | None = None) -> None:
    """Make every table of the template in the current (mock) account, or at ``endpoint_url``."""
    client = boto3.client("dynamodb", endpoint_url=endpoint_url)
    for properties in table_definitions():
        client.create_table(
            TableName=properties["TableName"],
            KeySchema=properties["KeySchema"],
            AttributeDefinitions=properties["AttributeDefinitions"],
            BillingMode="PAY_PER_REQUEST",
            **{name: properties[name] for name in ("GlobalSecondaryIndexes",) if name in properties},
        )


def create_key() -> None:
    """Make the credentials key."""
    client = boto3.client("kms")
    key = client.create_key()["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName=KEY_ALIAS, TargetKeyId=key)
