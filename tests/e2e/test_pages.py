"""The sign-in page of the deployed API, with a browser where there is one."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
import urllib3

from tests.support.marks import PASSWORD

if TYPE_CHECKING:
    from tests.support.stack import Client

pytestmark = pytest.mark.xdist_group("stack")
CHROMIUM = shutil.which("chromium")


def test_the_page_and_its_files_are_served(stack: Client) -> None:
    url = stack.local["api_url"]
    page = urllib3.request("GET", f"{url}/sign-in")
    assert page.status == 200
    for address in re.findall(r'(?:href|src)="([^"]+)"', page.data.decode()):
        answer = urllib3.request("GET", f"{url}/{address}")
        assert (answer.status, "immutable" in answer.headers["Cache-Control"]) == (200, True), address


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_somebody_signs_in_stays_and_signs_out(stack: Client) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    url, email = stack.local["api_url"], stack.local["owner_email"]
    broken: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda line: broken.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(f"{url}/sign-in")
        page.fill("#email", email)
        page.fill("#password", PASSWORD)
        page.click("button[type=submit]")
        page.wait_for_function("() => document.getElementById('problem').textContent.includes('wrong')")
        page.fill("#password", stack.local["owner_password"])
        page.click("button[type=submit]")
        page.wait_for_selector("#signed-in:not([hidden])")
        assert "owner" in page.inner_text("#signed-in")
        page.reload()
        page.wait_for_selector("#signed-in:not([hidden])")
        assert page.evaluate("() => document.cookie") == ""
        page.click("#sign-out")
        page.wait_for_selector("#sign-in:not([hidden])")
        browser.close()
    assert broken == []
