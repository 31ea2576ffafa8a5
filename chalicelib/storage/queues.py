"""Sending to SQS and starting workflows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from chalicelib.domain.model import Tenant

QueueName = Literal["operations", "provider-events", "notifications", "deliveries", "projections"]

_BATCH = 10  # SendMessageBatch's limit


class SendFailed(Exception):
    """SQS did not take every message: whoever sends must do it all again."""


class StartFailed(Exception):
    """The workflow was not started; the sweeper will take the payment up."""


class Queues:
    """The stage's queues."""

    def __init__(self, sqs: Any, urls: Mapping[QueueName, str]) -> None:  # noqa: ANN401 - a boto3 SQS client
        """``urls`` of all queues."""
        self._sqs = sqs
        self._urls = urls

    def send(self, queue: QueueName, messages: Sequence[Mapping[str, object]], *, delay: float = 0) -> None:
        """Send JSON messages, after ``delay`` seconds (at most 900); raises SendFailed if any is refused."""
        for batch in _chunks(messages):
            entries = [
                {
                    "Id": str(number),
                    "MessageBody": json.dumps(message, separators=(",", ":")),
                    "DelaySeconds": int(delay),
                }
                for number, message in enumerate(batch)
            ]
            answer = self._sqs.send_message_batch(QueueUrl=self._urls[queue], Entries=entries)
            failed = answer.get("Failed")
            if failed:
                msg = f"{queue}: {len(failed)} of {len(batch)} messages refused: {failed[0].get('Code')}"
                raise SendFailed(msg)

    def retry_in(self, queue: QueueName, receipt_handle: str, seconds: float) -> None:
        """Hide a received message for ``seconds`` (at most 12 hours); then it comes again."""
        self._sqs.change_message_visibility(
            QueueUrl=self._urls[queue], ReceiptHandle=receipt_handle, VisibilityTimeout=max(0, round(seconds))
        )


class Workflows:
    """The payment state machine."""

    def __init__(self, stepfunctions: Any, arn: str) -> None:  # noqa: ANN401 - a boto3 Step Functions client
        """``arn`` of the state machine."""
        self._stepfunctions = stepfunctions
        self._arn = arn

    def start(self, tenant: Tenant, payment_id: str, run: int) -> None:
        """Start run number ``run`` of a payment; raises StartFailed.

        Only the winner of the write that raised ``run`` calls this, so an execution of that name
        is our own earlier call whose answer was lost.
        """
        state = {"merchant_id": tenant.merchant_id, "mode": tenant.mode, "payment_id": payment_id, "run": run}
        try:
            self._stepfunctions.start_execution(
                stateMachineArn=self._arn, name=f"{payment_id}-{run}", input=json.dumps(state)
            )
        except self._stepfunctions.exceptions.ExecutionAlreadyExists:
            return
        except (ClientError, BotoCoreError) as error:
            msg = f"{payment_id}: run {run} was not started: {error}"
            raise StartFailed(msg) from error


def _chunks(messages: Sequence[Mapping[str, object]]) -> Iterator[Sequence[Mapping[str, object]]]:
    for start in range(0, len(messages), _BATCH):
        yield messages[start : start + _BATCH]
