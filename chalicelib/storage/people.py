"""People, their sessions, the profile of their merchant, and what the platform itself keeps secret."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pynamodb.exceptions import DoesNotExist

from chalicelib.domain.model import Tenant
from chalicelib.domain.people import PLATFORM, Profile, Session, Tries, User, canonical_email
from chalicelib.storage import audits
from chalicelib.storage.items import (
    EmailItem,
    GuardsItem,
    MerchantRow,
    MerchantsItem,
    OriginItem,
    PlatformItem,
    ProfileItem,
    SessionItem,
    SettingsItem,
    TriesItem,
    UserItem,
    bind,
)
from chalicelib.storage.page import Page
from chalicelib.storage.sealing import Cipher
from chalicelib.storage.store import Stale, change_if, put_if, together, write_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pynamodb.transactions import TransactWrite

    from chalicelib.domain.audit import Entry
    from chalicelib.storage.cache import Cache
    from chalicelib.storage.vault import Vault

_SECRET_BYTES = 32
_SESSION = re.compile("ses_[0-9A-HJKMNP-TV-Z]{26}")
_MODES = ("test", "live")
_SECRETS = Tenant(PLATFORM, "live")  # what the platform's own secrets are sealed for


class EmailTaken(Exception):
    """Somebody signs in with that email already. Nothing was written."""


class People:
    """Reads and writes people; what every request needs of them is cached."""

    def __init__(self, prefix: str, vault: Vault, cache: Cache) -> None:
        """What ``cache`` remembers bounds how long somebody who was sent away stays in."""
        bind(prefix)
        self._vault = vault
        self._cache = cache

    # -- the platform's secrets ----------------------------------------------------------------

    def secret(self, purpose: str) -> bytes:
        """A secret of the platform for one purpose, derived from one that is made when it is first needed."""
        root = self._cache.get(("platform",), self._root)
        if root is None:
            raise LookupError("the platform's secrets cannot be read or made")
        return hmac.new(root, purpose.encode(), hashlib.sha256).digest()

    def _root(self) -> bytes | None:
        for _ in range(2):
            try:
                item = PlatformItem.get("platform", "secrets", consistent_read=True)
                return bytes.fromhex(self._vault.open(_SECRETS, "platform", item.sealed)["root"])
            except DoesNotExist:
                made = {"root": secrets.token_hex(_SECRET_BYTES)}
                row = PlatformItem(
                    "platform", "secrets", sealed=self._vault.seal(_SECRETS, "platform", made), version=1
                )
                put_if(row, PlatformItem.pk.does_not_exist())  # whoever loses reads the winner's
        return None

    def _email_key(self, email: str) -> str:
        return hmac.new(self.secret("emails"), canonical_email(email).encode(), hashlib.sha256).hexdigest()

    # -- merchants -----------------------------------------------------------------------------

    def profile(self, merchant_id: str) -> Profile:
        """A merchant's profile, as it was at most a minute ago; a plain one if none was ever written."""
        plain = Profile(merchant_id, "")
        if merchant_id == PLATFORM:
            return plain
        return self._cache.get(("profile", merchant_id), lambda: self.profile_now(merchant_id) or plain) or plain

    def profile_now(self, merchant_id: str) -> Profile | None:
        """A merchant's profile as it is; None if there is no such merchant."""
        try:
            return _profile_of(ProfileItem.get(f"merchant/{merchant_id}", "merchant", consistent_read=True))
        except DoesNotExist:
            pass
        for mode in _MODES:  # one that an operator has set up
            try:
                settings = SettingsItem.get(merchant_id, f"settings#{mode}", consistent_read=True)
            except DoesNotExist:
                continue
            return Profile(merchant_id, settings.name)
        return None

    def change_profile(self, before: Profile, after: Profile, audit: Entry) -> None:
        """Write a profile's next version, and which origins lead to it; raises Stale."""
        known = ProfileItem.version == before.version if before.version else ProfileItem.pk.does_not_exist()
        writes = [(_profile_item(after), known), audits.write(audit)]
        writes += [
            (OriginItem(f"origin/{origin}", after.merchant_id), None)
            for origin in after.origins
            if origin not in before.origins
        ]
        if not before.version:
            writes.append((MerchantRow("merchants", after.merchant_id), None))
        write_all(writes)
        # Who left an origin stays in its row: what is asked is whether the profile still has it.
        self._cache.forget(("profile", after.merchant_id), *(("origin", origin) for origin in after.origins))

    def knows_origin(self, origin: str) -> bool:
        """Whether any merchant lets web pages of that origin ask."""
        return bool(self._cache.get(("origin", origin), lambda: self._of_origin(origin) or None))

    def _of_origin(self, origin: str) -> bool:
        rows = OriginItem.query(f"origin/{origin}", limit=100)
        return any(origin in self.profile(row.sk).origins for row in rows)

    def merchants(self, *, limit: int, cursor: str | None) -> Page:
        """A page of every merchant's profile, the newest first."""
        condition = None if cursor is None else MerchantRow.sk < cursor
        rows = list(MerchantRow.query("merchants", condition, scan_index_forward=False, limit=limit + 1))
        keys = [(f"merchant/{row.sk}", "merchant") for row in rows[:limit]]
        found = {item.pk: _profile_of(item) for item in ProfileItem.batch_get(keys)}
        shown = [found[pk] for pk, _ in keys if pk in found]
        return Page(shown, keys[-1][0].removeprefix("merchant/") if len(rows) > limit else None)

    # -- people --------------------------------------------------------------------------------

    def sign_up(self, profile: Profile, owner: User, settings: Sequence[Any], audit: Entry) -> None:
        """Write a merchant with its owner and ``settings`` rows, or nothing; raises EmailTaken, or Stale."""
        new = MerchantsItem.pk.does_not_exist()
        self._add(
            owner,
            [
                (_profile_item(profile), new),
                (MerchantRow("merchants", profile.merchant_id), new),
                *((row, new) for row in settings),
                audits.write(audit),
            ],
        )

    def add(self, user: User, audit: Entry) -> None:
        """Write a new person; raises EmailTaken."""
        self._add(user, [audits.write(audit)])

    def _add(self, user: User, also: list[tuple[Any, Any]]) -> None:
        new = MerchantsItem.pk.does_not_exist()
        email = EmailItem(
            f"email/{self._email_key(user.email)}", "email", merchant_id=user.merchant_id, user_id=user.id
        )
        try:
            write_all([(email, new), (self._user_item(user), new), *also])
        except Stale as stale:  # every other id in it is new and random
            if self.user_of_email(user.email) is None:
                raise
            raise EmailTaken from stale

    def change(self, user: User, audit: Entry | None = None, *, actor: User | None = None) -> None:
        """Write a person's next version; raises Stale if they have had that since they were read.

        ``actor`` is who does it, if that is somebody else: they must still be what they were.
        """
        writes: list[tuple[Any, Any]] = [(self._user_item(user), UserItem.version == user.version - 1)]
        checks = []
        if actor is not None:
            same = (UserItem.status == actor.status) & (UserItem.role == actor.role)
            checks.append((UserItem, f"users/{actor.merchant_id}", f"user#{actor.id}", same))
        write_all([*writes, *([audits.write(audit)] if audit else [])], checks=checks)
        self._cache.forget(("user", user.id))

    def user(self, merchant_id: str, user_id: str) -> User | None:
        """Somebody as they were at most a minute ago; None if the merchant has nobody of that id."""
        return self._cache.get(("user", user_id), lambda: self.user_now(merchant_id, user_id))

    def user_now(self, merchant_id: str, user_id: str) -> User | None:
        """Somebody as they are; None if the merchant has nobody of that id."""
        try:
            item = UserItem.get(f"users/{merchant_id}", f"user#{user_id}", consistent_read=True)
        except DoesNotExist:
            return None
        return self._user_of(merchant_id, item)

    def user_of_email(self, email: str) -> User | None:
        """Whoever signs in with an email; None if nobody does."""
        try:
            row = EmailItem.get(f"email/{self._email_key(email)}", "email", consistent_read=True)
        except DoesNotExist:
            # As many calls as for an email that is known: how long it takes tells nobody which it was.
            self.user_now(PLATFORM, "usr_nobody")
            return None
        return self.user_now(row.merchant_id, row.user_id)

    def users(self, merchant_id: str, *, limit: int, cursor: str | None) -> Page:
        """A page of a merchant's people, the newest first."""
        condition: Any = UserItem.sk.startswith("user#")
        if cursor is not None:
            condition = UserItem.sk.between("user#", f"user#{cursor}")
        rows = UserItem.query(
            f"users/{merchant_id}", condition, consistent_read=True, scan_index_forward=False, limit=limit + 2
        )
        found = [row for row in rows if row.id != cursor]
        shown = [self._user_of(merchant_id, row) for row in found[:limit]]
        return Page(shown, shown[-1].id if len(found) > limit else None)

    def _cipher(self, merchant_id: str) -> Cipher:
        """Seals what tells who somebody is: with a key of ours, so that a page of people asks KMS for nothing."""
        return Cipher(_of(merchant_id), self.secret("people"))

    def _user_item(self, user: User) -> UserItem:
        told = json.dumps({"email": user.email, "name": user.name}).encode()
        sealed = self._cipher(user.merchant_id).seal("user", user.id, told)
        return UserItem(
            f"users/{user.merchant_id}",
            f"user#{user.id}",
            sealed=sealed,
            **{
                name: value
                for name in UserItem.get_attributes()
                if (value := getattr(user, name, None)) is not None and name not in ("sealed", "pk", "sk")
            },
        )

    def _user_of(self, merchant_id: str, item: UserItem) -> User:
        opened = json.loads(self._cipher(merchant_id).open("user", item.id, item.sealed))
        return User(
            merchant_id=merchant_id,
            id=item.id,
            email=opened["email"],
            name=opened["name"],
            role=item.role,  # type: ignore[arg-type]  # one of the roles
            status=item.status,  # type: ignore[arg-type]
            created_at=item.created_at,
            updated_at=item.updated_at,
            password=item.password,
            invite=item.invite,
            invite_until=item.invite_until,
            invite_by=item.invite_by,
            signed_out_at=item.signed_out_at,
            version=int(item.version),
        )

    # -- sessions ------------------------------------------------------------------------------

    def add_session(self, session: Session) -> None:
        """Write a new session; its id is random."""
        put_if(_session_item(session), GuardsItem.pk.does_not_exist())

    def session(self, session_id: str, now: datetime) -> Session | None:
        """A session as it was at most a minute ago; None if it is over."""
        found = self._cache.get(("session", session_id), lambda: self.session_now(session_id))
        return None if found is None or found.expires_at <= now else found

    def session_now(self, session_id: str) -> Session | None:
        """A session as it is; None if there is none. It may be over. What has not the form of an id costs no read."""
        if not _SESSION.fullmatch(session_id):
            return None
        try:
            return _session_of(session_id, SessionItem.get(f"session/{session_id}", "session", consistent_read=True))
        except DoesNotExist:
            return None

    def rotate(self, session: Session, secret: str, now: datetime) -> bool:
        """Put a new secret's hash in place of the one in force; False if that is not in force any more."""
        item = SessionItem(f"session/{session.id}", "session")
        actions = [SessionItem.secret.set(secret), SessionItem.previous.set(session.secret)]
        self._cache.forget(("session", session.id))
        return change_if(
            item, actions, (SessionItem.secret == session.secret) & (SessionItem.expires_at > round(now.timestamp(), 3))
        )

    def end(self, session: Session, audit: Entry) -> None:
        """End a session, with its line in the audit log. It ends everywhere when no environment remembers it."""
        item = SessionItem(f"session/{session.id}", "session")
        over: list[Any] = [SessionItem.expires_at.set(int(audit.created_at.timestamp()))]

        def write(transaction: TransactWrite) -> None:
            transaction.update(item, over, condition=SessionItem.pk.exists())
            transaction.save(*audits.write(audit))

        together(write)
        self._cache.forget(("session", session.id))

    # -- wrong passwords -----------------------------------------------------------------------

    def tries(self, about: str, now: datetime) -> Tries:
        """The wrong passwords of late for an email, or from one address for it, whether anybody has it or not."""
        try:
            item = TriesItem.get(f"tries/{self._email_key(about)}", "tries", consistent_read=True)
        except DoesNotExist:
            return Tries()
        version = int(item.version)
        if item.expires_at < now.timestamp():
            return Tries(version=version)
        return Tries(int(item.tries), float(item.next_at), version)

    def note_try(self, about: str, tries: Tries, now: datetime, keep: float) -> bool:
        """Write the next version of such tries; False if another try came between. ``keep`` in seconds."""
        item = TriesItem(
            f"tries/{self._email_key(about)}", "tries", tries=tries.count, next_at=round(tries.next_at, 3),
            version=tries.version, expires_at=round(max(tries.next_at, now.timestamp()) + keep),
        )  # fmt: skip
        before = tries.version - 1
        return put_if(item, TriesItem.version == before if before else TriesItem.pk.does_not_exist())


def next_version(user: User, now: datetime, **changes: Any) -> User:  # noqa: ANN401
    """The person with changes."""
    return replace(user, updated_at=now, version=user.version + 1, **changes)


def _of(merchant_id: str) -> Tenant:
    return Tenant(merchant_id, "live")  # people are of a merchant, not of a mode; one had to be chosen


def _profile_item(profile: Profile) -> ProfileItem:
    return ProfileItem(
        f"merchant/{profile.merchant_id}",
        "merchant",
        name=profile.name,
        plan=profile.plan,
        origins=list(profile.origins),
        suspended=True if profile.suspended else None,
        created_at=profile.created_at,
        updated_at=profile.updated_at,
        version=profile.version,
    )


def _profile_of(item: ProfileItem) -> Profile:
    return Profile(
        merchant_id=item.pk.removeprefix("merchant/"),
        name=item.name,
        plan=item.plan,  # type: ignore[arg-type]  # one of the plans
        origins=tuple(item.origins or ()),
        suspended=bool(item.suspended),
        created_at=item.created_at,
        updated_at=item.updated_at,
        version=int(item.version),
    )


def _session_item(session: Session) -> SessionItem:
    return SessionItem(
        f"session/{session.id}",
        "session",
        session_kind=session.kind,
        merchant_id=session.merchant_id,
        user_id=session.user_id,
        secret=session.secret,
        previous=session.previous,
        created_at=session.created_at,
        expires_at=round(session.expires_at.timestamp()),
    )


def _session_of(session_id: str, item: SessionItem) -> Session:
    fields: Mapping[str, Any] = {
        name: getattr(item, name) for name in ("merchant_id", "user_id", "secret", "previous", "created_at")
    }
    return Session(
        id=session_id,
        kind="cookie" if item.session_kind == "cookie" else "token",
        expires_at=_moment(float(item.expires_at)),
        **fields,
    )


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
