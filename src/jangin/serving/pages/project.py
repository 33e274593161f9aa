"""The project that the pages are about, for those who may see it."""

from typing import Annotated

from fastapi import Depends

from jangin.serving.pages.visit import NothingYetError, PageError, VisitDep
from jangin.serving.state.project import OpenProject
from jangin.serving.state.server import Server


class Workbench:
    """Which project the pages of a server are about, if any."""

    def __init__(self, server: Server) -> None:
        """`server`: its setting `project` counts."""
        path = server.settings.project
        self.project = OpenProject(path) if path is not None else None


def find_project(visit: VisitDep) -> OpenProject:
    """The project, for someone who may see it.

    Raises:
        PageError: the server has none; its file does not exist yet; it belongs to others.

    """
    project = writable_project(visit)
    if not project.exists:
        raise NothingYetError("pages_project_not_written", path=project.path.name)
    visit.request.state.project_name = project.path.parent.name
    return project


def writable_project(visit: VisitDep) -> OpenProject:
    """As `find_project`, but its file need not exist yet."""
    workbench = visit.server.get(Workbench)
    if workbench.project is None:
        raise NothingYetError("pages_no_project")
    if not visit.server.settings.shows_project_to(visit.caller.project):
        raise PageError(403, "pages_not_yours")
    return workbench.project


ProjectDep = Annotated[OpenProject, Depends(find_project)]
"""`project: ProjectDep` as a parameter of a route function about an existing project."""
NewProjectDep = Annotated[OpenProject, Depends(writable_project)]
"""`project: NewProjectDep` where the project file need not exist yet."""
