"""A folder that plays an object store: keys, files, signatures. Reads and writes that folder.

A file is written when its object is first asked for; from then on the file is the truth, so that a test may
change, truncate or delete it and the host will serve just that.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl, quote

from ricloud_connector.emulator.model import Content, Draft

MAX_KEY_BYTES = 700
# Segments that are empty, one dot or two; controls; backslashes, which some clients turn round.
_UNPORTABLE = re.compile(r"(^|/)\.{0,2}(/|$)|[\x00-\x1f\x7f-\x9f\\]")


@dataclass(slots=True)
class StoredObject:
    """One object: where its bytes lie and whether they have been written yet."""

    file_name: str
    content: Content
    written: bool = False
    deleted: bool = False


class Bucket:
    """The objects of one bucket, by key. Safe to share between threads."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._lock = threading.RLock()
        self._objects: dict[str, StoredObject] = {}

    def put(self, key: str, id: str, content: Content, *, deleted: bool = False) -> None:
        """Makes the object exist. Its file name depends on the result's id alone, never on the key."""
        name = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:40]
        with self._lock:
            self._objects[key] = StoredObject(name, content, deleted=deleted)

    def get(self, key: str) -> StoredObject | None:
        return self._objects.get(key)

    def delete(self, key: str) -> None:
        """Removes the object's bytes for good; the key answers as if it had never been."""
        with self._lock:
            stored = self._objects[key]
            stored.deleted = True
            self._path_of(stored).unlink(missing_ok=True)

    def locate(self, key: str) -> Path:
        """The path of the object's file, written now if it never was. Absent after a deletion."""
        stored = self._objects[key]
        path = self._path_of(stored)
        if not stored.written:
            with self._lock:
                if not stored.written and not stored.deleted:
                    # Readers in other threads must never see half of it.
                    partial = path.with_suffix(".partial")
                    with partial.open("wb") as file:
                        stored.content.write(file)
                    partial.replace(path)
                    stored.written = True
        return path

    def open(self, key: str) -> BinaryIO:
        """The object's file, open for reading. Raises: FileNotFoundError where it was deleted."""
        return self.locate(key).open("rb")

    def _path_of(self, stored: StoredObject) -> Path:
        return self.folder / stored.file_name


def make_key(draft: Draft) -> str:
    """The object's key: the result's identifier in a folder of its own, as it is, where a URL can carry it."""
    folder = f"{draft.organisation}/{draft.created:%Y-%m-%d}/{draft.id}"
    key = f"{folder}/{draft.identifier}"
    if is_portable(key):
        return key
    # What a client would normalise on the way (dot segments) or cannot send gets a name of its own.
    return "unnamed/" + hashlib.sha256(str(draft.id).encode("utf-8", "surrogatepass")).hexdigest()


def is_portable(key: str) -> bool:
    """Whether a URL carries the key unchanged: no empty or dot segments, no controls, not too long."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return False
    return len(encoded) <= MAX_KEY_BYTES and _UNPORTABLE.search(key) is None


def make_entity_tag(status: os.stat_result, key: str) -> str:
    """The ETag of an object as it is now. Looks like an md5, and is not: that is how buckets are."""
    identity = f"{key}\n{status.st_size}\n{status.st_mtime_ns}\n{status.st_ino}"
    return f'"{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}"'


class Signer:
    """Signs and checks the URLs of one bucket. `origin` is that of the contents' host."""

    def __init__(self, origin: str, bucket: str, secret: bytes | None = None) -> None:
        self._origin = origin
        self._bucket = bucket
        self._secret = secrets.token_bytes(32) if secret is None else secret

    def sign(self, key: str, expires: int) -> str:
        """A URL that serves the object until `expires`, in seconds since 1970."""
        path = f"/{self._bucket}/{quote(key)}"
        return f"{self._origin}{path}?Expires={expires}&Signature={self._make_signature('GET', path, expires)}"

    def find_fault(self, method: str, path: str, query: str, now: float) -> tuple[str, str] | None:
        """Why a request for a decoded path is refused, as a code and a message; None where it is good."""
        given = dict(parse_qsl(query))
        expires, signature = given.get("Expires", ""), given.get("Signature", "")
        if not signature:
            return "AccessDenied", "Access Denied"
        if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
            return "AccessDenied", "Invalid date (should be seconds since epoch)"
        expected = self._make_signature(method, quote(path), int(expires))
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return "SignatureDoesNotMatch", "The request signature we calculated does not match the one you provided."
        if now >= int(expires):
            return "AccessDenied", "Request has expired"
        return None

    def _make_signature(self, method: str, path: str, expires: int) -> str:
        # The method is part of what is signed, as at a real bucket: a URL for GET refuses HEAD.
        return hmac.digest(self._secret, f"{method}\n{expires}\n{path}".encode(), "sha256").hex()


def find_expiry(now: float, lifetime_s: float) -> int:
    """The whole second until which a signature made now holds: no sooner than the lifetime, past where it is 0."""
    return math.ceil(now + lifetime_s) if lifetime_s > 0 else math.floor(now)
