"""`jangin search`: what the index finds for a question, and why."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption
from jangin.cli.results import print_outdated
from jangin.cli.terminal import console
from jangin.core.errors import DataError
from jangin.report.terminal.console import words

if TYPE_CHECKING:
    from jangin.documents.passages import PassageHit
    from jangin.report.i18n.translate import Words


def search(
    question: Annotated[str, typer.Argument(help="What to search for.")],
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most passages to show.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line for each passage, with its whole text.")
    ] = False,
) -> None:
    """Search the project's documents as training, evaluation and `jangin ask` do; show why.

    After a change of a document: `jangin run index`, which trains nothing.

    The score is a share of what any passage could reach for the question, 0 to 1. The project file
    needs `index:` under `documents:`.
    """
    from jangin.documents.index import open_passages
    from jangin.project.release.trained import last_made
    from jangin.project.session import open_session

    if not question.strip():
        raise DataError("the question is empty. Write what to search for.")
    with open_session(project, store, creates_store=False) as session:
        name = session.choose(variant)[-1]
        artifacts, outdated = last_made(session, name, "index")
        index = artifacts.get("index") or session.maker(name, "index")
        (hits,) = open_passages(index.path, session.services(name)).search([question], limit)
    if as_json:
        for rank, hit in enumerate(hits, 1):
            typer.echo(json.dumps(_fields(rank, hit), ensure_ascii=False))
        return
    print_outdated(outdated)
    say = words()
    if not any(hit.words for hit in hits):  # parts of words can be alike
        known = say("search_nothing")
        console.print(escape(f"{known} {say('search_alike')}" if hits else known), highlight=False)
    for rank, hit in enumerate(hits, 1):
        console.print(f"[bold]{rank}. {escape(origin(hit, say))}[/]", highlight=False)
        console.print(f"[dim]{escape(_why(hit, say))}[/]", highlight=False, soft_wrap=True)
        console.print(f"{escape(hit.text)}\n", highlight=False, soft_wrap=True)


def origin(hit: "PassageHit", say: "Words") -> str:
    """File, page and section of a passage."""
    chunk = hit.chunk
    page = say("page", page=chunk.page)
    return ", ".join(part for part in (chunk.source, page, chunk.section) if part)


def _why(hit: "PassageHit", say: "Words") -> str:
    """Scores and matched words."""
    parts = [say("search_score", score=f"{hit.score:.3f}")]
    if hit.similarity is not None:
        parts.append(say("search_similarity", similarity=f"{hit.similarity:.3f}"))
    if hit.words:
        parts.append(say("search_words", words=", ".join(hit.words)))
    return " · ".join(parts)


def _fields(rank: int, hit: "PassageHit") -> dict[str, object]:
    chunk = hit.chunk
    return {
        "rank": rank,
        "score": hit.score,
        "similarity": hit.similarity,
        "words": list(hit.words),
        "source": chunk.source,
        "page": chunk.page,
        "section": chunk.section,
        "chunk_id": chunk.id,
        "text": hit.text,
    }
