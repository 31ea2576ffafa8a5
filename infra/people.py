"""Invites somebody of the platform, or an owner of a merchant that was set up by hand; prints the token to give them.

Needs AWS credentials that may write the stage's merchants table; no route of the API can do this.
"""

from __future__ import annotations

import argparse
import sys

import boto3
from pydantic import TypeAdapter, ValidationError

from chalicelib.api import fields
from chalicelib.domain.people import PLATFORM
from chalicelib.services import people
from chalicelib.storage.cache import Cache
from chalicelib.storage.people import EmailTaken, People
from chalicelib.storage.vault import Vault
from chalicelib.wiring import now

_SECONDS = 7 * 86_400.0


def main(arguments: list[str]) -> int:
    """Invite somebody, and print the token by which they set their password."""
    parser = argparse.ArgumentParser(prog="python -m infra.people", description=__doc__)
    parser.add_argument("stage", choices=["local", "localstack", "dev", "prod"])
    parser.add_argument("email")
    parser.add_argument("--merchant", default=PLATFORM, help="make an owner of this merchant, not one of the platform")
    wish = parser.parse_args(arguments)
    try:
        TypeAdapter(fields.Email).validate_python(wish.email)
    except ValidationError:
        print(f"{wish.email} is no email that could sign in.", file=sys.stderr)
        return 1
    prefix = f"railyard-{wish.stage}"
    store = People(prefix, Vault(boto3.client("kms"), f"alias/{prefix}-credentials"), Cache(now, 0))
    if wish.merchant != PLATFORM and store.profile_now(wish.merchant) is None:
        print(f"There is no merchant {wish.merchant} in {wish.stage}.", file=sys.stderr)
        return 1
    try:
        user, token = people.appoint(store, wish.merchant, wish.email, now(), _SECONDS)
    except EmailTaken:
        print("Somebody signs in with this email already.", file=sys.stderr)
        return 1
    print(f"{user.id} is {user.role} of {wish.merchant}. To be done within a week:")
    print(f'POST /v1/auth/password {{"token": "{token}", "password": …}}')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
