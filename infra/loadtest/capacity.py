"""DynamoDB's capacity units, by its published rules, and what a real DynamoDB says to them.

A write costs 1 unit per started KB of the larger of the old and the new item, twice that in a transaction. An
index entry (keys only, so always under 1 KB) costs 1 to put, 1 to remove and 2 when its key changes. A read costs
half a unit per started 4 KB, twice that when it is strongly consistent.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from math import ceil
from typing import TYPE_CHECKING, Any

import boto3

from tests.support import aws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_KB, _READ_KB = 1024, 4096


def table_of(name: str) -> str:
    """``payments`` of ``railyard-local-payments``."""
    return name.rsplit("-", 1)[-1]


def write_units(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, *, transactional: bool) -> int:
    """Write units of the item itself."""
    return ceil(max(item_size(old), item_size(new)) / _KB) * (2 if transactional else 1)


def _size(value: Mapping[str, Any]) -> int:
    """Bytes of one attribute value."""
    ((kind, content),) = value.items()
    text = str(content)
    if kind == "S":
        return len(text.encode())
    if kind == "N":
        digits = text.lstrip("-").replace(".", "").strip("0")
        return ceil(len(digits) / 2) + 1 + text.startswith("-")
    if kind == "B":
        return len(content if isinstance(content, bytes) else b64decode(content))
    return 1


def item_size(item: Mapping[str, Any] | None) -> int:
    """Bytes of an item: names and values."""
    return sum(len(name.encode()) + _size(value) for name, value in (item or {}).items())


def index_units(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, keys: tuple[str, str]) -> int:
    """Write units of one keys-only index when an item changes."""
    before, after = ([(item or {}).get(name) for name in keys] for item in (old, new))
    was, is_in = None not in before, None not in after
    if was and is_in:
        return 2 if before != after else 0
    return int(was or is_in)


def read_units(operation: str, body: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Read units of one request."""
    if operation == "BatchGetItem":
        return sum(_batch_units(wish, answer["Responses"].get(name, ())) for name, wish in body["RequestItems"].items())
    each = 1.0 if body.get("ConsistentRead") else 0.5
    if operation == "Query":
        return each * max(1, ceil(sum(map(item_size, answer["Items"])) / _READ_KB))
    if operation == "GetItem":
        return each * max(1, ceil(item_size(answer.get("Item")) / _READ_KB))
    if operation == "BatchGetItem":  # each key is a read of its own, also one of nothing
        ((name, wanted),) = body["RequestItems"].items()
        found = answer["Responses"].get(name, [])
        rounded = sum(max(1, ceil(item_size(item) / _READ_KB)) for item in found)
        return (1.0 if wanted.get("ConsistentRead") else 0.5) * (rounded + len(wanted["Keys"]) - len(found))
    return 0.0


def _batch_units(wish: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> float:
    """Each item is rounded up by itself, and one that is not there is read all the same."""
    each = 1.0 if wish.get("ConsistentRead") else 0.5
    missing = len(wish["Keys"]) - len(found)
    return each * (missing + sum(max(1, ceil(item_size(item) / _READ_KB)) for item in found))


def consumed(
    endpoint: str, traffic: list[tuple[str, dict[str, Any], dict[str, Any]]]
) -> defaultdict[tuple[str, str], float]:
    """The write units that a DynamoDB says it has used for the writes of ``traffic``; its tables must be new."""
    boto3.setup_default_session()  # one without anybody's hooks
    aws.create_tables(endpoint)
    client = boto3.client("dynamodb", endpoint_url=endpoint)
    send: dict[str, Callable[..., Any]] = {
        "PutItem": client.put_item, "UpdateItem": client.update_item, "TransactWriteItems": client.transact_write_items,
    }  # fmt: skip
    used: defaultdict[tuple[str, str], float] = defaultdict(float)
    for operation, body, _ in traffic:
        if operation not in send:
            continue
        wish = {name: value for name, value in _with_bytes(body).items() if not name.startswith("Return")}
        wish.pop("ClientRequestToken", None)
        answer = send[operation](**wish, ReturnConsumedCapacity="INDEXES")
        capacities = answer["ConsumedCapacity"]
        for capacity in capacities if isinstance(capacities, list) else [capacities]:
            table = table_of(capacity["TableName"])
            indexes = sum(index["CapacityUnits"] for index in capacity.get("GlobalSecondaryIndexes", {}).values())
            used[table, "indexes"] += indexes
            used[table, "items"] += capacity["CapacityUnits"] - indexes
    return used


def _with_bytes(value: Any) -> Any:
    """Binary values as boto3 wants them."""
    if isinstance(value, dict):
        if set(value) == {"B"}:
            return {"B": b64decode(value["B"])}
        return {name: _with_bytes(inner) for name, inner in value.items()}
    return [_with_bytes(inner) for inner in value] if isinstance(value, list) else value
