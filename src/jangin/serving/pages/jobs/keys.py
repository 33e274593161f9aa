"""`/keys`: keys and the audit log, for administrators."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select

from jangin.core.errors import DataError
from jangin.serving.pages.jobs.routes import room
from jangin.serving.pages.visit import PageError, Visit, VisitDep, needs
from jangin.serving.security.keys import DEFAULT_SCOPES, add_key, remove_key
from jangin.serving.state.caller import SCOPES
from jangin.serving.state.tables import Audit, Key

AUDIT = 50
MOST_NAME = 64
router = APIRouter(prefix="/keys", dependencies=needs("admin"))


def _sees_all(visit: Visit) -> bool:
    """True for administrators of the server's own project, who manage all projects."""
    return visit.server.settings.shows_project_to(visit.caller.project)


@router.get("")
def list_keys(visit: VisitDep, after: int = 0) -> Response:
    """The keys, and who changed what."""
    return _page(visit, after)


def _page(visit: Visit, after: int = 0, text: str = "", name: str = "") -> Response:
    keys, audit = select(Key).order_by(Key.rowid.desc()), select(Audit).order_by(Audit.rowid.desc())
    if not _sees_all(visit):
        keys = keys.where(Key.project == visit.caller.project)
        audit = audit.where(Audit.project == visit.caller.project)
    if after:
        audit = audit.where(Audit.rowid < after)
    with visit.server.database.read() as session:
        rows = list(session.scalars(keys))
        lines = list(session.scalars(audit.limit(AUDIT + 1)))
    more = len(lines) > AUDIT
    return room(
        visit,
        "keys.html.jinja",
        keys=rows,
        names={row.id: row.name for row in rows},
        lines=lines[:AUDIT],
        previous="/keys" if after else "",
        next=f"/keys?after={lines[AUDIT - 1].rowid}#audit" if more else "",
        scopes=SCOPES,
        usual=DEFAULT_SCOPES,
        project=visit.caller.project,
        sees_all=_sees_all(visit),
        text=text,
        new_name=name,
    )


@router.post("")
def create_key(
    visit: VisitDep,
    name: Annotated[str, Form(max_length=MOST_NAME)],
    scope: Annotated[list[str] | None, Form()] = None,
    project: Annotated[str, Form(max_length=MOST_NAME)] = "",
) -> Response:
    """Create a key and show it, once."""
    if not name.strip():
        raise DataError("the name of the key is empty. Write whose key it is, or what for.")
    owner = project.strip() if _sees_all(visit) and project.strip() else visit.caller.project
    with visit.server.database.write() as session:
        _, text = add_key(
            session,
            name=name.strip(),
            project=owner,
            scopes=scope or DEFAULT_SCOPES,
            now=visit.server.now(),
            by=visit.caller,
        )
    return _page(visit, text=text, name=name.strip())


@router.post("/revoke")
def revoke_key(visit: VisitDep, key: Annotated[str, Form()]) -> Response:
    """Refuse a key from now on."""
    with visit.server.database.write() as session:
        row = session.scalars(select(Key).where(Key.id == key)).first()
        if row is None or not (_sees_all(visit) or row.project == visit.caller.project):
            raise PageError(404, "jobs_no_key")
        folder = visit.server.settings.folder
        remove_key(session, key, visit.server.now(), folder, by=visit.caller)
    return RedirectResponse("/keys", 303)
