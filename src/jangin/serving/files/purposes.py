"""What files are for, and what that asks of them."""

from jangin.serving.protocol.errors import ApiError, invalid_value

UPLOADED = ("fine-tune", "batch", "evals", "user_data", "assistants", "vision")
"""Purposes that clients may give."""
JSON_LINES = frozenset({"fine-tune", "batch"})
"""Purposes of files with one JSON object per line."""
RESULTS = "fine-tune-results"
"""Purpose of the measurements of a job."""
LONGEST_NAME = 255


def check_purpose(purpose: str) -> None:
    """Raises `ApiError` where no client may give this purpose."""
    if purpose not in UPLOADED:
        raise invalid_value("purpose", purpose, UPLOADED)


def check_name(filename: str, purpose: str) -> None:
    """Raises `ApiError` where a file of this purpose cannot have this name.

    The name is only shown: it never becomes a path.
    """
    if not filename or len(filename) > LONGEST_NAME or not filename.isprintable():
        raise ApiError(
            400,
            f"Invalid 'filename': expected 1 to {LONGEST_NAME} printable characters.",
            param="filename",
            code="invalid_value",
        )
    if purpose in JSON_LINES and not filename.lower().endswith(".jsonl"):
        raise ApiError(
            400,
            f"Invalid file format for the purpose '{purpose}': '{filename}' must be a .jsonl file, "
            "with one JSON object per line.",
            param="file",
            code="invalid_file_format",
        )
