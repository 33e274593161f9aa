"""Objects below a prefix of a bucket, on a server that speaks S3; writes may have a condition.

obstore reads the usual environment variables: `AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`. Credentials that are in none of
them, nor in the options, are those of botocore, if it is installed: profiles and roles.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError

URL = re.compile(r"s3://([^/\s]+)/?(\S*)")
BLOCK = 8 << 20
"""Bytes that one request sends or fetches at most."""
_MOST_PARTS = 9_000
"""S3 takes at most 10,000 parts of one object."""
_KEYS = frozenset(
    {
        "access_key_id",
        "skip_signature",
        "container_credentials_relative_uri",
        "container_credentials_full_uri",
        "web_identity_token_file",
    }
)
"""Settings that say where obstore gets credentials; some of the environment are for it alone."""
_METADATA = "169.254.169.254"
"""Where machines of AWS ask for their credentials; others have no such address."""
_HOW = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or `store_options` in the "
    "project file."
)
Options = Mapping[str, str | bool | int]


def open_bucket(url: str, options: Options) -> "Bucket":
    """The prefix of a bucket; nothing is sent yet.

    Raises: ConfigError: an option is unknown, or there are no credentials. MachineError: obstore is
    not installed.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ModuleNotFoundError as error:
        raise MachineError(
            f"store: {url} needs the package obstore. Install it with: pip install 'jangin[s3]'"
        ) from error
    match = URL.fullmatch(url)
    if match is None:
        raise ConfigError(f"store: {url!r} is no URL of a bucket. Write s3://BUCKET/PREFIX.")
    names = {name.lower().removeprefix("aws_"): str(value) for name, value in options.items()}
    environment = {
        name.lower().removeprefix("aws_"): value
        for name, value in os.environ.items()
        if name.startswith("AWS_") and value
    }
    plain = any(
        name.startswith("endpoint") and value.startswith("http://")
        for name, value in {**environment, **names}.items()
    )
    given: dict[str, Any] = {}
    if not _KEYS & {*names, *environment}:
        given["credential_provider"] = _provider(url)
    try:
        store = S3Store(
            match[1],
            prefix=match[2].strip("/") or None,
            config=dict(options),
            client_options={"allow_http": plain, "connect_timeout": "5s", "timeout": "120s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
            **given,
        )
    except (BaseError, ValueError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"store: {url} cannot be opened: {reason}. Correct `store_options`."
        ) from error
    return Bucket(store, url)


def _provider(url: str) -> "Callable[[], dict[str, Any]] | None":
    """Gives the credentials that botocore knows; None without botocore."""
    try:
        import botocore.exceptions
        import botocore.session
    except ModuleNotFoundError:
        return None
    try:
        credentials = botocore.session.Session().get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise ConfigError(f"there are no credentials for {url}: {error}. {_HOW}") from error
    if credentials is None:
        raise ConfigError(f"there are no credentials for {url}. {_HOW}")

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # Asked again after this time; botocore renews them where they expire.
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }

    return provide


@dataclass(frozen=True, slots=True)
class Bucket:
    """Objects by their names below a prefix.

    Every method raises `StoreError` where the server cannot be reached, and `ConfigError` where
    it has no such bucket or refuses the credentials.
    """

    store: Any
    """An object store of obstore."""
    url: str

    def read(self, name: str) -> tuple[bytes, str] | None:
        """(content, ETag) of an object, or None."""
        import obstore

        with suppress(FileNotFoundError), self._answers():
            result = obstore.get(self.store, name)
            return bytes(result.bytes()), str(result.meta["e_tag"])
        return None

    def create(self, name: str, content: bytes) -> str | None:
        """Write an object that does not exist yet; returns its ETag, or None if it exists."""
        return self._put(name, content, "create")

    def replace(self, name: str, content: bytes, etag: str) -> str | None:
        """Write an object that still has this ETag; returns the new one, or None if it changed."""
        return self._put(name, content, {"e_tag": etag})

    def _put(self, name: str, content: bytes, mode: Any) -> str | None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with suppress(AlreadyExistsError, PreconditionError), self._answers():
            return str(obstore.put(self.store, name, content, mode=mode)["e_tag"])
        return None

    def size(self, name: str) -> int | None:
        """Bytes of an object, or None where there is none."""
        import obstore

        with suppress(FileNotFoundError), self._answers():
            return int(obstore.head(self.store, name)["size"])
        return None

    def changed(self, name: str) -> datetime:
        """When an object was last written, by the clock of the server."""
        import obstore

        with self._answers():
            moment: datetime = obstore.head(self.store, name)["last_modified"]
        return moment

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whether it exists or not."""
        import obstore

        with self._answers():
            obstore.put(self.store, name, content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        import obstore

        with self._answers():
            obstore.delete(self.store, name)

    def delete_below(self, folder: str, before: datetime | None = None) -> None:
        """Delete the objects below a folder, or those of them last written before a moment."""
        import obstore

        with self._answers():
            for batch in obstore.list(self.store, prefix=folder, chunk_size=1000):
                names = [
                    each["path"]
                    for each in batch
                    if before is None or each["last_modified"] < before
                ]
                if names:
                    obstore.delete(self.store, names)

    def upload(self, path: Path, name: str, sent: Callable[[int], None]) -> None:
        """Write an object from a file; half of one is never there. `sent` gets numbers of bytes."""
        import obstore

        size = path.stat().st_size
        if size <= BLOCK:
            self.write(name, path.read_bytes())
            sent(size)
            return
        step = max(BLOCK, size // _MOST_PARTS + 1)
        with path.open("rb") as stream, self._answers():

            def blocks() -> Iterator[bytes]:
                while block := stream.read(step):
                    yield block
                    sent(len(block))

            obstore.put(self.store, name, blocks(), chunk_size=step, max_concurrency=3)

    def download(self, name: str, size: int, path: Path, received: Callable[[int], None]) -> str:
        """Write an object of `size` bytes to a file; returns the sha256 of what was received.

        Raises `FileNotFoundError` where there is no such object.
        """
        import obstore

        digest = hashlib.sha256()
        with path.open("wb") as stream:
            for start in range(0, size, BLOCK):
                with self._answers():
                    end = min(start + BLOCK, size)
                    block = bytes(obstore.get_range(self.store, name, start=start, end=end))
                stream.write(block)
                digest.update(block)
                received(len(block))
        return digest.hexdigest()

    def check_conditions(self) -> None:
        """Try that the server honours conditional writes.

        Some servers ignore the conditions, and then two runs could overwrite each other's results.

        Raises: ConfigError: it does not. StoreError: it cannot be reached.
        """
        name = f"probe-{secrets.token_hex(8)}"
        first = self.create(name, b"1")
        try:
            honoured = (
                first is not None
                and self.create(name, b"2") is None
                and (second := self.replace(name, b"3", first)) is not None
                and self.replace(name, b"4", first) is None
                and self.read(name) == (b"3", second)
            )
        finally:
            with suppress(JanginError):  # keys that may not delete: the next line matters more
                self.delete(name)
        if not honoured:
            raise ConfigError(
                f"the server of {self.url} ignores the conditions of writes (If-None-Match and "
                "If-Match), so two runs could overwrite each other's results. Use a server that "
                "honours them, or leave out `store`."
            )

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn errors of the server or the network into ours, except failed preconditions."""
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            NotSupportedError,
            PermissionDeniedError,
            PreconditionError,
            UnauthenticatedError,
        )

        try:
            yield
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            if "NoSuchBucket" in str(error):
                raise ConfigError(
                    f"{self.url}: there is no such bucket. Create it, or correct `store` in the "
                    "project file."
                ) from error
            raise
        except NotSupportedError as error:
            raise StoreError(f"the server of {self.url} lacks this: {_reason(error)}.") from error
        except (UnauthenticatedError, PermissionDeniedError) as error:
            raise ConfigError(
                f"the server of {self.url} refuses the credentials: {_reason(error)}. They must "
                "allow to list, read, write and delete objects there."
            ) from error
        except BaseError as error:
            if _METADATA in str(error):
                raise ConfigError(f"there are no credentials for {self.url}. {_HOW}") from error
            raise StoreError(
                f"{self.url} cannot be reached: {_reason(error)}. Check the endpoint and the "
                "network and run again; finished work is kept on this machine."
            ) from error


def _reason(error: Exception) -> str:
    """The message of a server or of the network in the long text of obstore."""
    text = str(error)
    said = re.search(r"<Message>([^<]+)</Message>", text)
    if said is not None:
        return said[1].strip().rstrip(".")
    kind = re.search(r"kind: (Connect|Timeout)", text)
    if kind is not None:
        return {"Connect": "no connection", "Timeout": "no answer in time"}[kind[1]]
    first = text.strip().partition("\n")[0]
    return first.rpartition(" - ")[2].strip().rstrip(".:")[:200]
