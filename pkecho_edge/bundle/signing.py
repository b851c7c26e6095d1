"""Sign a bundle, and ask whether the one whose key is known signed it.

The signature is of manifest.json, which lists every other file with its hash; so it is of the whole
bundle. It lies beside the manifest, and nothing else in the bundle changes.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pkecho_edge.bundle import minisign
from pkecho_edge.bundle.layout import MANIFEST, SIGNATURE, enclosing_bundle
from pkecho_edge.bundle.manifest import Manifest
from pkecho_edge.bundle.minisign import PublicKey, SecretKey
from pkecho_edge.bundle.reader import Bundle, check_bundle
from pkecho_edge.bundle.safe_read import read_regular_file
from pkecho_edge.bundle.strict_json import MAX_BYTES
from pkecho_edge.errors import IntegrityError, MissingDependency, UnusableInput, UsageError
from pkecho_edge.files import write_atomically

__all__ = ["check_signature", "read_public_key", "sign_bundle", "write_key_pair"]

_MAX_KEY = 8192
_PRIVATE = 0o600


def write_key_pair(path: Path) -> PublicKey:
    """A new secret key at `path`, readable by its owner alone, and PATH.pub beside it.

    Raises:
        UsageError: one of the two files is there already (a key is never overwritten), cannot be
            written, or would lie in a bundle.
        MissingDependency: the package cryptography is not installed.
    """
    public_path = path.with_name(f"{path.name}.pub")
    if (bundle := enclosing_bundle(path.parent)) is not None:
        raise UsageError(
            "would lie in a bundle, which is given away",
            path=path,
            remedy=f"Keep keys outside {bundle.name}",
        )
    for each in (path, public_path):
        if os.path.lexists(each):
            raise UsageError("exists already", path=each, remedy="Choose another name")
    try:
        key = SecretKey.generate()
    except ImportError as error:
        raise _no_cryptography() from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # never through a link, never over a key
        with os.fdopen(os.open(path, flags, _PRIVATE), "w", encoding="ascii") as file:
            file.write(key.to_text())
        write_atomically(public_path, key.public.to_text().encode("ascii"))
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})", path=path, remedy="Check the folder"
        ) from error
    return key.public


def sign_bundle(path: Path, key_path: Path) -> tuple[Bundle, PublicKey]:
    """Check a bundle and write its signature, in the place of an older one.

    Returns:
        the bundle, and the key that verifies it.

    Raises:
        UsageError: there is no such bundle, the key can be read by others, or the signature cannot
            be written.
        UnusableInput: the file is not a secret key that can be used.
        IntegrityError: the bundle's bytes are not the ones its manifest lists.
        MissingDependency: the package cryptography is not installed.
    """
    key = _read_secret_key(key_path)
    bundle = check_bundle(path)
    data = _manifest_bytes(bundle)
    text = minisign.sign(data, key, _comment(bundle.manifest))
    try:
        write_atomically(bundle.path / SIGNATURE, text.encode())
    except OSError as error:
        raise UsageError(
            f"cannot be written ({error.strerror})",
            path=bundle.path / SIGNATURE,
            remedy="Check the bundle's folder",
        ) from error
    return bundle, key.public


def check_signature(bundle: Bundle, key: PublicKey) -> str:
    """The trusted comment of a bundle's signature.

    Raises:
        IntegrityError: there is none, it is damaged, of another key, or of another manifest.
        MissingDependency: the package cryptography is not installed.
    """
    path = bundle.path / SIGNATURE
    if not os.path.lexists(path):
        raise IntegrityError(
            "is not signed", path=bundle.path, remedy="Sign it: pkecho-edge sign BUNDLE --key PATH"
        )
    text = read_regular_file(path, _MAX_KEY)
    try:
        return minisign.verify(_manifest_bytes(bundle), text, key)
    except ValueError as error:
        raise IntegrityError(str(error), path=path, remedy="Do not use the bundle") from error
    except ImportError as error:
        raise _no_cryptography() from error


def read_public_key(path: Path) -> PublicKey:
    """Of a .pub file.

    Raises:
        UnusableInput: missing, or not a public key.
    """
    try:
        return PublicKey.from_text(read_regular_file(path, _MAX_KEY))
    except IntegrityError as error:
        raise UnusableInput(error.what, path=path, remedy="Give the .pub file") from error
    except ValueError as error:
        raise UnusableInput(str(error), path=path, remedy="Give the .pub file") from error


def _read_secret_key(path: Path) -> SecretKey:
    try:
        text = read_regular_file(path, _MAX_KEY)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (IntegrityError, OSError) as error:
        raise UnusableInput(
            "is not a secret key that can be read",
            path=path,
            remedy="Make one: pkecho-edge keygen PATH",
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise UsageError(
            f"can be read by others (mode {mode:o})",
            path=path,
            remedy=f"Run: chmod 600 {path.name}",
        )
    try:
        return SecretKey.from_text(text)
    except ValueError as error:
        raise UnusableInput(
            str(error), path=path, remedy="Make one: pkecho-edge keygen PATH"
        ) from error
    except ImportError as error:
        raise _no_cryptography() from error


def _manifest_bytes(bundle: Bundle) -> bytes:
    """The very bytes that were parsed.

    Raises:
        IntegrityError: they have changed since.
    """
    data = read_regular_file(bundle.path / MANIFEST, MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != bundle.manifest_sha256:
        raise IntegrityError(
            "changed after it was read", path=bundle.path / MANIFEST, remedy="Run it again"
        )
    return data


def _comment(manifest: Manifest) -> str:
    """What `minisign -V` prints: no time, so that signing again gives the same bytes."""
    return f"bundle {manifest.bundle_id} security version {manifest.security_version}"


def _no_cryptography() -> MissingDependency:
    return MissingDependency(
        "signatures need the package cryptography", remedy="pip install 'pkecho-edge[sign]'"
    )
