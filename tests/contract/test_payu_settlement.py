"""What only PayU's format can get wrong: the settlement report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from chalicelib.domain.outcome import SettlementLine, Unknown
from chalicelib.providers import payu_wire
from chalicelib.providers.http import UnknownError
from chalicelib.providers.payu import PayuProvider
from tests.contract.payu_script import ACCOUNT, DAY, MADE, PAYUID, REFUND, TXNID, Script

if TYPE_CHECKING:
    from collections.abc import Mapping


SETTLED = {
    "payuid": PAYUID, "txnid": TXNID, "txndate": "2027-01-15 13:30:00", "mode": "UPI", "amount": "11979.88",
    "requestid": "9586840660", "requestdate": "2027-01-15 13:31:00", "requestaction": "capture",
    "requestamount": "11979.88", "mer_utr": "N223211598444659", "mer_service_fee": "239.6000",
    "mer_service_tax": "43.1300", "mer_net_amount": "11697.1500", "token": "",
}  # fmt: skip


def settlement(*answers: object) -> object:
    return PayuProvider(Script(get_settlement_details=list(answers))).settlement_lines(ACCOUNT, DAY)


def report(*rows: Mapping[str, object]) -> dict[str, object]:
    return {"status": 1, "msg": "…", "Txn_details": {str(number): row for number, row in enumerate(rows, 1)}}


def test_a_settlement_line_is_exact() -> None:
    refunded = {
        **SETTLED, "requestaction": "refund", "requestid": "10241480197", "requestamount": "500.00",
        "mer_service_fee": "0.0000", "mer_service_tax": None, "mer_net_amount": "-500.0000",
        "token": payu_wire.token(REFUND, "refund"),
    }  # fmt: skip
    chargeback = {**SETTLED, "requestaction": "chargeback", "requestid": "77", "mer_net_amount": "-11979.88"}
    waiting = {**SETTLED, "mer_utr": None, "txnid": "fd3e847h2"}
    lines = settlement(report(SETTLED, refunded, chargeback, waiting))
    assert isinstance(lines, list)
    india = datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC) - timedelta(hours=5.5)
    paid = SettlementLine(
        "payment", PAYUID, 1_197_988, "INR", 23_960, 4_313, MADE.reference, None, PAYUID, "N223211598444659",
        "N223211598444659", india,
    )  # fmt: skip
    given_back = replace(paid, kind="refund", entity_id="10241480197", amount=-50_000, fee=0, tax=0, refund_key=REFUND)
    assert lines == [
        paid,
        given_back,
        replace(paid, kind="adjustment", entity_id="77", amount=-1_197_988),
        replace(paid, reference=None, settlement_id=None, utr=None, settled_at=None),
    ]


@pytest.mark.parametrize("empty", [{}, []])
def test_a_day_without_settlements_is_empty(empty: object) -> None:
    assert settlement({"status": 1, "msg": f"0 transactions settled on {DAY}", "Txn_details": empty}) == []


@pytest.mark.parametrize(
    "said",
    [
        {"status": 0, "msg": "Please check date format it should be YYYY-MM-DD"},
        {"status": 1},
        report({**SETTLED, "mer_service_fee": "239.6051"}),
        report({**SETTLED, "requestamount": "x"}),
        report({**SETTLED, "payuid": None}),
        report({**SETTLED, "requestaction": None}),
        report({**SETTLED, "mer_service_tax": "-1.00"}),
    ],
)
def test_a_report_that_cannot_be_read_is_unknown_as_a_whole(said: object) -> None:
    assert isinstance(settlement(said), Unknown)


def test_every_page_of_a_report_is_read_once() -> None:
    rows = [{**SETTLED, "payuid": str(number)} for number in range(1, 1201)]
    pages = [report(*rows[:500]), report(*rows[500:1000]), report(*rows[1000:])]
    script = Script(get_settlement_details=list(pages))
    lines = PayuProvider(script).settlement_lines(ACCOUNT, DAY)
    assert isinstance(lines, list)
    assert [line.entity_id for line in lines] == [row["payuid"] for row in rows]
    assert [(form["var1"], form["var2"], form["var3"]) for form in script.sent] == [
        (DAY.isoformat(), str(page), "500") for page in (1, 2, 3)
    ]
    again = settlement(pages[0])  # a server that knows no pages, and exactly one full one
    assert isinstance(again, list)
    assert len(again) == 500
    assert isinstance(settlement(pages[0], UnknownError("read_timeout")), Unknown)
