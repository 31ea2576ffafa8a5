"""What only Instamojo's format can get wrong: which refusal of a refund is final, and which is not."""

from __future__ import annotations

import pytest

from chalicelib.domain.outcome import Effect, EffectStatus, NotSent, Unknown
from chalicelib.providers import instamojo_wire as wire
from tests.contract.instamojo_script import (
    GET,
    KEY,
    NONE,
    PAYMENT,
    REFUND,
    REFUND_POST,
    REFUNDS,
    Answers,
    Said,
    bad,
    good,
    pages,
    refund,
    request,
)


@pytest.mark.parametrize("field", ["type", "body"])
def test_a_refund_that_was_wrong_in_itself_has_failed(field: str) -> None:
    refused = bad({field: ["No."]})
    said, script = refund({REFUNDS: good(refunds=[]), REFUND_POST: refused})
    assert isinstance(said, Effect)
    assert said.error is not None
    assert (said.status, (said.error.error_class, said.error.code)) == (EffectStatus.FAILED, wire.FIELDS[field])
    assert script.sent == [REFUNDS, REFUND_POST, REFUNDS]
    for late, kind in ((good(refunds=[REFUND]), Effect), ((500, {}), Unknown), ((429, {}), Unknown)):
        said, _ = refund({REFUNDS: [good(refunds=[]), late], REFUND_POST: refused})
        assert isinstance(said, kind)
        if isinstance(said, Effect):
            assert (said.status, said.key) == (EffectStatus.SUCCEEDED, KEY)


DOUBTFUL = [
    bad({"payment_id": ["It has been refunded."]}), bad({"refund_amount": ["More than is left."]}),
    bad({"type": ["No."], "refund_amount": ["No."]}), bad({"something_new": ["No."]}), bad("Already refunded."),
    bad("Something else."), bad(None), bad({}), NONE,
]  # fmt: skip


@pytest.mark.parametrize("refused", DOUBTFUL, ids=repr)
def test_what_an_earlier_try_may_have_brought_about_is_open(refused: Said) -> None:
    """Our first refund is not listed yet, and what it gave back is why there is not enough for the second."""
    other = {**REFUND, "id": "C9", "body": "By hand"}
    paid = request(PAYMENT)
    for listed in (
        [],
        [{**other, "status": "Failed", "refund_amount": "1499.00"}],
        [{**other, "payment_id": "MOJOother", "refund_amount": "1499.00"}],
        [{**other, "refund_amount": "x"}],
        [{**other, "refund_amount": "999.00"}],
    ):
        said, script = refund({REFUNDS: good(refunds=listed), REFUND_POST: refused, GET: paid})
        assert isinstance(said, Unknown), listed
        assert script.sent.count(REFUND_POST) == 1
    ours: Answers = {REFUNDS: [good(refunds=[]), good(refunds=[other, REFUND])], REFUND_POST: refused}
    assert isinstance(refund(ours)[0], Effect)


@pytest.mark.parametrize("refused", DOUBTFUL, ids=repr)
@pytest.mark.parametrize("status", ["Refunded", "Pending", None])
def test_a_refund_is_refused_for_good_where_others_got_back_what_it_needs(refused: Said, status: str | None) -> None:
    for amounts in (["1499.00"], ["999.01"], ["500.00", "499.01"]):
        others = [
            {**REFUND, "id": f"C{n}", "body": "By hand", "status": status, "refund_amount": amount}
            for n, amount in enumerate(amounts)
        ]
        said, _ = refund({REFUNDS: good(refunds=others), REFUND_POST: refused})
        assert isinstance(said, Effect)
        assert said.status is EffectStatus.FAILED
        assert said.error is not None


@pytest.mark.parametrize("refused", DOUBTFUL, ids=repr)
def test_a_refund_of_what_nobody_has_paid_has_failed(refused: Said) -> None:
    unsaid = {REFUNDS: pages("refunds"), REFUND_POST: refused}
    for unpaid in (request({**PAYMENT, "status": "Failed"}), request(), request(status="Disabled")):
        said, _ = refund({**unsaid, GET: unpaid})
        assert isinstance(said, Effect)
        assert said.status is EffectStatus.FAILED
    for unclear in (request({**PAYMENT, "status": "Refunded"}), request({**PAYMENT, "status": None}), NONE, (500, {})):
        assert isinstance(refund({**unsaid, GET: unclear})[0], Unknown)


def test_to_be_asked_again_later_is_no_failure() -> None:
    said, _ = refund({REFUNDS: pages("refunds"), REFUND_POST: bad("It failed. Please try again later.")})
    assert isinstance(said, Unknown)
    said, _ = refund({REFUNDS: pages("refunds"), REFUND_POST: bad("Your token may not do this.")})
    assert isinstance(said, NotSent)
