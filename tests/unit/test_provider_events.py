"""Which of our operations a provider's refund belongs to."""

from __future__ import annotations

import pytest

from chalicelib.domain import operations
from chalicelib.domain.outcome import ChargeStatus, EffectStatus, EventKind, ProviderEvent
from chalicelib.domain.states import OperationType
from chalicelib.services import provider_events
from tests.support import factories
from tests.support.factories import NOW, TIMING
from tests.support.story import Story, authorized, succeeded

EVENT = ProviderEvent("e1", "refund.processed", EventKind.REFUND)


def owner(story: Story, event: ProviderEvent = EVENT, reference: str = "rfnd_9") -> str | None:
    told = factories.effect(EffectStatus.SUCCEEDED, provider_reference=reference)
    ours = provider_events._our_operation(story.state, story.attempt(), event, told)
    return ours.id if ours else None


def test_a_refund_with_our_key_is_ours() -> None:
    story = succeeded()
    change, made = operations.request_refund(story.state, 1000, None, partial=True, timing=TIMING, now=NOW)
    story.apply(change)
    named = ProviderEvent("e1", "refund.processed", EventKind.REFUND, refund_key=made.id)
    assert owner(story, named) == made.id
    assert owner(story) is None  # without a name of ours it was made at the provider


def test_a_refund_is_known_by_the_providers_reference_once_we_have_it() -> None:
    story = succeeded()
    change, made = operations.request_refund(story.state, 1000, None, partial=True, timing=TIMING, now=NOW)
    story.apply(change)
    pending = factories.effect(EffectStatus.PENDING, provider_reference="rfnd_9")
    story.apply(operations.record_effect(story.state, story.operation(), pending, timing=TIMING, now=NOW, source="x"))
    assert owner(story) == made.id


@pytest.mark.parametrize("had", ["capture", "void"])
def test_a_late_charge_given_back_by_hand_is_its_reversal_and_no_older_operation(had: str) -> None:
    story = authorized("automatic" if had == "capture" else "manual")
    if had == "void":
        change, _ = operations.request_void(story.state, lapse=True, lapse_window=1.0, timing=TIMING, now=NOW)
        story.apply(change)
    story.hear(ChargeStatus.CANCELED)
    story.hear(ChargeStatus.SUCCEEDED)  # taken after all
    older, reversal = story.state.operations
    assert (str(older.type), reversal.type) == (had, OperationType.REVERSAL)
    assert owner(story) == reversal.id
