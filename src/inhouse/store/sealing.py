"""Keeps what lies in Redis from those who may read Redis: AES-256-GCM with a key that gateways and workers share.

Sealed is `1 | nonce (12 bytes) | ciphertext and tag`; what is not sealed begins with `0`. The model's name is bound to
it, so that a job cannot be moved to another queue. Without a key nothing is sealed, and nothing that is can be opened.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from inhouse.errors import EngineError, StackError

_PLAIN, _SEALED = b"0", b"1"
_NONCE_BYTES = 12
_SETTING = "queue.encryption_key"


class Sealer:
    """`secret` is any text; its length is its strength. Raises StackError where the library is not installed."""

    def __init__(self, secret: str | None, model: str) -> None:
        self._about = model.encode()
        self._cipher: Any = None
        if secret is None:
            return
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise StackError(
                f"`{_SETTING}` needs the library cryptography", where=_SETTING, hint="pip install 'inhouse[redis]'"
            ) from None
        self._cipher = AESGCM(hashlib.sha256(b"inhouse queue\0" + secret.encode()).digest())

    def seal(self, data: bytes) -> bytes:
        if self._cipher is None:
            return _PLAIN + data
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self._cipher.encrypt(nonce, data, self._about)
        return _SEALED + nonce + sealed

    def open(self, data: bytes) -> bytes:
        """Raises EngineError for what was sealed with another key, or with none here."""
        if data.startswith(_PLAIN) and self._cipher is None:
            return data[1:]
        if data.startswith(_SEALED) and self._cipher is not None:
            from cryptography.exceptions import InvalidTag

            try:
                opened: bytes = self._cipher.decrypt(data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :], self._about)
            except InvalidTag:
                pass
            else:
                return opened
        raise EngineError(f"what came through the queue cannot be opened; `{_SETTING}` must be the same on both sides")
