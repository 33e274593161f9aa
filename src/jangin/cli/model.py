"""`jangin ask`, `merge`, `finish`, `publish`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from jangin.cli.options import HERE, LastVariantOption, ProjectOption, StoreOption
from jangin.cli.search import origin
from jangin.cli.terminal import console, errors
from jangin.core.errors import counted
from jangin.report.terminal.console import said, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jangin.core.events import Progress
    from jangin.documents.passages import PassageHit
    from jangin.inference.ask import Trace
    from jangin.inference.dialogue import Dialogue
    from jangin.project.session import Session
    from jangin.report.i18n.translate import Words


PassagesOption = Annotated[
    bool,
    typer.Option("--passages/--no-passages", help="Search the documents for the question."),
]


def ask(
    question: Annotated[str, typer.Argument(help="Question for the tuned model.")],
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum number of tokens in the answer.")
    ] = 64,
    passages: PassagesOption = True,
) -> None:
    """Ask the tuned model, and show the page that the answer was learned from.

    A model that was trained with passages answers from what the index finds, and that is shown; for
    any other model, an index shows beside the answer what the documents say.
    """
    from jangin.core.records import Message
    from jangin.project.release.trained import open_trained
    from jangin.project.session import open_session

    with open_session(project, store, creates_store=False) as session:
        *others, name = session.choose(variant)
        trained = open_trained(session, name)
        dialogue = trained.dialogue(passages=passages)
        print_notes(trained.outdated, dialogue)
        answer = dialogue.answer([Message(role="user", content=question)], max_new_tokens)
        reply = dialogue.reply(question, answer)
        confidence = trained.confidence(dialogue.taught)
        sure = confidence(reply.trace) if reply.sourced else ""
        hits, reads = dialogue.search(question), dialogue.passage_prompt is not None
    if others:
        text = f"answered by variant {name}; for another, use --variant {' or '.join(others)}"
        errors.print(escape(text), style="dim", highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(reply.answer)}[/]", highlight=False)
    if reply.sourced and not (reads and hits):
        print_source(reply.trace, sure)
    if hits:
        print_passages(hits, answer, reads=reads)


def print_passages(hits: "Sequence[PassageHit]", answer: str, *, reads: bool) -> None:
    """The passages of an answer: file, page, section and a quotation of each."""
    from jangin.documents.passages import quotation

    say = words()
    heading = say("terminal_read" if reads else "terminal_documents_say")
    console.print(escape(heading), highlight=False)
    for number, hit in enumerate(hits, 1):
        console.print(f"[{number}] {origin(hit, say)}", highlight=False, markup=False)
        console.print(f"    [dim]{escape(quotation(hit, answer))}[/]", highlight=False)


def print_notes(outdated: str, dialogue: "Dialogue") -> None:
    """Before an answer: that the model is not up to date, and how questions are sent."""
    if outdated:
        text = f"{outdated} The next jangin run trains it again"
        errors.print(f"[yellow]![/] {escape(said(text))}", highlight=False, soft_wrap=True)
    if dialogue.passage_prompt is not None and dialogue.passages is None:
        text = "the model was trained to read passages and gets none, so it may know nothing"
        errors.print(f"[yellow]![/] {escape(said(text))}", highlight=False, soft_wrap=True)
    if dialogue.sent_unchanged:
        text = f"questions are sent as they are; the model was trained on {dialogue.pattern!r}"
        errors.print(escape(said(text)), style="dim", highlight=False, soft_wrap=True)


def print_source(trace: "Trace", confidence: str) -> None:
    """The page that taught the answer or what was taught instead, and how sure that is."""
    example, say = trace.example, words()
    note = escape(_note(trace, say))
    console.print(note if trace.status == "taught" else f"[yellow]{note}[/]", highlight=False)
    quoted = "" if example is None else example.evidence
    if trace.status in ("differs", "reworded") and example is not None:
        quoted = say("terminal_taught_question", question=example.question)
    if quoted:
        console.print(f"[dim]{escape(quoted)}[/]", highlight=False)
    if confidence and trace.status != "withheld":
        console.print(f"[dim]{escape(say.reason(confidence))}[/]", highlight=False)


def _note(trace: "Trace", say: "Words") -> str:
    """Where the answer was learned, or what was taught instead."""
    example = trace.example
    if example is None:
        return say("terminal_invented")
    page = say("page", page=example.page) if example.page and say.language == "ko" else ""
    if say.language == "en":
        page = f"page {example.page}" if example.page else ""
    origin = ", ".join(part for part in (example.source, page, example.section) if part)
    if trace.status == "taught":
        return say("terminal_taught", origin=origin) if origin else say("terminal_no_source")
    keys = {"withheld": "terminal_withheld", "reworded": "terminal_reworded"}
    key = keys.get(trace.status, "terminal_differs")
    return say(key, answer=example.answer, origin=f" ({origin})" if origin else "")


OutputArgument = Annotated[Path, typer.Argument(help="Folder to create.")]
FormOption = Annotated[
    Literal["merged", "adapter", "gguf"],
    typer.Option("--format", "-f", help="Full weights, the adapter alone, or GGUF for llama.cpp."),
]
QuantizeOption = Annotated[
    Literal["f32", "bf16", "f16", "q8_0", "q4_k_m"] | None,
    typer.Option(help="How GGUF stores the weights; default: as the model has them."),
]


def _check_quantize(form: str, quantize: str | None) -> None:
    if quantize is not None and form != "gguf":
        raise typer.BadParameter("--quantize is for --format gguf.")


def merge(
    output: OutputArgument,
    form: FormOption = "merged",
    quantize: QuantizeOption = None,
    questions: Annotated[
        int,
        typer.Option(
            min=0, help="Evaluation questions that a GGUF file is asked, where llama.cpp is there."
        ),
    ] = 100,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
) -> None:
    """Export the tuned model for use in other programs, and check that its answers are the same."""
    from jangin.project.release.finish import canaries, run_record
    from jangin.project.session import open_session
    from jangin.report.terminal.progress import Bars
    from jangin.training.export.export import export_model

    _check_quantize(form, quantize)
    with Bars() as bars, open_session(project, store, bars, creates_store=False) as session:
        name = session.choose(variant)[-1]
        base, model = session.maker(name, "base").path, session.maker(name, "model").path
        record, prompts = run_record(session, name), canaries(session, name)
        report = export_model(
            base, model, output, form, record, prompts, quantize=quantize, progress=bars
        )
        session.wrote(output)
        crash = report.crash
        if form == "gguf" and not crash:
            crash = _print_cost(session, name, output, questions, bars)
    done = (
        f"{form} model of {name} in {output}; answers checked on "
        f"{counted(len(prompts), 'training question')}"
    )
    console.print(escape(said(done)))
    _print_crash(crash)


def _print_cost(
    session: "Session", variant: str, output: Path, questions: int, progress: "Progress"
) -> str:
    """What the GGUF file costs in points, where llama.cpp is there; why it crashed, or empty."""
    from jangin.inference.llama_cpp import LlamaCppCrashError, has_llama_cpp
    from jangin.project.release.quantization import measure_gguf

    if not questions or not has_llama_cpp():
        return ""
    file = output / f"{output.name}.gguf"
    try:
        rows = measure_gguf(session, variant, file, questions, progress)
    except LlamaCppCrashError as error:
        return str(error)
    for row in rows:
        text = (
            f"{row.evidence_set}: {row.right_b:.1%} right in this file, {row.right_a:.1%} "
            f"before ({counted(row.n, 'question')}, p = {row.p_value:.3g})"
        )
        console.print(escape(said(text)))
    return ""


def _print_crash(crash: str) -> None:
    if crash:
        text = f"The GGUF file was written, and not compared with the trained model: {crash}"
        errors.print(f"[yellow]{escape(said(text))}[/]", highlight=False, soft_wrap=True)


def finish(
    output: OutputArgument,
    form: FormOption = "merged",
    quantize: QuantizeOption = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Show what would run and its cost; train nothing.")
    ] = False,
    project: ProjectOption = HERE,
    store: StoreOption = None,
    variant: LastVariantOption = None,
) -> None:
    """Train the final model on all rows, nothing held out, and export it.

    Its model card quotes the evaluation of the variant, its held-out twin. Ctrl-C is safe: the
    same command resumes.
    """
    from jangin.project.release.finish import (
        canaries,
        final_record,
        final_session,
        open_twin,
        train_rows,
    )
    from jangin.project.session import open_session
    from jangin.report.terminal.progress import Bars
    from jangin.report.terminal.tables import plan_table, plan_total
    from jangin.training.export.export import export_model, refuse_existing
    from jangin.views.plan import plan_figures

    _check_quantize(form, quantize)
    refuse_existing(output)

    with Bars() as bars, open_session(project, store, bars) as opened:
        twin = open_twin(opened, opened.choose(variant)[-1])
        session, name = final_session(opened, twin)
        session.run([name], "split")
        session, name = final_session(opened, twin, train_rows(session, name))
        steps = session.plan(name)
        figures = plan_figures(steps, session.budget)
        console.print(plan_table(figures))
        total = plan_total(figures)
        if total:
            console.print(escape(total), highlight=False)
        if only_plan:
            return
        session.check_keys(steps)
        session.run([name])
        base, model = session.maker(name, "base").path, session.maker(name, "model").path
        record, questions = final_record(session, name, twin), canaries(session, name)
        report = export_model(
            base, model, output, form, record, questions, quantize=quantize, progress=bars
        )
        opened.wrote(output)
    done = (
        f"{form} model of {name} in {output}, trained on all {train_rows(session, name)} rows; "
        f"answers checked on {counted(len(questions), 'training question')}"
    )
    console.print(escape(said(done)))
    _print_crash(report.crash)


def publish(
    name: Annotated[str, typer.Argument(help="Name on the Hub: ORG/NAME.")],
    folder: Annotated[Path, typer.Argument(help="Folder that `merge` or `finish` wrote.")],
    public: Annotated[
        bool, typer.Option("--public", help="Everybody may see it; default: private.")
    ] = False,
    base_license: Annotated[
        str, typer.Option(help="Licence of the base model, such as apache-2.0; default: as known.")
    ] = "",
    data_license: Annotated[str, typer.Option(help="Licence of the documents.")] = "",
    update: Annotated[
        bool, typer.Option("--update", help="Replace the files of an existing repository.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show files and card; upload nothing.")
    ] = False,
) -> None:
    """Upload an exported model to the Hugging Face Hub: full weights, an adapter or GGUF.

    The token is that of `hf auth login` or HF_TOKEN. The same command resumes an upload.
    """
    from jangin.project.release.publish import prepare_upload
    from jangin.project.release.publish import publish as send

    upload = prepare_upload(name, folder, base_license, data_license, online=not dry_run)
    for path, size in upload.files:
        console.print(f"{size:>14,}  {escape(path)}", highlight=False)
    seen = "public" if public else "private"
    total = f"{counted(len(upload.files), 'file')}, {upload.size / 2**20:,.1f} MiB"
    console.print(escape(said(f"{total} -> {name} ({seen})")), highlight=False)
    for warning in upload.warnings:
        errors.print(f"[yellow]![/] {escape(said(warning))}", highlight=False, soft_wrap=True)
    if dry_run:
        console.print(f"\n{escape(upload.card)}", highlight=False, soft_wrap=True)
        return

    def notify(text: str) -> None:
        errors.print(f"[yellow]![/] {escape(said(text))}", highlight=False, soft_wrap=True)

    url = send(upload, public=public, update=update, notify=notify)
    console.print(escape(said(f"published: {url}")), highlight=False, soft_wrap=True)
