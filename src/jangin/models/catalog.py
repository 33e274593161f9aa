"""Stage `catalog`: the pinned base model, which is a starter, a hub model or a local folder."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jangin.core.config import Added, Config, Runtime, StageConfig
from jangin.core.digest import files_of
from jangin.core.errors import ConfigError, MachineError, StageError, counted
from jangin.core.records import Document, Example
from jangin.core.stage import Cost, Stage, StageContext
from jangin.models.gguf.header import read_header
from jangin.models.shape import READERS, cached_folder, likely_config

Size = Literal["0.5M", "3M", "8M", "12M"]
UNPACKED = "unpacked"
"""Folder of a store for the weights of GGUF files."""
TEMPLATE_NAMES = ("auto", "chatml", "alpaca", "llama2", "gemma", "plain", "raw")
"""Values of `chat_template` that are not files."""


class Starter(Config):
    """A small Llama with random weights and a tokenizer trained on the project's own text."""

    type: Literal["starter"]
    size: Size = "3M"
    """Parameters at a vocabulary of 4096."""
    vocabulary_size: int = Field(default=2048, ge=300, le=65536)
    """Most tokens the tokenizer may learn. Fewer tokens are each seen more often, so little text
    is learned in fewer steps; more make rows shorter."""
    context_length: int = Field(default=512, ge=32, le=32768)
    """Most tokens of a conversation."""
    seed: int = Field(default=0, ge=0)
    chat_template: Added[Literal["auto", "raw"]] = "auto"
    """`raw`: nothing but the messages' text, and the end of text after an answer."""


class Pretrained(Config):
    """Settings of a base that was trained elsewhere: how conversations become its tokens.

    `catalog` writes them into the chat template of the base artifact, so that training,
    evaluation, exported models and servers render the same without knowing them.
    """

    thinking: Literal["off", "on", "keep"] = "off"
    """Whether the model thinks before it answers: `keep` leaves it to the model's chat template.
    Thoughts are taken off an answer before it is graded."""
    chat_template: str = Field(default="auto", min_length=1)
    """`auto`: the model's own; for a model without one gemma or chatml where the vocabulary has
    their turn tokens, else plain text. Or `chatml`, `alpaca`, `llama2`, `gemma`, `plain`, `raw`
    (nothing but the messages' text, and the end of text after an answer), or a Jinja file."""
    stop: str | None = None
    """Token that ends an answer where the chat template writes none; default: the end of text."""
    date: datetime.date = datetime.date(2026, 1, 1)
    """Day that a chat template which writes the date of today writes instead, on every day."""
    control_tokens: Literal["refuse", "escape"] = "refuse"
    """What to do with control tokens, such as `<|im_end|>`, in the text of a row or question:
    `escape` reads them as ordinary characters."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder or repository holds. For a hub model `revision` must
    then be a commit, so that the code cannot change."""


class Hub(Pretrained):
    """A model of the Hugging Face hub; its weights stay in the hub's cache."""

    type: Literal["hub"]
    id: str = Field(min_length=1)
    """Such as `Qwen/Qwen3-0.6B`."""
    revision: str = "main"
    """Branch, tag or commit; the artifact pins the commit it resolved to."""

    @model_validator(mode="after")
    def _pin_remote_code(self) -> Self:
        if self.trust_remote_code and not re.fullmatch("[0-9a-f]{40}", self.revision):
            raise ValueError(
                f"`trust_remote_code: true` runs code of {self.id} on this machine, so `revision` "
                f"must be the commit that you have read, 40 hexadecimal digits; {self.revision!r} "
                "can change"
            )
        return self


class Local(Pretrained):
    """A model folder on this machine; its bytes are identity, its place is not."""

    type: Literal["local"]
    path: Runtime[Path]
    """Folder with config.json, tokenizer.json and weights; relative to the project file."""


class Gguf(Pretrained):
    """A GGUF file, as llama.cpp and Ollama use them; its weights are unpacked once.

    What quantization lost stays lost, so prefer the original weights where they can be had. The
    file's bytes are identity, its place is not.
    """

    type: Literal["gguf"]
    path: Runtime[Path]
    """The file; relative to the project file."""


Base = Annotated[Starter | Hub | Local | Gguf, Field(discriminator="type")]


class CatalogConfig(StageConfig):
    """Which base model everything starts from."""

    base: Base = Starter(type="starter")
    """`starter`, `hub`, `local` or `gguf`."""


def name_of(base: Starter | Pretrained) -> str:
    """Display name of a base model."""
    if isinstance(base, Hub):
        return base.id if base.revision == "main" else f"{base.id}@{base.revision}"
    if isinstance(base, Local):
        return base.path.name
    if isinstance(base, Gguf):
        return base.path.stem
    assert isinstance(base, Starter)  # noqa: S101  the last kind
    return f"starter {base.size}" + (f" (seed {base.seed})" if base.seed else "")


def sources_of(base: Starter | Pretrained, project_folder: Path, key: str) -> dict[str, Path]:
    """{name: path} of files whose contents enter the key of the artifact.

    They are those of a local model or GGUF file, and a chat template of the project.

    Raises:
        ConfigError: the folder has no config.json or lacks weights, the GGUF file cannot be
            unpacked, or there is no such template; names the `key` to correct.

    """
    template = _template_of(base, project_folder, key)
    if isinstance(base, Gguf):
        file = project_folder / base.path
        read_header(file, f"models: {key}")
        return {"model.gguf": file, **template}
    if not isinstance(base, Local):
        return template
    folder = project_folder / base.path
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder. Correct `models: {key}: path`.")
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} is not a model folder: it has no config.json. Correct `models: {key}: path`."
        )
    _refuse_reader(folder, key)
    refuse_missing_weights(folder, key)
    return {**files_of(folder), **template}


def _refuse_reader(folder: Path, key: str) -> None:
    """Raise `ConfigError` for a model folder whose config.json names only models without text.

    `class_of` knows all others, but takes seconds to import.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (ValueError, AttributeError, OSError):  # the stage says what is wrong with it
        return
    if architectures and all(name.endswith(READERS) for name in architectures):
        raise ConfigError(
            f"the model {folder} is {' or '.join(architectures)}, which does not write text. "
            f"Choose a causal language model in `models: {key}`."
        )


def refuse_missing_weights(folder: Path, key: str) -> None:
    """Raise `ConfigError`, which names the `key` to correct, for a model folder without weights."""
    names = {path.name for path in folder.iterdir()}
    indexes = sorted(
        name for name in names if name.endswith((".safetensors.index.json", ".bin.index.json"))
    )
    for index in indexes[-1:]:
        parts = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(parts - names)
        if missing:
            raise ConfigError(
                f"{folder} lacks {missing[0]}, one of {counted(len(parts), 'file')} of weights "
                f"that {index} names ({_missing(len(missing))}). Copy or download it again."
            )
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise ConfigError(
            f"{folder} has no weights (*.safetensors). Download the whole model, or correct "
            f"`models: {key}: path`."
        )


def _missing(count: int) -> str:
    return "1 is missing" if count == 1 else f"{count} are missing"


def refuse_unreachable_weights(model_id: str, commit: str) -> None:
    """Raise `MachineError` where this machine is offline and lacks weights of a hub model."""
    from huggingface_hub import constants

    cached = cached_folder(model_id, commit)
    if cached is None or not constants.HF_HUB_OFFLINE:
        return
    try:
        refuse_missing_weights(cached, "catalog: base")
    except ConfigError as error:
        raise MachineError(
            f"the weights of the model {model_id} are not all in the cache of this machine, and "
            f"HF_HUB_OFFLINE forbids to fetch them. Run `hf download {model_id}` where there is a "
            "network, or set a local folder with `base: {type: local, path: ...}`."
        ) from error


def _template_of(base: Starter | Pretrained, project_folder: Path, key: str) -> dict[str, Path]:
    """The chat template of the project's own, by a name that no model file has."""
    if not isinstance(base, Pretrained) or base.chat_template in TEMPLATE_NAMES:
        return {}
    path = project_folder / base.chat_template
    if not path.is_file():
        raise ConfigError(
            f"there is no chat template {path}. Correct `models: {key}: chat_template`: "
            f"{', '.join(TEMPLATE_NAMES)}, or a Jinja file."
        )
    return {"project/chat_template": path}


def write_base(
    base: Starter | Pretrained,
    target: Path,
    location: Path,
    project_folder: Path,
    texts: list[str],
    unpacked: Path,
) -> dict[str, Any]:
    """Write a starter, or a reference to a model elsewhere, to `target`; returns its summary.

    `location`: file for the path of a local model; `texts`: training text of a starter's tokenizer;
    `unpacked`: folder for the weights of GGUF files.

    Raises:
        StageError: a starter has no text to train its tokenizer on.
        MachineError, ConfigError: as `write_hub_reference`; or a hub model's weights cannot be
            fetched, as this machine is offline.

    """
    from jangin.models.references import (
        write_gguf_reference,
        write_hub_reference,
        write_local_reference,
    )
    from jangin.models.starter import CHAT_TEMPLATE, make_starter
    from jangin.models.tokens.pinned_template import RAW

    if isinstance(base, Hub):
        summary = write_hub_reference(target, base.id, base.revision, base, project_folder)
        refuse_unreachable_weights(base.id, summary["revision"])
        return summary
    if isinstance(base, Local):
        model = (project_folder / base.path).resolve()
        return write_local_reference(target, model, location, base, project_folder)
    if isinstance(base, Gguf):
        file = (project_folder / base.path).resolve()
        header = read_header(file, "models: catalog: base")
        return write_gguf_reference(target, file, header, location, unpacked, base, project_folder)
    assert isinstance(base, Starter)  # noqa: S101  the last kind
    if not texts:
        raise StageError(
            "a starter model trains its tokenizer on the project's text, and there is none. "
            "Add `documents: load`, or choose `base: {type: hub, id: ...}`."
        )
    return make_starter(
        target,
        texts,
        size=base.size,
        vocabulary_size=base.vocabulary_size,
        context_length=base.context_length,
        seed=base.seed,
        chat_template=RAW if base.chat_template == "raw" else CHAT_TEMPLATE,
    )


def _sources(config: CatalogConfig, project_folder: Path) -> Mapping[str, Path]:
    try:
        return sources_of(config.base, project_folder, "catalog: base")
    except ConfigError as error:
        error.args = (f"catalog.base: {error}",)
        raise


def _run(context: StageContext[CatalogConfig]) -> None:
    base = context.config.base
    texts = _texts(context) if isinstance(base, Starter) else []
    location = context.workspace / "runtime" / "location.json"
    if isinstance(base, Local | Gguf):
        location = context.runtime_file("location.json")
    folder = context.services.project_folder
    label = f"unpack {base.path.name}" if isinstance(base, Gguf) else "base model"
    target, unpacked = context.workspace / "model", unpacked_in(context)
    try:
        for each in context.track([base], label):
            context.summary.update(write_base(each, target, location, folder, texts, unpacked))
    except ConfigError as error:
        error.args = (f"{context.services.locate('catalog', ('base',))}: {error}",)
        raise

    for line in _template_messages(base, context.summary):
        context.services.progress.message(line)


def _template_messages(base: Starter | Pretrained, summary: Mapping[str, Any]) -> Iterator[str]:
    """What a user should know of the chat template of a pretrained base."""
    if isinstance(base, Starter):
        return
    if base.chat_template == "auto" and "chat_template" in summary:
        yield (
            f"{name_of(base)} has no chat template; conversations are written as "
            f"`chat_template: {summary['chat_template']}`"
        )
    if "chat_template_note" in summary:
        yield str(summary["chat_template_note"])
    if "date" in summary:
        yield (
            f"the chat template of {name_of(base)} writes the date of today; {summary['date']} is "
            "written on every day instead (`date`)"
        )


def unpacked_in(context: StageContext[Any]) -> Path:
    """Folder of the store for weights unpacked from GGUF files; no artifact, made again if gone."""
    return context.workspace.parent.parent / UNPACKED


def _texts(context: StageContext[CatalogConfig]) -> list[str]:
    texts = []
    if context.has("documents"):
        texts += [document.text for document in context.read("documents", Document)]
    if context.has("examples"):
        for example in context.read("examples", Example):
            texts += [message.content for message in (*example.prompt, example.completion)]
    return texts


def _cost(context: StageContext[CatalogConfig]) -> Cost:
    if isinstance(context.config.base, Starter):
        return Cost(seconds=10, memory_bytes=2**30, text="trains a tokenizer")
    if isinstance(context.config.base, Gguf):
        file = context.services.project_folder / context.config.base.path
        header = read_header(file, "models: catalog: base")
        lossy = ", which lost precision for good" if header.lossy else ""
        text = f"unpacks {file.name}, quantized as {header.quantization}{lossy}"
        return Cost(seconds=60, memory_bytes=8 * file.stat().st_size, text=text)
    base, text = context.config.base, "reads the model's config and tokenizer"
    if isinstance(base, Hub) and cached_folder(base.id, base.revision) is None:
        text = f"downloads {base.id}; until then it is taken as a usual model of its size"
        if likely_config(base.id) is None:
            text = f"downloads {base.id}; its size is not known before that"
    return Cost(seconds=10, text=text)


STAGE = Stage(
    name="catalog",
    version=1,
    reads=(),
    may_read=("documents", "examples"),
    makes=("base",),
    run=_run,
    sources=_sources,
    cost=_cost,
)
