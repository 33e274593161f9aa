"""Text embedding with transformers: unit vectors from an encoder of the hub or of a folder.

The vectors equal those of sentence-transformers: its files define pooling, prompts (prefixes) and
the maximum length.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jangin.core.digest import short_digest
from jangin.core.errors import ConfigError
from jangin.core.events import Progress
from jangin.core.executor import ONE_GPU, Executor, InProcess, map_all
from jangin.core.ledger import Ledger
from jangin.core.model_protocols import HubEncoder, LocalEncoder, TextEncoder, TextRole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pooling = Literal["mean", "cls", "lasttoken"]
POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
}
KNOWN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})
INSTRUCTED = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
"""Query prefix of the instructed E5 models; passages have none."""
PASSAGE_NAMES = ("passage", "document")
BATCH_TOKENS = 2048
"""Tokens of one forward pass, padding included."""
BATCH_TEXTS = 128
GPU_BATCH_TOKENS, GPU_BATCH_TEXTS = 65_536, 1024
LARGEST_LENGTH = 100_000
"""Larger limits mean none: tokenizers without a limit report a huge number."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Pooling, prefixes and limit that an encoder was trained with."""

    pooling: Pooling = "mean"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_tokens: int = 0
    """0: as many as the model takes."""

    def prefix(self, role: TextRole) -> str:
        """Prefix of a text in this role."""
        return self.query_prefix if role == "query" else self.passage_prefix


def open_encoder(
    config: HubEncoder | LocalEncoder,
    folder: Path,
    ledger: Ledger,
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> TextEncoder:
    """The encoder of these settings; weights are loaded with the first texts.

    Relative paths start at `folder`. The executor computes the vectors, by default here.

    Raises:
        ConfigError: the folder has no encoder, or one with unsupported layers or pooling.
        MachineError: the hub cannot be reached.

    """
    from jangin.inference.local_chat import folder_identity

    progress = progress or Progress()
    if isinstance(config, HubEncoder):
        source = f"{config.id}@{_commit(config)}"
        where: str | Path = config.id
        revision = config.revision
        read: Callable[[str], Any] = partial(_hub_json, config, progress.message)
    else:
        path = (folder / config.path).resolve()
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"{path} is not a text encoder: it has no config.json. Correct the encoder's path."
            )
        source, where, revision = folder_identity(path, ledger), path, None
        read = partial(_folder_json, path)
    recipe = read_recipe(str(where), read)
    used = short_digest([recipe.pooling, recipe.query_prefix, recipe.passage_prefix])
    limit = min(config.max_tokens, recipe.max_tokens or config.max_tokens)
    source = f"{source} {used} {limit}" + (" bf16" if config.precision == "bf16" else "")
    where_done = executor or InProcess()
    return TransformersEncoder(
        source, where, revision, recipe, limit, progress, config.precision, where_done
    )


def read_recipe(name: str, read: Callable[[str], Any]) -> Recipe:
    """The recipe in the files of sentence-transformers; prefixes by the model's name if missing.

    `read` returns the JSON content of a file in the model's folder, or None.

    Raises:
        ConfigError: the encoder has unsupported layers or pooling.

    """
    modules = read("modules.json") or []
    kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    unknown = sorted(kinds.keys() - KNOWN_MODULES)
    if unknown:
        raise ConfigError(
            f"the encoder {name} has a layer {unknown[0]!r}, which jangin does not apply, so its "
            "vectors would be wrong. Name an encoder without it."
        )
    pooling = _pooling(name, read(f"{kinds.get('Pooling', '1_Pooling')}/config.json") or {})
    limits = read("sentence_bert_config.json") or {}
    query, passage = _prefixes(name, read)
    return Recipe(pooling, query, passage, int(limits.get("max_seq_length") or 0))


def _pooling(name: str, settings: Mapping[str, Any]) -> Pooling:
    """The pooling in either of the forms in which it is written; mean where nothing is."""
    named = settings.get("pooling_mode")
    modes = [str(mode) for mode in ([named] if isinstance(named, str) else named or [])]
    if not modes:
        modes = [
            POOLINGS.get(key, key) for key, on in settings.items() if on is True and "_mode_" in key
        ]
    known: dict[str, Pooling] = {mode: mode for mode in POOLINGS.values()}
    alone = settings.get("include_prompt") is False
    if len(modes) > 1 or not set(modes) <= known.keys() or alone:
        how = " and ".join(modes or ["mean"]) + (" without the prompt's tokens" if alone else "")
        raise ConfigError(
            f"the encoder {name} pools its tokens by {how}; supported are: "
            f"{', '.join(known)}. Name another encoder."
        )
    return known[modes[0]] if modes else "mean"


def _prefixes(name: str, read: Callable[[str], Any]) -> tuple[str, str]:
    """(before queries, before passages): the encoder's own prompts, else by its name."""
    prompts = (read("config_sentence_transformers.json") or {}).get("prompts") or {}
    if any(prompts.get(key) for key in ("query", *PASSAGE_NAMES)):
        passage = next((prompts[key] for key in PASSAGE_NAMES if prompts.get(key)), "")
        return str(prompts.get("query") or ""), str(passage)
    origin = str((read("config.json") or {}).get("_name_or_path") or "")
    names = {Path(name).name.lower(), Path(origin).name.lower()}
    parts = {part for each in names for part in each.replace("_", "-").split("-")}
    if not parts & {"e5", "koe5"}:
        return "", ""
    return (INSTRUCTED, "") if parts & {"instruct", "mistral"} else ("query: ", "passage: ")


def _folder_json(folder: Path, name: str) -> Any:
    """JSON content of a file; None if it does not exist."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}. Download the encoder again.") from error


def _commit(config: HubEncoder) -> str:
    """The commit of a branch or tag; raises `MachineError` if it is unknown."""
    from jangin.inference.local_chat import hub_identity

    return hub_identity(config.id, config.revision).removeprefix("hub ")


def _hub_json(config: HubEncoder, notify: Callable[[str], None], name: str) -> Any:
    """JSON content of a file of a hub model, from cache or hub; None if the model lacks it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        path = Path(hf_hub_download(config.id, name, revision=config.revision))
        return _folder_json(path.parent, path.name)
    except LocalEntryNotFoundError:
        notify(f"{config.id}: {name} is not cached and the hub is unreachable; treated as missing")
        return None
    except EntryNotFoundError:
        return None


@dataclass(slots=True)
class TransformersEncoder:
    """A transformer with pooled token vectors; texts of similar length share a batch.

    Pickled, it leaves its weights behind: another process reads them itself.
    """

    source: str
    """Identity of the weights and of how they are used."""
    path: str | Path
    """A folder, which is sent to nodes that do not see it, or a model on the hub."""
    revision: str | None
    recipe: Recipe
    max_tokens: int
    progress: Progress = field(default_factory=Progress, repr=False)
    precision: Literal["fp32", "bf16"] = "fp32"
    executor: Executor = field(default_factory=InProcess, repr=False)
    _model: Any = field(default=None, repr=False)
    _tokenizer: Any = field(default=None, repr=False)
    _width: int = 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Only the settings, for a worker."""
        settings = (self.source, self.path, self.revision, self.recipe, self.max_tokens)
        return TransformersEncoder, (*settings, Progress(), self.precision)

    def encode(self, texts: Sequence[str], role: TextRole) -> "NDArray[np.float32]":
        """Unit vectors (texts, width) float32 on the CPU; equal texts are computed once.

        Raises:
            MachineError: the weights cannot be loaded.

        """
        import numpy as np
        import torch

        self._open()
        unique = list(dict.fromkeys(texts))
        prefix = self.recipe.prefix(role)
        vectors_UD = np.zeros((len(unique), self._width), np.float32)
        if not unique:
            return vectors_UD
        rows = self._tokenizer(
            [prefix + text for text in unique], truncation=True, max_length=self.max_tokens
        )["input_ids"]
        lengths = [len(row) for row in rows]
        batches = list(batches_of(lengths, on_gpu=torch.cuda.is_available()))
        items = ([rows[index] for index in batch] for batch in batches)
        work, what = partial(Forward, self), "encoded texts"
        bar = self.progress.start(f"encode: {role}", len(unique))
        try:
            for number, result in map_all(self.executor, work, items, what, ONE_GPU):
                vectors_UD[batches[number]] = result
                self.progress.advance(bar, len(batches[number]))
        finally:
            self.progress.stop(bar)
        index_of = {text: index for index, text in enumerate(unique)}
        return vectors_UD[[index_of[text] for text in texts]]

    def count_tokens(self, texts: Sequence[str], role: TextRole) -> int:
        """How many tokens of these texts `encode` reads, prefixes included."""
        self._open()
        prefixed = [self.recipe.prefix(role) + text for text in texts]
        rows = self._tokenizer(prefixed, truncation=True, max_length=self.max_tokens)["input_ids"]
        return sum(map(len, rows))

    def forward(self, rows: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """(B, D) pooled vectors of the tokens of one batch of texts.

        Raises: MachineError: the weights cannot be loaded.
        """
        import torch

        model = self._load()
        longest = max(map(len, rows))
        pad = self._tokenizer.pad_token_id or 0
        device = model.device
        # Padded at the right. B texts, T tokens, D width.
        ids_BT = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows]).to(device)
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        mask_BT = (torch.arange(longest, device=device) < lengths_B[:, None]).long()
        with torch.inference_mode():
            hidden_BTD = model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
            if self.recipe.pooling == "mean":
                weights_BT1 = mask_BT[:, :, None].float()
                pooled_BD = (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)
            else:
                at_B = lengths_B - 1 if self.recipe.pooling == "lasttoken" else lengths_B * 0
                pooled_BD = hidden_BTD[torch.arange(len(rows), device=device), at_B]
            unit_BD = torch.nn.functional.normalize(pooled_BD, dim=1).cpu()
        vectors: NDArray[np.float32] = unit_BD.numpy()
        return vectors

    def _open(self) -> None:
        """Load the tokenizer and the settings of the weights once."""
        if self._tokenizer is not None:
            return
        from transformers import AutoConfig, AutoTokenizer

        from jangin.models.loading import loading_error, without_progress_bars
        from jangin.models.shape import context_length

        try:
            with without_progress_bars():
                tokenizer = AutoTokenizer.from_pretrained(self.path, revision=self.revision)
                config = AutoConfig.from_pretrained(self.path, revision=self.revision)
        except (OSError, ValueError) as error:
            raise loading_error(str(self.path), error) from error
        limits = [tokenizer.model_max_length, context_length(config) or LARGEST_LENGTH]
        known = [limit for limit in limits if 0 < limit < LARGEST_LENGTH]
        self.max_tokens = min([self.max_tokens, *known])
        self._width = int(config.hidden_size)
        self._tokenizer = tokenizer

    def _load(self) -> Any:
        """The weights, loaded once."""
        self._open()
        if self._model is None:
            import torch
            from transformers import AutoModel

            from jangin.models.loading import loading_error, without_progress_bars

            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            try:
                with without_progress_bars():
                    model = AutoModel.from_pretrained(
                        self.path, revision=self.revision, dtype=dtype
                    )
            except (OSError, ValueError) as error:
                raise loading_error(str(self.path), error) from error
            self._model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        return self._model


class Forward:
    """Computes batches with an encoder, as work for an executor."""

    def __init__(self, encoder: TransformersEncoder) -> None:
        """Of this encoder, which keeps its weights where it has them already."""
        self._encoder = encoder

    def __call__(self, rows: Sequence[Sequence[int]]) -> "NDArray[np.float32]":
        """`TransformersEncoder.forward`."""
        return self._encoder.forward(rows)


def batches_of(lengths: Sequence[int], *, on_gpu: bool) -> Iterator[list[int]]:
    """Indices in batches of similar lengths, longest first, so that memory peaks at the start."""
    texts, tokens = BATCH_TEXTS, BATCH_TOKENS
    if on_gpu:
        texts, tokens = GPU_BATCH_TEXTS, GPU_BATCH_TOKENS
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        longest = lengths[batch[0]] if batch else 0
        if batch and (len(batch) == texts or longest * (len(batch) + 1) > tokens):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
