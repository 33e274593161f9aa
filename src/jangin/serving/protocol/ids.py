"""Unguessable ids."""

import secrets
import string

ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """The prefix and random letters and digits, such as `file-cXoUIAvR950JwnmpR7Deuyni`."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(length))
