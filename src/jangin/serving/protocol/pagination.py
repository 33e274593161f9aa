"""Pages of lists: `limit`, `after` (exclusive) and `order`, newest first unless asked otherwise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query, Request
from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

from jangin.serving.protocol.errors import ApiError
from jangin.serving.state.tables import Row

T = TypeVar("T", bound=Row)
Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of a list a request wants."""

    limit: int
    after: str | None
    order: Order


def paging(default: int, maximum: int, first: Order = "desc") -> Callable[..., Paging]:
    """The dependency that reads `limit`, `after` and `order` of a list.

    `default`: limit of requests without one; `maximum`: largest limit; `first`: the usual order.
    """

    def read(
        limit: Annotated[int, Query(ge=1, le=maximum)] = default,
        after: str | None = None,
        order: Order = first,
    ) -> Paging:
        return Paging(limit, after or None, order)

    return read


JobPaging = Annotated[Paging, Depends(paging(20, 100))]
EventPaging = Annotated[Paging, Depends(paging(20, 1_000))]
CheckpointPaging = Annotated[Paging, Depends(paging(10, 100))]
PermissionPaging = Annotated[Paging, Depends(paging(10, 100))]
FilePaging = Annotated[Paging, Depends(paging(10_000, 10_000))]
BatchPaging = Annotated[Paging, Depends(paging(20, 100))]
ItemPaging = Annotated[Paging, Depends(paging(20, 100))]
OldestFirst = Annotated[Paging, Depends(paging(20, 100, "asc"))]


def with_metadata(query: Select[T], request: Request) -> Select[T]:
    """The query, limited to rows with the `metadata[k]=v` of a request, or without any."""
    column: Any = query.column_descriptions[0]["entity"].metadata_
    for name, value in request.query_params.multi_items():
        if name == "metadata" and value == "null":
            query = query.where(column.is_(None))
        elif name.startswith("metadata[") and name.endswith("]"):
            query = query.where(column[name[9:-1]].as_string() == value)
    return query


def page_of(session: Session, query: Select[T], paging: Paging) -> tuple[Sequence[T], bool]:
    """(rows of the page, whether there are more after them).

    `query` selects one table, already limited to what the caller may see: a cursor to another
    caller's row is unknown. The order is that of (created_at, rowid), which is total.

    Raises:
        ApiError: 400 where `after` is no id of the list.

    """
    table: Any = query.column_descriptions[0]["entity"]
    descending = paging.order == "desc"
    if paging.after is not None:
        cursor = session.execute(
            query.where(table.id == paging.after).with_only_columns(table.created_at, table.rowid)
        ).first()
        if cursor is None:
            raise _unknown_cursor(paging.after)
        query = query.where(_beyond(table, *cursor, descending=descending))
    columns = (table.created_at, table.rowid)
    ordered = query.order_by(*(c.desc() if descending else c.asc() for c in columns))
    rows = session.scalars(ordered.limit(paging.limit + 1)).all()
    return rows[: paging.limit], len(rows) > paging.limit


def page_of_list(items: Sequence[Mapping[str, Any]], paging: Paging) -> dict[str, Any]:
    """A page of objects with an `id` that are already read, oldest first; raises `ApiError`."""
    ordered = list(items) if paging.order == "asc" else list(reversed(items))
    names = [item["id"] for item in ordered]
    if paging.after is not None and paging.after not in names:
        raise _unknown_cursor(paging.after)
    start = 0 if paging.after is None else names.index(paging.after) + 1
    page = ordered[start : start + paging.limit]
    return {
        "object": "list",
        "data": page,
        "has_more": start + len(page) < len(ordered),
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _unknown_cursor(after: str) -> ApiError:
    return ApiError(
        400,
        f"Invalid 'after': no object of this list has the id '{after}'.",
        param="after",
        code="invalid_value",
    )


def _beyond(table: Any, created_at: int, rowid: int, *, descending: bool) -> Any:
    if descending:
        later = table.rowid < rowid
        return or_(table.created_at < created_at, and_(table.created_at == created_at, later))
    later = table.rowid > rowid
    return or_(table.created_at > created_at, and_(table.created_at == created_at, later))


def page_fields(rows: Sequence[Row], has_more: bool) -> dict[str, Any]:
    """The fields of a page beside `data`: `has_more`, `first_id`, `last_id`."""
    return {
        "has_more": has_more,
        "first_id": rows[0].id if rows else None,
        "last_id": rows[-1].id if rows else None,
    }
