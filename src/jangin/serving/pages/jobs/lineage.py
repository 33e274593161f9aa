"""Models as a tree: from which model each was tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from jangin.models.catalog import name_of
from jangin.serving.models.bases import TUNED, base_part
from jangin.serving.state.caller import Caller
from jangin.serving.state.registry import ServedModel
from jangin.serving.state.settings import ModelEntry
from jangin.serving.state.tables import Job, Permission, StoredModel

CHECKPOINT = ":ckpt-step-"


@dataclass(slots=True)
class ModelNode:
    """A model, and what was tuned from it."""

    name: str
    kind: str
    """`base`, `adapter`, `full` or `checkpoint`."""
    note: str = ""
    """The local model behind an alias."""
    created: int = 0
    """Unix seconds; 0 for a base."""
    job_id: str = ""
    owned: bool = False
    """Whether it belongs to the caller's project and can be deleted."""
    suffix: str = ""
    children: "list[ModelNode]" = field(default_factory=list)


def model_tree(
    session: Session,
    caller: Caller,
    aliases: Mapping[str, ModelEntry],
    of_project: list[ServedModel],
) -> list[ModelNode]:
    """The models that a caller may use: bases, and under each what was tuned from it.

    `of_project`: the finished variants of the server's project and their bases.
    """
    bases = {name: ModelNode(name, "base", name_of(entry.base)) for name, entry in aliases.items()}
    tuned = _tuned(session, caller)
    for model in of_project:
        if not model.variant:
            bases.setdefault(model.name, ModelNode(model.name, "base"))
    for name, (node, parent, base) in tuned.items():
        final = name.partition(CHECKPOINT)[0]
        above = tuned.get(final) if final != name else tuned.get(parent)
        trunk = above[0] if above else bases.setdefault(base, ModelNode(base, "base"))
        trunk.children.append(node)
    for model in of_project:
        if model.variant:
            node = ModelNode(model.name, model.kind, model.variant, model.created)
            base = base_part(model.name)
            bases.setdefault(base, ModelNode(base, "base")).children.append(node)
    return list(bases.values())


def _tuned(session: Session, caller: Caller) -> dict[str, tuple[ModelNode, str, str]]:
    """{name: (node, parent, base)} of the stored models that a caller may use, newest first."""
    shared = select(Permission.model).where(Permission.project == caller.project)
    query = (
        select(StoredModel, Job.model)
        .join(Job, Job.id == StoredModel.job_id, isouter=True)
        .where(
            StoredModel.deleted_at.is_(None),
            or_(StoredModel.project == caller.project, StoredModel.name.in_(shared)),
        )
        .order_by(StoredModel.created_at.desc(), StoredModel.rowid.desc())
    )
    rows = {}
    for row, asked_model in session.execute(query):
        is_own = row.project == caller.project
        kind = "checkpoint" if CHECKPOINT in row.name else row.kind
        base = str(asked_model or "")
        node = ModelNode(
            row.name, kind, "", row.created_at, (row.job_id or "") if is_own else "", is_own
        )
        is_base = base and not base.startswith(TUNED)
        rows[row.name] = (node, row.parent or "", base if is_base else base_part(row.name))
    return rows
