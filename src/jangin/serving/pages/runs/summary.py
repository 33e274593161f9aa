"""What a project file says, in words, for a person who does not read YAML."""

from jangin.documents.load import LoadConfig
from jangin.examples.split import SplitConfig
from jangin.models.catalog import CatalogConfig, Starter
from jangin.project.file import LoadedProject
from jangin.project.source.teachers import EndpointTeacher, ModelTeacher, RecordedTeacher, Teacher
from jangin.report.i18n.translate import Words


def summary_of(loaded: LoadedProject, words: Words) -> list[tuple[str, str]]:
    """(what, its value) of the settings that a person chooses; equal ones of variants once."""
    rows: dict[str, list[str]] = {}
    for variant in loaded.variants.values():
        load, base, split = (variant.stage_config(name) for name in ("load", "catalog", "split"))
        if isinstance(load, LoadConfig):
            rows.setdefault("start_step_documents", []).append(f"{load.folder.as_posix()}/")
        for teacher in variant.teachers.values():
            rows.setdefault("start_teacher", []).append(teacher_text(teacher, words))
        if isinstance(base, CatalogConfig):
            rows.setdefault("start_base", []).append(_base_text(base, words))
        if isinstance(split, SplitConfig):
            rows.setdefault("start_review", []).append(words(f"start_review_{split.review}"))
        if variant.budget is not None:
            rows.setdefault("runs_budget", []).append(f"${variant.budget.usd:,.2f}")
    if len(loaded.variants) > 1:
        rows["runs_variant"] = list(loaded.variants)
    return [(words(key), ", ".join(dict.fromkeys(values))) for key, values in rows.items()]


def uses_recorded_replies(loaded: LoadedProject) -> bool:
    """True if a teacher of any variant has recorded replies."""
    teachers = [each for variant in loaded.variants.values() for each in variant.teachers.values()]
    return any(isinstance(teacher, RecordedTeacher) for teacher in teachers)


def teacher_text(teacher: Teacher, words: Words) -> str:
    """A teacher, and where the text of the documents is sent."""
    if isinstance(teacher, RecordedTeacher):
        return words("start_is_recorded", name=teacher.replies.as_posix())
    if isinstance(teacher, EndpointTeacher):
        return words("start_is_sent", name=teacher.model, address=teacher.base_url)
    assert isinstance(teacher, ModelTeacher)  # noqa: S101  the last kind
    return words("start_is_local", name=teacher.model)


def _base_text(config: CatalogConfig, words: Words) -> str:
    base = config.base
    if isinstance(base, Starter):
        return f"{words('start_base_starter')} ({base.size})"
    return str(getattr(base, "id", "") or getattr(base, "path", base.type))
