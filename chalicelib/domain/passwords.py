"""Passwords: what is accepted as one, and its hash by scrypt.

The work factor is written into each hash, so that it can be raised later: whoever signs in with a weaker one gets a
new hash. r = 8 and p = 1 as in RFC 7914; 2¹⁷ is what OWASP's Password Storage Cheat Sheet asks for with them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from chalicelib.domain.errors import InvalidRequest

MIN_LENGTH = 12
MAX_LENGTH = 128
_R, _P = 8, 1
_SALT_BYTES = 16
_HASH_BYTES = 32
_NAME = 4  # letters, from which on the name in an email must not be in a password
_FEW = 5  # different characters: "aaaaaaaaaaaa" and "121212121212" are the first that are tried


def check(password: str, email: str, *, param: str = "password") -> None:
    """Raise InvalidRequest for a password that is too easy to guess; never repeats it."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidRequest("weak_password", f"Between {MIN_LENGTH} and {MAX_LENGTH} characters.", param=param)
    if len(set(password)) < _FEW:
        raise InvalidRequest("weak_password", f"At least {_FEW} different characters.", param=param)
    lowered, name = password.lower(), email.partition("@")[0]
    if lowered in email or (len(name) >= _NAME and name in lowered):
        raise InvalidRequest("weak_password", "A password must not hold the name in your email.", param=param)


def hashed(password: str, cost: int) -> str:
    """``scrypt$cost$salt$hash`` in hexadecimal; ``cost`` is the binary logarithm of scrypt's n."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${cost}${salt.hex()}${_scrypt(password, salt, cost).hex()}"


def matches(stored: str | None, password: str, cost: int) -> bool:
    """Whether a password is the one that was hashed; without a stored one it takes the same time to say no."""
    if stored is None:
        _scrypt(password, bytes(_SALT_BYTES), cost)
        return False
    _, stored_cost, salt, digest = stored.split("$")
    found = _scrypt(password, bytes.fromhex(salt), int(stored_cost))
    return hmac.compare_digest(found, bytes.fromhex(digest))


def is_weaker(stored: str, cost: int) -> bool:
    """Whether a hash was made with less work than is asked for now."""
    return int(stored.split("$")[1]) < cost


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    memory = 128 * _R * _P * 2**cost  # bytes, RFC 7914
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=2**cost, r=_R, p=_P, dklen=_HASH_BYTES,
        maxmem=2 * memory,
    )  # fmt: skip
