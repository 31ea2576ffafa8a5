"""Pages and their files: what is served, under which policy, and that no path of a request reaches the disk."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from chalicelib.api import auth
from chalicelib.web.assets import assets
from tests.support.access import make_user
from tests.support.api import Api, api_fixture
from tests.support.marks import PASSWORD
from tests.support.world import TENANT

api = api_fixture("module")
STATIC = Path(__file__).parents[2] / "chalicelib" / "web" / "static"


def test_a_page_and_every_file_it_names_are_there(api: Api) -> None:
    page = api.request("GET", "/sign-in", key=None)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="([^"]+)"', page.body.decode())
    assert len(named) == 2
    for address in named:
        answer = api.request("GET", f"/{address}", key=None)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.body == (STATIC / address.rpartition("/")[2]).read_bytes()


def test_a_page_runs_nothing_but_our_files_and_shows_in_nobodys_frame(api: Api) -> None:
    page = api.request("GET", "/sign-in", key=None)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert not re.search(r"\son\w+=|style=|<style|<script>|javascript:", text)
    script = (STATIC / "sign-in.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|eval\(|document\.write|localStorage", script)


@pytest.mark.parametrize(
    "name",
    [
        "../pages.py", "..%2fpages.py", "..%2f..%2f..%2fapp.py", "%2e%2e%2fpages.py", "..%5cpages.py", "....//pages.py",
        "%252e%252e%252fpages.py", "..%c0%afpages.py", "/etc/passwd", "%2fetc%2fpasswd", "file:%2f%2f%2fetc%2fpasswd",
        "style.css%00.js", "style.css%2f..%2f..%2fpages.py", "..", ".", "", "~root", "sign-in.js/../../pages.py",
        "pages.py", "assets.py", "STYLE.CSS", "style.css ",
    ],
)  # fmt: skip
def test_no_path_of_a_request_reaches_the_disk(api: Api, name: str) -> None:
    version = assets().version
    said = api.raw("GET", f"/static/{version}/{name}")
    assert said.status_code in (403, 404), name  # 403 is what this gateway says of a path that it does not know
    assert b"import" not in said.body
    assert b"root:" not in said.body
    for way in (
        name,
        name.replace("%2f", "/").replace("%2e", "."),
        f"{STATIC}/../pages.py",
        "../pages.py",
        "../assets.py",
    ):
        assert assets().get(version, way) is None
        assert assets().get(f"{version}/..", way) is None
        assert assets().get("..", way) is None


def test_a_file_of_another_version_is_not_there(api: Api) -> None:
    assert api.request("GET", f"/static/{'0' * 16}/style.css", key=None).code == "not_found"


def test_who_comes_back_to_a_page_gets_its_token_again(api: Api) -> None:
    user = make_user(api.world.kit, TENANT.merchant_id)
    body = {"email": user.email, "password": PASSWORD}
    opened = api.request("POST", "/v1/auth/session", body, key=None)
    cookie = SimpleCookie(opened.headers["set-cookie"])[auth.COOKIE].value
    again = api.get("/v1/auth/session", key=None, headers={"Cookie": f"{auth.COOKIE}={cookie}"})
    assert again.json == opened.json
    assert api.get("/v1/auth/session", key=api.token()).status == 401  # a token has no page
