"""Who calls, and what they may see: every route of `/v1` gets its caller from here."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy import Select
from sqlalchemy.orm import Session

from jangin.serving.protocol.context import address_of
from jangin.serving.protocol.errors import ApiError
from jangin.serving.security.keys import PREFIX, caller_of_key, is_stale, note_use
from jangin.serving.state.caller import LOCAL_CALLER, Caller
from jangin.serving.state.server import Server, ServerDep
from jangin.serving.state.tables import Owned

log = logging.getLogger("jangin.serving")
T = TypeVar("T", bound=Owned)


def find_caller(request: Request, server: ServerDep) -> Caller:
    """The caller of a request.

    On loopback any text will do: a key of `jangin keys add` counts as what it is, any other as the
    project `local`. Text that looks like such a key and is none (removed or mistyped) is refused,
    because its owner expects another project. Elsewhere, or with `require_keys`, only keys of
    `jangin keys add` are accepted.

    The server's own requests, such as those of batches, carry their caller; see
    `protocol/internal.py`.

    Raises:
        ApiError: 401 `invalid_api_key`.

    """
    if isinstance(known := getattr(request.state, "caller", None), Caller):
        return known
    if isinstance(refusal := getattr(request.state, "refusal", None), ApiError):
        raise refusal
    try:
        request.state.caller = caller = _caller_of_header(request, server)
    except ApiError as error:
        request.state.refusal = error
        raise
    return caller


def is_known(request: Request, server: Server) -> bool:
    """Whether `find_caller` finds one."""
    with suppress(ApiError):
        find_caller(request, server)
        return True
    return False


def _caller_of_header(request: Request, server: Server) -> Caller:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise ApiError(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            code="invalid_api_key",
        )
    with server.database.read() as session:
        known = caller_of_key(session, key)
    if known is not None:
        caller, row = known
        if is_stale(row, server.now()):
            with server.database.write() as session:
                note_use(session, row.id, server.now())
        return caller
    if server.settings.needs_keys or key.startswith(PREFIX):
        log.info("refused the key %s from %s", _masked(key), address_of(request.scope))
        raise ApiError(401, f"Incorrect API key provided: {_masked(key)}.", code="invalid_api_key")
    return LOCAL_CALLER


CallerDep = Annotated[Caller, Depends(find_caller)]
"""`caller: CallerDep` as a parameter of a route function."""


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency that refuses keys without a scope."""

    scope: str

    def __call__(self, caller: CallerDep) -> None:
        """Raises `ApiError`."""
        if not caller.may(self.scope):
            raise ApiError(
                403,
                "You have insufficient permissions for this operation. Missing scopes: "
                f"{self.scope}.",
            )


def scopes_of(route: APIRoute) -> tuple[str, ...]:
    """The scopes that a key needs for a route, all of them; () where it needs none."""
    scopes = (getattr(depends.dependency, "scope", "") for depends in route.dependencies)
    return tuple(dict.fromkeys(scope for scope in scopes if scope))


def visible(query: Select[T], caller: Caller) -> Select[T]:
    """The query, limited to rows of the caller's project."""
    table: Any = query.column_descriptions[0]["entity"]
    return query.where(table.project == caller.project)


def one_visible(session: Session, query: Select[T], caller: Caller, missing: ApiError) -> T:
    """The only row of a query that the caller may see; raises `missing` if there is none."""
    row = session.scalars(visible(query, caller)).first()
    if row is None:
        raise missing
    return row


def _masked(key: str) -> str:
    return key if len(key) <= 8 else f"{key[:3]}{'*' * 8}{key[-4:]}"
