"""Files and uploads as objects of the API."""

from typing import Literal

from jangin.serving.protocol.objects import Reply
from jangin.serving.state.tables import File, Upload, UploadPart


class FileObject(Reply):
    """A stored file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str
    status_details: str | None

    @classmethod
    def of(cls, row: File) -> "FileObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)


class UploadObject(Reply):
    """A file that arrives in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None

    @classmethod
    def of(cls, row: Upload, file: File | None = None) -> "UploadObject":
        """The reply of a row, and of the file that a completed one became."""
        shown = None if file is None else FileObject.of(file)
        names = ("id", "bytes", "created_at", "expires_at", "filename", "purpose", "status")
        return cls(**{name: getattr(row, name) for name in names}, file=shown)


class PartObject(Reply):
    """Some bytes of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, row: UploadPart) -> "PartObject":
        """The reply of a row."""
        return cls.model_validate(row, from_attributes=True)
