"""Ed25519 signatures in minisign's prehashed format, so that stock minisign makes and checks them.

    public key    untrusted comment: ...        secret key    untrusted comment: ...
                  base64(Ed, id, key)                         base64(Ed, 00 00, B2, 48 zeros, id,
                                                                     seed, key, checksum)
    signature     untrusted comment: ...
                  base64(ED, id, signature of BLAKE2b-512 of the file)
                  trusted comment: ...
                  base64(signature of the signature and the trusted comment)

Secret keys are not encrypted: a build server signs without anybody typing a password, so its file's
mode and the machine protect it. `minisign -W` writes such keys, too.

Source: https://jedisct1.github.io/minisign/, "Signature format" and the two key formats.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass

__all__ = ["PublicKey", "SecretKey", "sign", "verify"]

_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "
_KEY, _PREHASHED, _CHECKSUM = b"Ed", b"ED", b"B2"
_NO_KDF, _NO_KDF_FIELDS = b"\0\0", bytes(48)  # salt, operations and memory of a key without one
_ID_BYTES, _KEY_BYTES, _SIGNATURE_BYTES = 8, 32, 64
_MAX_TEXT = 8192


@dataclass(frozen=True)
class PublicKey:
    """What verifies signatures.

    Attributes:
        key_id: 8 random bytes that tell keys apart; no part of the security.
        key: 32 bytes, Ed25519.
    """

    key_id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign prints it: 16 hexadecimal digits, the last byte first."""
        return self.key_id[::-1].hex().upper()

    def to_text(self) -> str:
        """The content of a .pub file."""
        return f"{_UNTRUSTED}minisign public key {self.name}\n{_encoded(_KEY, self)}\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> PublicKey:
        """Of a .pub file, or of its second line alone.

        Raises:
            ValueError: not a public key.
        """
        lines = _lines(text)
        if lines and lines[0].startswith(_UNTRUSTED):
            lines = lines[1:]
        if len(lines) != 1:
            raise ValueError("it is not a minisign public key")
        data = _decoded(lines[0], 2 + _ID_BYTES + _KEY_BYTES, "a minisign public key")
        if data[:2] != _KEY:
            raise ValueError("it is not a minisign public key")
        return cls(data[2:10], data[10:])


@dataclass(frozen=True, repr=False)
class SecretKey:
    """What signs.

    Attributes:
        public: its other half.
        seed: 32 bytes that the key is derived from (RFC 8032).
    """

    public: PublicKey
    seed: bytes

    def __repr__(self) -> str:
        return f"SecretKey({self.public.name})"  # nothing secret ends in a log

    @classmethod
    def generate(cls) -> SecretKey:
        """A new one, of the operating system's randomness.

        Raises:
            ImportError: the package cryptography is not installed.
        """
        seed = secrets.token_bytes(_KEY_BYTES)
        return cls(PublicKey(secrets.token_bytes(_ID_BYTES), _public_of(seed)), seed)

    def to_text(self) -> str:
        """The content of a secret key's file, not encrypted."""
        pair = self.public.key_id + self.seed + self.public.key
        checksum = hashlib.blake2b(_KEY + pair, digest_size=32).digest()
        data = _KEY + _NO_KDF + _CHECKSUM + _NO_KDF_FIELDS + pair + checksum
        return (
            f"{_UNTRUSTED}minisign secret key {self.public.name}, not encrypted\n"
            f"{base64.b64encode(data).decode()}\n"
        )

    @classmethod
    def from_text(cls, text: str | bytes) -> SecretKey:
        """Of a secret key's file.

        Raises:
            ValueError: not a secret key, an encrypted one, or a damaged one.
            ImportError: the package cryptography is not installed.
        """
        lines = _lines(text)
        if len(lines) != 2 or not lines[0].startswith(_UNTRUSTED):
            raise ValueError("it is not a minisign secret key")
        data = _decoded(lines[1], 158, "a minisign secret key")
        if data[:2] != _KEY or data[4:6] != _CHECKSUM:
            raise ValueError("it is not a minisign secret key")
        if data[2:4] != _NO_KDF:
            raise ValueError("the key is encrypted, and nobody is there to type a password")
        pair, checksum = data[54:126], data[126:]
        known = hashlib.blake2b(_KEY + pair, digest_size=32).digest()
        if checksum not in (known, bytes(32)):  # minisign -W writes zeros
            raise ValueError("the key is damaged: its checksum does not match")
        key_id, seed, public = pair[:8], pair[8:40], pair[40:]
        if _public_of(seed) != public:
            raise ValueError("the key is damaged: its two halves do not belong together")
        return cls(PublicKey(key_id, public), seed)


def sign(data: bytes, key: SecretKey, trusted_comment: str) -> str:
    """The content of a .minisig file; equal inputs give equal bytes.

    Args:
        data: what is signed.
        key: signs it.
        trusted_comment: one line that the second signature covers.

    Raises:
        ValueError: the comment has more than one line, or is too long.
        ImportError: the package cryptography is not installed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not trusted_comment.isprintable() or len(trusted_comment.encode()) > _MAX_TEXT // 2:
        raise ValueError("a trusted comment is one line of printable text")
    signer = Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = signer.sign(hashlib.blake2b(data).digest())
    whole = signer.sign(signature + trusted_comment.encode())
    entry = base64.b64encode(_PREHASHED + key.public.key_id + signature).decode()
    return (
        f"{_UNTRUSTED}signature of minisign secret key {key.public.name}\n{entry}\n"
        f"{_TRUSTED}{trusted_comment}\n{base64.b64encode(whole).decode()}\n"
    )


def verify(data: bytes, signature: str | bytes, key: PublicKey) -> str:
    """Check a .minisig file of some bytes.

    Args:
        data: what was signed.
        signature: the file's content, from anybody.
        key: whose signature it has to be.

    Returns:
        the trusted comment.

    Raises:
        ValueError: no signature in this format, one of another key, or of other bytes.
        ImportError: the package cryptography is not installed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    lines = _lines(signature)
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise ValueError("it is not a minisign signature")
    entry = _decoded(lines[1], 2 + _ID_BYTES + _SIGNATURE_BYTES, "a minisign signature")
    whole = _decoded(lines[3], _SIGNATURE_BYTES, "a minisign signature")
    if entry[:2] != _PREHASHED:
        raise ValueError("it is not a prehashed minisign signature")
    if entry[2:10] != key.key_id:
        other = PublicKey(entry[2:10], b"").name
        raise ValueError(f"it was signed with key {other}, not with {key.name}")
    comment = lines[2][len(_TRUSTED) :]
    checker = Ed25519PublicKey.from_public_bytes(key.key)
    try:
        checker.verify(entry[10:], hashlib.blake2b(data).digest())
        checker.verify(whole, entry[10:] + comment.encode())
    except InvalidSignature:
        raise ValueError("the signature does not match") from None
    return comment


def _public_of(seed: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _encoded(algorithm: bytes, key: PublicKey) -> str:
    return base64.b64encode(algorithm + key.key_id + key.key).decode()


def _lines(text: str | bytes) -> list[str]:
    """Its lines, the newline at the end left out; ValueError for anything that is not text."""
    if len(text) > _MAX_TEXT:
        raise ValueError("it is too long for a key or a signature")
    if isinstance(text, bytes):
        text = text.decode("utf-8")  # a UnicodeDecodeError is a ValueError
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _decoded(line: str, length: int, what: str) -> bytes:
    try:
        data = base64.b64decode(line.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    # one text for each signature: minisign, too, wants the last character's unused bits to be zero
    if len(data) != length or base64.b64encode(data).decode() != line:
        raise ValueError(f"it is not {what}")
    return data
