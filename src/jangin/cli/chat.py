"""`jangin chat`: a conversation with the tuned model, the source under each answer."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from jangin.cli.model import PassagesOption, print_notes, print_passages, print_source
from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption, user_name
from jangin.cli.terminal import console, errors
from jangin.core.errors import JanginError
from jangin.report.terminal.console import heading, said, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from jangin.core.records import Message
    from jangin.inference.ask import Trace
    from jangin.inference.dialogue import Dialogue
    from jangin.inference.taught_form import History
    from jangin.project.session import Session

HELP = """\
/new                         a new conversation
/base                        the base model's answer to the last question
/save question [ANSWER]      keep the last question for testing, with the right answer
/save example [ANSWER]       train on the last question, with the right answer
                             --all before ANSWER keeps the whole conversation
/history auto|all|none       which earlier turns the model gets: those it was taught, all, none
/variant NAME                the model of another variant
/quit                        leave; so does Ctrl-D. Ctrl-C stops an answer."""
PROMPT = "> "
CONTROLS = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}
"""Control characters, which a model could write to a terminal."""


def chat(
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of tokens in an answer.")
    ] = 256,
    history: Annotated[
        Literal["auto", "all", "none"],
        typer.Option(
            help="Earlier turns that the model gets. auto: none if it was taught single questions."
        ),
    ] = "auto",
    passages: PassagesOption = True,
) -> None:
    """Talk to the tuned model; every answer is followed by the page that taught it.

    A model that was trained with passages answers from what the newest index finds for the last
    question; it is shown below the answer, as with `jangin ask`.

    Without a terminal, each line of the input is a question or a command; the exit code is that of
    the last error.
    """
    from jangin.project.session import open_session

    interactive, exit_code = sys.stdin.isatty(), 0
    with open_session(project, store, creates_store=False) as session:
        name = session.choose(variant)[-1]
        conversation = Conversation(session, name, max_new_tokens, history, passages=passages)
        if interactive:
            console.print(
                f"{conversation.title}. {said('/help lists the commands.')}", highlight=False
            )
        for line in _lines(interactive=interactive):
            if line == "/quit":
                break
            try:
                conversation.take(line)
            except JanginError as error:
                text = escape(said(str(error)))
                errors.print(f"[red]{heading('error:')}[/] {text}", highlight=False)
                exit_code = error.exit_code
            except KeyboardInterrupt:
                console.print(f"\n[yellow]{said('Stopped.')}[/]")
    if not interactive:
        raise typer.Exit(exit_code)


def _lines(*, interactive: bool) -> Iterator[str]:
    """What the user types, or the lines of a pipe; without empty ones."""
    if not interactive:
        yield from filter(None, (line.strip() for line in sys.stdin))
        return
    import readline  # noqa: F401  # gives `input` its editing and history

    while True:
        try:
            line = input(PROMPT).strip()
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            console.print(f"\n{said('/quit leaves.')}", highlight=False)
            continue
        if line:
            yield line


class Conversation:
    """The messages so far, and the commands on them."""

    def __init__(
        self,
        session: "Session",
        variant: str,
        max_new_tokens: int,
        history: "History" = "auto",
        *,
        passages: bool = True,
    ) -> None:
        self._session = session
        self._searches = passages
        self._max_new_tokens = max_new_tokens
        self._history = history
        self._said = False
        """Whether this conversation was told that earlier turns are not sent."""
        self._turns: list[Message] = []
        """Questions and answers in turn; after a stopped answer its question is dropped."""
        self._open(variant)

    @property
    def title(self) -> str:
        """Which model this is."""
        return f"{escape(self._session.project.name)} / {escape(self.variant)}"

    def take(self, line: str) -> None:
        """Answer a question, or do what a command says."""
        command, _, rest = line.partition(" ")
        if not line.startswith("/"):
            self._answer(line)
        elif command == "/new":
            self._turns.clear()
            self._said = False
            console.print(said("a new conversation"), style="dim")
        elif command == "/base":
            self._answer_of_base()
        elif command == "/save":
            self._save(rest.strip())
        elif command == "/history":
            self._choose_history(rest.strip())
        elif command == "/variant" and rest.strip():
            self._open(self._session.choose(rest.strip())[0])
            console.print(self.title, highlight=False)
        else:
            console.print(said(HELP), markup=False, highlight=False)

    def _open(self, variant: str) -> None:
        self.variant = variant
        from jangin.project.release.trained import open_trained

        trained = open_trained(self._session, variant)
        self._dialogue: Dialogue = trained.dialogue(passages=self._searches)
        self._newest = trained.passages
        self._confidence: Callable[[Trace], str] = trained.confidence(self._dialogue.taught)
        print_notes(trained.outdated, self._dialogue)
        self._turns.clear()
        self._said = False

    def _choose_history(self, word: str) -> None:
        """Choose which earlier turns are sent from now on, or say what is chosen."""
        words: dict[str, History] = {"auto": "auto", "all": "all", "none": "none"}
        self._history = words.get(word, self._history)
        self._said = False
        _say(f"history: {self._history}")

    def _answer(self, question: str) -> None:
        from jangin.core.records import Message

        turns = [*self._turns, Message(role="user", content=question)]
        if not self._said and self._dialogue.left_out(turns, self._history).turns:
            self._said = True
            _say(_not_sent(self._history))
        if self._searches:
            self._dialogue.passages = self._newest()
        answer = self._stream(turns, base=False)
        self._turns = [*turns, Message(role="assistant", content=answer)]
        reply, hits = self._dialogue.reply(question, answer), self._dialogue.search(question)
        reads = self._dialogue.passage_prompt is not None
        if reply.sourced and not (reads and hits):
            print_source(reply.trace, self._confidence(reply.trace))
        if hits:
            print_passages(hits, answer, reads=reads)

    def _answer_of_base(self) -> None:
        if not self._turns:
            console.print(said("there is no question yet"), style="dim")
            return
        console.print(f"{words().system('base')}: ", style="dim", end="")
        self._stream(self._turns[:-1], base=True)

    def _stream(self, turns: "list[Message]", *, base: bool) -> str:
        """Print the answer as it comes; returns it."""
        pieces = []
        style = "dim" if base else "bold"
        for piece in self._dialogue.stream(
            turns, self._max_new_tokens, base=base, history=self._history
        ):
            pieces.append(piece)
            shown = piece.translate(CONTROLS)
            console.print(shown, style=style, end="", markup=False, highlight=False, soft_wrap=True)
        console.print() if pieces else console.print(said("(no answer)"), style="dim")
        return "".join(pieces)

    def _save(self, rest: str) -> None:
        """Write the last exchange into the project's own file of examples or test questions."""
        from jangin.core.records import Message
        from jangin.examples.formats.additions import add_row

        word, _, right = rest.partition(" ")
        right = right.strip()
        whole = right == "--all" or right.startswith("--all ")
        right = right.removeprefix("--all").strip() if whole else right
        kinds: dict[str, Literal["example", "question"]] = {
            "example": "example",
            "question": "question",
        }
        if word not in kinds or not self._turns:
            text = "/save question or /save example, after an answer; then the right answer, if "
            console.print(said(f"{text}that was not right"), style="dim", highlight=False)
            return
        *before, given = self._turns
        answer = Message(role="assistant", content=right or given.content)
        asked_as = self._dialogue.prompt(before if whole else before[-1:], "all")
        saved = add_row(
            self._session.project.folder,
            kinds[word],
            (*asked_as, answer),
            self.variant,
            user_name(),
        )
        then = "trains on it" if word == "example" else "asks it in the test set"
        _say(f"saved in {saved.path}; the next jangin run {then}")
        for turn in (*(before if whole else before[-1:]), answer):
            _say(f"  {heading('question' if turn.role == 'user' else 'answer')}: {turn.content}")
        if saved.replaced is not None:
            was = "" if saved.replaced == word else f"; it was a saved {saved.replaced}"
            _say(f"  replaces the answer saved before: {saved.old_answer}{was}")


def _not_sent(history: "History") -> str:
    if history == "none":
        return "the earlier turns are not sent (history: none)"
    return (
        "the earlier turns are not sent: this model was taught on single questions. "
        "/history all sends them"
    )


def _say(text: str) -> None:
    console.print(escape(said(text)), style="dim", highlight=False, soft_wrap=True)
