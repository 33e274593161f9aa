"""Sign cookies and forms with a secret that is stored in the server's folder."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer

from jangin.core.store import disk_errors

FILE = "pages.secret"
"""File in the server's folder, readable by its owner only."""


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """What the signed cookie of a browser says."""

    id: str
    key_id: str
    """The key that its user signed in with; `local` where the server asks for none."""
    name: str
    """Name of the reviewer; empty for the default."""


class Signer:
    """Cookies that only this server can write, and a text per session that its forms send back."""

    def __init__(self, folder: Path) -> None:
        """Read or create the secret of a server's folder; raises `StoreError` on a full disk."""
        self._secret = _secret(folder / FILE)
        self._cookies = URLSafeSerializer(self._secret, salt="jangin session")

    def cookie(self, session: BrowserSession) -> str:
        """The cookie of a session."""
        return str(self._cookies.dumps(asdict(session)))

    def session(self, cookie: str) -> BrowserSession | None:
        """The session of a cookie; None if this server did not write it."""
        try:
            return BrowserSession(**self._cookies.loads(cookie))
        except (BadSignature, TypeError):
            return None

    def form_token(self, session: BrowserSession) -> str:
        """What the forms of a session send back; pages of other sites do not know it."""
        message = f"form {session.id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    with disk_errors(path.parent):
        if not path.exists():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster
                os.link(partial, path)
            partial.unlink()
        return path.read_bytes()
