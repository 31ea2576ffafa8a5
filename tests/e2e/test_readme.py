"""The README's tour, pasted into a shell next to a running stack, says what the README says it will."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from infra.settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.stack import Client

pytestmark = pytest.mark.xdist_group("stack")
# A person waits two seconds and looks again; a test on a busy machine waits until there is something to see.
_ARRIVED = """until curl -s $SHOP/received | get '[w["body"]["payment_id"] for w in data if w["body"]["type"] == "refund.succeeded"]' |
  grep -q $PAYMENT; do sleep 0.2; done"""
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the tour is told with curl")


def tour() -> str:
    """Every command from the tour's beginning to its last part, which only waits longer for more of the same."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text[text.index("## A five-minute tour") : text.index("**Break something.**")]
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL))
    assert commands.count("sleep 2\n") == 1
    return commands.replace("sleep 2", _ARRIVED)


@needs_curl
def test_the_tour_works_when_pasted(stack: Client, tmp_path: Path) -> None:
    home = tmp_path / ".railyard"
    home.mkdir()
    (home / "local.json").write_text(json.dumps(stack.local))
    done = subprocess.run(
        ["/bin/sh", "-eu"], input=tour(), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    told = iter(done.stdout.splitlines())
    wanted = [
        stack.local["api_url"], "requires_action", "https://shop.example/thanks", "succeeded", "paid",
        "signature_invalid", "succeeded", "1 payment.created", "7 refund.succeeded", "refund_settled",
        "refund.succeeded verified", '"refunded": 50000', "payment", "forbidden", " by ",
    ]  # fmt: skip
    missing = [text for text in wanted if not any(text in line for line in told)]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert not missing, done.stdout
    assert "BAD" not in done.stdout
