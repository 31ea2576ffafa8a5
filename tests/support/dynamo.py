"""DynamoDB in memory: the operations and expressions that Railyard sends, answered as AWS answers them.

A fault run makes some fifty calls and there are thousands of runs; moto takes milliseconds a call,
this takes microseconds. It is held to the real thing by tests/contract/test_dynamo_memory.py, which
plays the traffic of whole scenarios to moto and to the emulator and compares every answer. What it
does not know it refuses loudly.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Item = dict[str, dict[str, Any]]  # attribute → {type: value}, as on the wire
_Names = "Mapping[str, str]"
_Values = "Mapping[str, dict[str, Any]]"

_TOKEN = re.compile(r"\s*([#:]?\w+|<=|>=|<>|[=<>(),+-])")
_MAX_TRANSACTION = 100
_MAX_BATCH = 100


class UnknownExpression(Exception):
    """The expression uses something this DynamoDB does not know."""


class Refused(Exception):
    """An error answer; ``reasons`` are the codes of a canceled transaction."""

    def __init__(self, code: str, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.reasons = reasons


class Write(NamedTuple):
    """One item that was written; ``old`` is None for a new one, ``new`` for a deleted one."""

    table: str
    old: Item | None
    new: Item | None


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index with keys only."""

    hash_key: str
    range_key: str


@dataclass(slots=True)
class Table:
    """One table: partitions of items by sort key."""

    hash_key: str
    range_key: str
    types: Mapping[str, str]  # of every key attribute
    indexes: Mapping[str, Index]
    partitions: dict[str, dict[str, Item]] = field(default_factory=dict)

    def get(self, key: Item) -> Item | None:
        """The item of that key."""
        return self.partitions.get(_text(key, self.hash_key), {}).get(_text(key, self.range_key))

    def put(self, item: Item) -> None:
        """Write an item, whose key attributes must have the declared types."""
        for name, wanted in self.types.items():
            if name in item and wanted not in item[name]:
                raise Refused("ValidationException", f"Type mismatch for key {name}: expected {wanted}")
        for name in (self.hash_key, self.range_key):
            if name not in item or not item[name].get(self.types[name]):
                raise Refused("ValidationException", f"Missing the key {name} in the item")
        self.partitions.setdefault(_text(item, self.hash_key), {})[_text(item, self.range_key)] = item

    def items(self) -> Iterable[Item]:
        """All items."""
        for partition in self.partitions.values():
            yield from partition.values()

    def key_of(self, item: Item) -> Item:
        """The key attributes of an item."""
        return {name: item[name] for name in (self.hash_key, self.range_key)}


class Dynamo:
    """The tables of one stage."""

    def __init__(self, definitions: Iterable[Mapping[str, Any]]) -> None:
        """``definitions`` are the properties of AWS::DynamoDB::Table resources."""
        self.tables: dict[str, Table] = {}
        self.log: list[Write] = []
        self.overlook: Callable[[Mapping[str, Any]], bool] = lambda _: False  # conditions that a mutant drops
        for properties in definitions:
            hash_key, range_key = (key["AttributeName"] for key in properties["KeySchema"])
            indexes = {}
            for index in properties.get("GlobalSecondaryIndexes", ()):
                assert index["Projection"]["ProjectionType"] == "KEYS_ONLY", index
                indexes[index["IndexName"]] = Index(*(key["AttributeName"] for key in index["KeySchema"]))
            types = {a["AttributeName"]: a["AttributeType"] for a in properties["AttributeDefinitions"]}
            self.tables[properties["TableName"]] = Table(hash_key, range_key, types, indexes)

    def call(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request (its JSON body) as botocore would parse the answer; raises Refused."""
        handler = getattr(self, f"_{_snake(operation)}", None)
        if handler is None:
            raise UnknownExpression(operation)
        answer: dict[str, Any] = handler(body)
        return answer

    # -- reads -----------------------------------------------------------------------------------

    def _get_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        item = self.tables[body["TableName"]].get(body["Key"])
        return {} if item is None else {"Item": _shown(item)}

    def _batch_get_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, list[Item]] = {}
        for name, wanted in body["RequestItems"].items():
            keys = [tuple(sorted((k, str(v)) for k, v in key.items())) for key in wanted["Keys"]]
            if len(keys) > _MAX_BATCH or len(set(keys)) != len(keys):
                raise Refused("ValidationException", "Too many items requested, or one twice")
            items = (self.tables[name].get(key) for key in wanted["Keys"])
            found[name] = [_shown(item) for item in items if item is not None]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _query(self, body: Mapping[str, Any]) -> dict[str, Any]:
        table = self.tables[body["TableName"]]
        names, values = body.get("ExpressionAttributeNames", {}), body.get("ExpressionAttributeValues", {})
        expression = body["KeyConditionExpression"]
        matches = condition(expression)
        index = table.indexes[body["IndexName"]] if "IndexName" in body else None
        if index is None:
            found = re.match(r"\(?\s*(#\w+) = (:\w+)", expression)
            if found is None or names[found[1]] != table.hash_key:
                raise UnknownExpression(expression)
            candidates: Iterable[Item] = table.partitions.get(values[found[2]]["S"], {}).values()
            order: tuple[str, ...] = (table.range_key,)
        else:
            candidates = (item for item in table.items() if index.hash_key in item and index.range_key in item)
            order = (index.range_key, table.hash_key, table.range_key)
        rows = [item for item in candidates if matches(item, names, values)]
        forward = body.get("ScanIndexForward", True)

        def position(item: Item) -> tuple[Any, ...]:
            return tuple(_comparable(item[name]) for name in order)

        rows.sort(key=position, reverse=not forward)
        start = body.get("ExclusiveStartKey")
        if start is not None:
            after = position(start)
            rows = [row for row in rows if (position(row) > after if forward else position(row) < after)]
        limit = body.get("Limit")
        answer: dict[str, Any] = {}
        if limit is not None and len(rows) >= limit:
            rows = rows[:limit]
            last = rows[-1]
            answer["LastEvaluatedKey"] = table.key_of(last) | (
                {name: last[name] for name in (index.hash_key, index.range_key)} if index else {}
            )
        scanned = len(rows)
        if index is not None:
            kept = {table.hash_key, table.range_key, index.hash_key, index.range_key}
            rows = [{name: value for name, value in row.items() if name in kept} for row in rows]
        if "FilterExpression" in body:
            keep = condition(body["FilterExpression"])
            rows = [row for row in rows if keep(row, names, values)]
        return answer | {"Items": [_shown(row) for row in rows], "Count": len(rows), "ScannedCount": scanned}

    # -- writes ----------------------------------------------------------------------------------

    def _put_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._write([self._put(body)])
        return {}

    def _update_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        write = self._update(body)
        self._write([write])
        assert write.new is not None
        return {"Attributes": _shown(write.new)} if body.get("ReturnValues") == "ALL_NEW" else {}

    def _delete_item(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._write([self._delete(body)])
        return {}

    def _transact_write_items(self, body: Mapping[str, Any]) -> dict[str, Any]:
        actions = [(kind, action) for entry in body["TransactItems"] for kind, action in entry.items()]
        if len(actions) > _MAX_TRANSACTION:
            raise Refused("ValidationException", "Member must have length less than or equal to 100")
        seen = set()
        writes, reasons = [], []
        for kind, action in actions:
            table = self.tables[action["TableName"]]
            key = (action["TableName"], str(table.key_of(action.get("Item") or action["Key"])))
            if key in seen:
                raise Refused(
                    "ValidationException", "Transaction request cannot include multiple operations on one item"
                )
            seen.add(key)
            try:
                writes.append(getattr(self, f"_{_snake(kind)}")(action))
                reasons.append("None")
            except Refused as refused:
                reasons.append(refused.code.removesuffix("Exception"))
        if any(reason != "None" for reason in reasons):
            message = "Transaction cancelled, please refer cancellation reasons for specific reasons"
            raise Refused("TransactionCanceledException", f"{message} [{', '.join(reasons)}]", reasons)
        self._write([write for write in writes if write is not None])
        return {}

    def _write(self, writes: Sequence[Write]) -> None:
        for write in writes:
            table = self.tables[write.table]
            if write.new is not None:
                table.put(write.new)
            elif write.old is not None:
                partition = table.partitions[_text(write.old, table.hash_key)]
                del partition[_text(write.old, table.range_key)]
        self.log += writes

    def _put(self, action: Mapping[str, Any]) -> Write:
        old = self.tables[action["TableName"]].get(action["Item"])
        self._check(action, old)
        return Write(action["TableName"], old, action["Item"])

    def _update(self, action: Mapping[str, Any]) -> Write:
        old = self.tables[action["TableName"]].get(action["Key"])
        self._check(action, old)
        change = update(action["UpdateExpression"])
        new = change(
            old or action["Key"],
            action.get("ExpressionAttributeNames", {}),
            action.get("ExpressionAttributeValues", {}),
        )
        return Write(action["TableName"], old, new)

    def _delete(self, action: Mapping[str, Any]) -> Write:
        old = self.tables[action["TableName"]].get(action["Key"])
        self._check(action, old)
        return Write(action["TableName"], old, None)

    def _condition_check(self, action: Mapping[str, Any]) -> None:
        self._check(action, self.tables[action["TableName"]].get(action["Key"]))

    def _check(self, action: Mapping[str, Any], old: Item | None) -> None:
        expression = action.get("ConditionExpression")
        if expression is None or self.overlook(action):
            return
        holds = condition(expression)
        names, values = action.get("ExpressionAttributeNames", {}), action.get("ExpressionAttributeValues", {})
        if not holds(old or {}, names, values):
            raise Refused("ConditionalCheckFailedException", "The conditional request failed")


# -- values ----------------------------------------------------------------------------------------


def _text(item: Item, name: str) -> str:
    value: str = item[name]["S"]
    return value


def _comparable(value: Mapping[str, Any]) -> tuple[str, Any]:
    ((kind, content),) = value.items()
    return kind, Decimal(content) if kind == "N" else content


def _shown(item: Item) -> Item:
    """As botocore parses an answer: binary as bytes, everything else as on the wire."""
    return {name: {"B": b64decode(value["B"])} if "B" in value else value for name, value in item.items()}


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


# -- expressions -----------------------------------------------------------------------------------


class _Parser:
    """Recursive descent over one expression; every method returns a function of item, names, values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _TOKEN.findall(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if wanted and token.upper() not in wanted:
            raise UnknownExpression(f"{token!r} in {self.text!r}")
        self.at += 1
        return token

    def listed(self, part: Callable[[], Any]) -> list[Any]:
        parts = [part()]
        while self.peek() == ",":
            self.take()
            parts.append(part())
        return parts

    # conditions

    def either(self) -> Any:
        parts = [self.both()]
        while self.peek().upper() == "OR":
            self.take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda i, n, v: any(part(i, n, v) for part in parts)

    def both(self) -> Any:
        parts = [self.negated()]
        while self.peek().upper() == "AND":
            self.take()
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else lambda i, n, v: all(part(i, n, v) for part in parts)

    def negated(self) -> Any:
        if self.peek().upper() != "NOT":
            return self.single()
        self.take()
        inner = self.negated()
        return lambda i, n, v: not inner(i, n, v)

    def single(self) -> Any:
        if self.peek() == "(":
            self.take()
            inner = self.either()
            self.take(")")
            return inner
        if self.peek() in _FUNCTIONS:
            name = self.take()
            self.take("(")
            arguments = self.listed(self.operand)
            self.take(")")
            function = _FUNCTIONS[name]
            return lambda i, n, v: function(*(argument(i, n, v) for argument in arguments))
        left = self.operand()
        operator = self.take().upper()
        if operator == "BETWEEN":
            low = self.operand()
            self.take("AND")
            high = self.operand()
            return lambda i, n, v: (
                _compare(low(i, n, v), left(i, n, v), "<=") and _compare(left(i, n, v), high(i, n, v), "<=")
            )
        if operator == "IN":
            self.take("(")
            choices = self.listed(self.operand)
            self.take(")")
            return lambda i, n, v: any(_compare(left(i, n, v), choice(i, n, v), "=") for choice in choices)
        if operator not in _COMPARISONS:
            raise UnknownExpression(f"{operator!r} in {self.text!r}")
        right = self.operand()
        return lambda i, n, v: _compare(left(i, n, v), right(i, n, v), operator)

    def operand(self) -> Any:
        token = self.take()
        if token.startswith(":"):
            return lambda _i, _n, v: v[token]
        if token == "if_not_exists":
            self.take("(")
            first, second = self.listed(self.operand)
            self.take(")")
            return lambda i, n, v: first(i, n, v) or second(i, n, v)
        return lambda i, n, _v: i.get(n[token] if token.startswith("#") else token)

    # updates

    def changes(self) -> Any:
        steps: list[Any] = []
        while self.peek():
            clause = self.take("SET", "REMOVE", "ADD").upper()
            steps += self.listed({"SET": self.set_one, "REMOVE": self.remove_one, "ADD": self.add_one}[clause])

        def change(item: Item, names: Any, values: Any) -> Item:
            new = dict(item)
            for step in steps:
                step(new, item, names, values)
            return new

        return change

    def set_one(self) -> Any:
        target = self.take()
        self.take("=")
        value = self.operand()
        if self.peek() in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            other = self.operand()

            def calculated(i: Any, n: Any, v: Any) -> Any:
                return {"N": str(Decimal(value(i, n, v)["N"]) + sign * Decimal(other(i, n, v)["N"]))}

            return lambda new, i, n, v: new.__setitem__(n.get(target, target), calculated(i, n, v))
        return lambda new, i, n, v: new.__setitem__(n.get(target, target), value(i, n, v))

    def remove_one(self) -> Any:
        target = self.take()
        return lambda new, _i, n, _v: new.pop(n.get(target, target), None)

    def add_one(self) -> Any:
        target, amount = self.take(), self.operand()

        def add(new: Any, i: Any, n: Any, v: Any) -> None:
            name = n.get(target, target)
            before = Decimal(i[name]["N"]) if name in i else Decimal(0)
            new[name] = {"N": str(before + Decimal(amount(i, n, v)["N"]))}

        return add


def _compare(left: Mapping[str, Any] | None, right: Mapping[str, Any] | None, operator: str) -> bool:
    if left is None or right is None:
        return False
    (one, first), (other, second) = _comparable(left), _comparable(right)
    if one != other:
        return operator == "<>"
    return bool(_COMPARISONS[operator](first, second))


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS: dict[str, Callable[..., bool]] = {
    "attribute_exists": lambda value: value is not None,
    "attribute_not_exists": lambda value: value is None,
    "begins_with": lambda value, prefix: value is not None and value.get("S", "").startswith(prefix["S"]),
    "contains": lambda value, part: value is not None and part["S"] in value.get("S", ""),
}


@lru_cache(maxsize=512)
def condition(text: str) -> Callable[[Item, Any, Any], bool]:
    """A condition, key or filter expression as a function of item, names and values."""
    parser = _Parser(text)
    compiled: Callable[[Item, Any, Any], bool] = parser.either()
    if parser.peek():
        raise UnknownExpression(f"{parser.peek()!r} in {text!r}")
    return compiled


@lru_cache(maxsize=512)
def update(text: str) -> Callable[[Item, Any, Any], Item]:
    """An update expression as a function from the old item to the new one."""
    compiled: Callable[[Item, Any, Any], Item] = _Parser(text).changes()
    return compiled
