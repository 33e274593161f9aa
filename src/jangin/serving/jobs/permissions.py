"""`/v1/fine_tuning/checkpoints/{model}/permissions`: other projects that may use a model."""

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import Session

from jangin.serving.jobs.routes import PermissionObject, PermissionRequest
from jangin.serving.protocol.errors import no_such, no_such_model
from jangin.serving.protocol.objects import BoundedList, Deleted, new_id
from jangin.serving.protocol.pagination import PermissionPaging, page_fields, page_of
from jangin.serving.security.access import CallerDep
from jangin.serving.security.audit import record
from jangin.serving.state.caller import Caller
from jangin.serving.state.server import ServerDep
from jangin.serving.state.tables import Permission, StoredModel

router = APIRouter(prefix="/fine_tuning/checkpoints")


@router.get("/{model:path}/permissions")
def list_permissions(
    model: str,
    server: ServerDep,
    caller: CallerDep,
    paging: PermissionPaging,
    project_id: str | None = None,
) -> BoundedList[PermissionObject]:
    """The projects that may use a model of the caller's project."""
    with server.database.read() as session:
        _check_owner(session, caller, model)
        query = select(Permission).where(Permission.model == model)
        if project_id is not None:
            query = query.where(Permission.project == project_id)
        rows, has_more = page_of(session, query, paging)
    data = [PermissionObject.of(row) for row in rows]
    return BoundedList(data=data, **page_fields(rows, has_more))


@router.post("/{model:path}/permissions")
def create_permissions(
    model: str, body: PermissionRequest, server: ServerDep, caller: CallerDep
) -> BoundedList[PermissionObject]:
    """Let other projects use a model."""
    with server.database.write() as session:
        _check_owner(session, caller, model)
        rows = []
        for project in dict.fromkeys(body.project_ids):
            query = select(Permission).where(
                Permission.model == model, Permission.project == project
            )
            row = session.scalars(query).first()
            if row is None:
                row = Permission(
                    id=new_id("cp_"), model=model, created_at=server.now(), project=project
                )
                session.add(row)
                record(session, caller, "permission.create", row.id, server.now())
            rows.append(row)
    data = [PermissionObject.of(row) for row in rows]
    return BoundedList(data=data, **page_fields(rows, has_more=False))


@router.delete("/{model:path}/permissions/{permission_id}")
def delete_permission(
    model: str, permission_id: str, server: ServerDep, caller: CallerDep
) -> Deleted:
    """Take a permission back."""
    with server.database.write() as session:
        _check_owner(session, caller, model)
        query = select(Permission).where(Permission.id == permission_id, Permission.model == model)
        row = session.scalars(query).first()
        if row is None:
            raise no_such("checkpoint.permission", permission_id, "permission_id")
        session.delete(row)
        record(session, caller, "permission.delete", permission_id, server.now())
    return Deleted(id=permission_id, object="checkpoint.permission")


def _check_owner(session: Session, caller: Caller, model: str) -> None:
    """Raises `ApiError` 404 unless the model is one of the caller's project."""
    query = select(StoredModel.rowid).where(
        StoredModel.name == model,
        StoredModel.project == caller.project,
        StoredModel.deleted_at.is_(None),
    )
    if session.scalar(query) is None:
        raise no_such_model(model)
