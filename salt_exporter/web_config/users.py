"""Basic authentication: who may ask, at a bounded price.

Checking a password against bcrypt is expensive on purpose. So that a flood of wrong ones starves nobody:
* one check at a time, in a thread (bcrypt lets go of Python's lock), so it costs one core at most;
* of each address one request waits for that, its others wait for the first: addresses take turns, whatever each sends;
* a password that was right is remembered (as a keyed digest) and checked again in microseconds.
An unknown name is checked against the hash of one of the users, always the same for the same name, and then refused:
how long that takes tells nobody which names there are.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Mapping

_BCRYPT_READS: Final = 72  # bytes of a password; the rest never counted anywhere, and this library refuses it


class Users:
    """The users of one web configuration; all methods belong to one event loop."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name.encode(): secret.encode() for name, secret in hashes.items()}
        self._stand_ins = sorted(self._hashes.values())
        self._key = secrets.token_bytes()
        self._right: dict[bytes, bytes] = {}  # name → digest of its right password
        self._one_at_a_time = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    async def admit(self, authorization: str, peer: str) -> bool:
        """Tell whether a request of this address with this Authorization header may be answered."""
        if not self._hashes:
            return True
        given = _credentials(authorization)
        if given is None:
            return False
        name, password = given
        if self._remembers(name, password):
            return True
        turn = self._turns.setdefault(peer, asyncio.Lock())
        async with turn:
            if self._remembers(name, password):  # an earlier request has shown it meanwhile
                return True
            async with self._one_at_a_time:
                return await self._check(name, password)

    async def _check(self, name: bytes, password: bytes) -> bool:
        secret = self._hashes.get(name)
        against = self._stand_in(name) if secret is None else secret
        import bcrypt  # noqa: PLC0415 - most exporters have no users, and all are to be small

        right = await asyncio.to_thread(bcrypt.checkpw, password, against)
        if secret is None or not right:
            return False
        self._right[name] = self._digest(password)
        return True

    def _remembers(self, name: bytes, password: bytes) -> bool:
        return hmac.compare_digest(self._digest(password), self._right.get(name, b""))

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")

    def _stand_in(self, name: bytes) -> bytes:
        return self._stand_ins[int.from_bytes(self._digest(name)[:8], "big") % len(self._stand_ins)]


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return name and password of a header, the latter as far as bcrypt reads it; None for what is no such header."""
    scheme, _space, encoded = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (name, password[:_BCRYPT_READS]) if colon else None
