"""Inputs of the routes about merchants, people and keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from chalicelib.api import fields
from chalicelib.api.schemas import Input, PageQuery

MAX_OVERLAP = 7 * 86_400  # seconds
_ORIGIN = re.compile(r"https://[a-z0-9.-]{1,253}(:[0-9]{1,5})?|http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        detail = "An origin is https://, a host in lower case and a port if it is not 443; no path."
        raise PydanticCustomError("invalid_field", detail)
    return text


# How long it has to be is checked where passwords are: this only keeps the work bounded.
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=400, pattern=r"^[!-~]+$")]
RoleName = Literal["owner", "admin", "operator", "viewer"]
Origin = Annotated[str, AfterValidator(_origin)]
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z]+:[a-z]+$", max_length=40)]


class SignupIn(Input):
    """A new merchant and its first owner."""

    email: fields.Email
    password: Password
    merchant_name: fields.Text100
    name: fields.Text100 | None = None


class LoginIn(Input):
    """Somebody who comes back."""

    email: fields.Email
    password: Password


class RefreshIn(Input):
    """A refresh token, which is used up."""

    refresh_token: Secret


class PasswordIn(Input):
    """A new password, by the token of an invitation or a reset."""

    token: Secret
    password: Password


class MeIn(Input):
    """What of oneself is to change."""

    name: fields.Text100 | None = None
    current_password: Password | None = None
    password: Password | None = None

    @model_validator(mode="after")
    def _with_the_current_one(self) -> MeIn:
        if (self.password is None) is not (self.current_password is None):
            missing = "password" if self.password is None else "current_password"
            raise PydanticCustomError("missing_field", "Send both, or neither.", {"param": missing})
        return self


class InviteIn(Input):
    """Somebody new."""

    email: fields.Email
    role: RoleName
    name: fields.Text100 | None = None


class UserIn(Input):
    """What of somebody is to change."""

    role: RoleName | None = None
    status: Literal["active", "disabled"] | None = None


class MerchantIn(Input):
    """What of the merchant's profile is to change."""

    name: fields.Text100 | None = None
    origins: Annotated[list[Origin], Field(max_length=20)] | None = None


class PlatformMerchantIn(Input):
    """What the platform changes of a merchant."""

    plan: Literal["starter", "standard", "scale"] | None = None
    suspended: bool | None = None


class ApiKeyIn(Input):
    """A new API key."""

    name: fields.Text100
    type: Literal["secret", "publishable"] = "secret"
    scopes: (
        Annotated[
            list[Scope],
            Field(min_length=1, max_length=40, description="All that a key of its type can have, if absent."),
        ]
        | None
    ) = None
    mode: Literal["test", "live"] | None = Field(None, description="The world it opens; that of the request if absent.")


class ApiKeyNameIn(Input):
    """Another name for a key."""

    name: fields.Text100


class RotateKeyIn(Input):
    """How long the key that is replaced goes on."""

    overlap: Annotated[int, Field(ge=0, le=MAX_OVERLAP, description="Seconds; a day if absent.")] | None = None


class AuditQuery(PageQuery):
    """Filters of the audit log."""

    action: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=60)] | None = None
    object_id: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    actor_id: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
