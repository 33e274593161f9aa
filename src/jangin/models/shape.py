"""Layer counts, sizes and context length of a model, from its config.json; no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jangin.core.errors import TrainingError

# (hidden size, layers, feed-forward size, heads)
# Two wide layers memorise short answers in fewer steps than five narrow ones of the same size.
STARTER_SHAPES = {
    "0.5M": (64, 4, 192, 2),
    "3M": (256, 2, 1024, 4),
    "8M": (320, 6, 768, 5),
    "12M": (384, 6, 1024, 6),
}
"""{size: shape} of starter models."""

READERS = (
    *("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"),
    *("ForQuestionAnswering", "ForImageClassification", "ForObjectDetection", "VisionModel"),
)
"""Ends of the names of architectures whose checkpoints have no head that writes text."""
UNLIMITED = 2**31
"""Context length of a model that has no limit, such as a recurrent one."""
FARTHEST_USUAL = 1.6
"""Largest ratio of parameters at which the shape of one model is used for another."""
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_TWO_NORMS = {"llama", "mistral", "qwen2", "qwen3", "phi3"}
_FOUR_NORMS = {"gemma2", "gemma3_text"}
_QUERY_KEY_NORM = {"qwen3", "gemma3_text"}
LAYER_OF_TOKEN = 1_200_000
"""Parameters that take a token as long as what a layer takes whatever its size."""
STEP = 430
"""Tokens that take as long as what a step takes however few tokens it has."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that decide a decoder's memory."""

    family: str
    known: bool
    """False for a family that is treated like Llama for want of better knowledge."""
    hidden: int
    layers: int
    feed_forward: int
    queries: int
    """Heads times head size."""
    keys: int
    """Key/value heads times head size."""
    heads: int
    head_size: int
    vocabulary: int
    tied: bool
    norms: int
    """Norms of the hidden size in each layer."""
    query_key_norm: bool
    attention_bias: int
    """Bias elements of a layer's attention."""
    feed_forward_bias: int
    soft_capped: bool
    """Logits are changed after the head, which the loss computes in chunks of more copies."""
    weight_bytes: int
    """Bytes per weight in the checkpoint."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "ModelShape":
        """From the content of a config.json.

        Raises:
            TrainingError: a size is missing or is not a number.

        """
        text = config.get("text_config") or config
        try:
            family = str(text["model_type"])
            hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
            head_size = int(text.get("head_dim") or hidden // heads)
            queries = heads * head_size
            keys = int(text.get("num_key_value_heads") or heads) * head_size
            feed_forward = int(text["intermediate_size"])
            return cls(
                family=family,
                known=family in _TWO_NORMS | _FOUR_NORMS,
                hidden=hidden,
                layers=int(text["num_hidden_layers"]),
                feed_forward=feed_forward,
                queries=queries,
                keys=keys,
                heads=heads,
                head_size=head_size,
                vocabulary=int(text["vocab_size"]),
                tied=bool(text.get("tie_word_embeddings", family in _FOUR_NORMS)),
                norms=4 if family in _FOUR_NORMS else 2,
                query_key_norm=family in _QUERY_KEY_NORM,
                attention_bias=_attention_bias(text, family, queries, keys, hidden),
                feed_forward_bias=2 * feed_forward + hidden if text.get("mlp_bias") else 0,
                soft_capped=bool(text.get("final_logit_softcapping")),
                weight_bytes=_weight_bytes(config),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"the model's config.json lacks the sizes that a memory forecast needs ({error}). "
                "Set `memory: warn` to train without one."
            ) from error

    @classmethod
    def read(cls, path: Path) -> "ModelShape":
        """From a config.json; raises like `of`."""
        return cls.of(json.loads(path.read_text(encoding="utf-8")))

    @property
    def linear_parameters(self) -> int:
        """Weights of all linear layers except the head; biases are not counted."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        return self.layers * (attention + 3 * self.hidden * self.feed_forward)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding; the head has as many, the same ones where it is tied."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Number of parameters; exact for known families."""
        norms = self.norms * self.hidden + (2 * self.head_size if self.query_key_norm else 0)
        rest = self.layers * (norms + self.attention_bias + self.feed_forward_bias) + self.hidden
        heads = 1 if self.tied else 2
        return self.linear_parameters + rest + heads * self.embedding_parameters

    def training_work(self, tokens: int, steps: int) -> float:
        """What training on tokens in steps takes of time, in parameters times tokens.

        Small models take longer than their parameters say: each layer of each token has operations
        that are too small for the processor, and each step goes through all parameters once more.
        Measured on one core for 0.3 to 7.5 M parameters, 64 to 256 steps of 8 to 32 rows.
        """
        per_token = self.parameters + self.layers * LAYER_OF_TOKEN
        return float(tokens * per_token + steps * STEP * self.parameters)

    def adapter_parameters(self, rank: int) -> int:
        """Parameters of a LoRA adapter of this rank on every linear layer except the head."""
        sides = 4 * self.hidden + 2 * self.queries + 2 * self.keys
        sides += 3 * (self.hidden + self.feed_forward)
        return self.layers * rank * sides


def _attention_bias(
    text: Mapping[str, Any], family: str, queries: int, keys: int, hidden: int
) -> int:
    if family == "qwen2":
        return queries + 2 * keys
    return queries + 2 * keys + hidden if text.get("attention_bias") else 0


def _weight_bytes(config: Mapping[str, Any]) -> int:
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return 2 if dtype.endswith("16") else 4


def context_length(config: Any) -> int | None:
    """Most tokens of a prompt and its answer together; None where the config sets no limit.

    `config` is a config object of transformers or the content of a config.json.
    """
    if isinstance(config, Mapping):
        text = config.get("text_config") or config
        get = text.get
    else:
        get = partial(_attribute, config.get_text_config())
    positions = int(get("max_position_embeddings") or get("n_positions") or 0)
    if positions and "roberta" in str(get("model_type")):
        # Its positions begin after the padding token's id.
        positions -= int(get("pad_token_id") or 0) + 1
    return positions or None


def read_context_length(base: Path) -> int:
    """`context_length` of the model in a `base` artifact; `UNLIMITED` where there is no limit."""
    config = json.loads((base / "model" / "config.json").read_text(encoding="utf-8"))
    return context_length(config) or UNLIMITED


def _attribute(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def _sizes(
    family: str, hidden: int, layers: int, forward: int, heads: int, *, tied: bool
) -> dict[str, Any]:
    of_family = {
        "llama": {"vocab_size": 128256, "max_position_embeddings": 131072},
        "qwen3": {"vocab_size": 151936, "max_position_embeddings": 40960, "head_dim": 128},
    }[family]
    return {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": forward,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "tie_word_embeddings": tied,
        "dtype": "bfloat16",
    } | of_family


USUAL_BASES: Mapping[str, Mapping[str, Any]] = {
    "google/gemma-3-270m": {
        "model_type": "gemma3_text",
        "hidden_size": 640,
        "num_hidden_layers": 18,
        "intermediate_size": 2048,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 262144,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    "Qwen/Qwen3-0.6B": _sizes("qwen3", 1024, 28, 3072, 16, tied=True),
    "meta-llama/Llama-3.2-1B": _sizes("llama", 2048, 16, 8192, 32, tied=True),
    "Qwen/Qwen3-1.7B": _sizes("qwen3", 2048, 28, 6144, 16, tied=True),
    "Qwen/Qwen3-4B": _sizes("qwen3", 2560, 36, 9728, 32, tied=True),
    "meta-llama/Llama-3.1-8B": _sizes("llama", 4096, 32, 14336, 32, tied=False),
    "Qwen/Qwen3-8B": _sizes("qwen3", 4096, 36, 12288, 32, tied=False),
    "Qwen/Qwen3-14B": _sizes("qwen3", 5120, 40, 17408, 40, tied=False),
    "Qwen/Qwen3-32B": _sizes("qwen3", 5120, 64, 25600, 64, tied=False),
    "meta-llama/Llama-3.1-70B": _sizes("llama", 8192, 80, 28672, 64, tied=False),
}
"""{id on the hub: what its config.json says of its size}."""


def cached_folder(model_id: str, revision: str) -> Path | None:
    """Folder of a hub model in the cache of `huggingface_hub`; None if its config is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def likely_config(model_id: str) -> Mapping[str, Any] | None:
    """The config of this model, or of the usual one nearest to its name in family and size.

    None where the name has no size, or one that no usual model is near to.
    """
    if model_id in USUAL_BASES:
        return USUAL_BASES[model_id]
    size = _SIZE.search(model_id.replace("_", "-"))
    if size is None:
        return None
    parameters = float(size[1]) * (1e9 if size[2].lower() == "b" else 1e6)

    def distance(config: Mapping[str, Any]) -> tuple[bool, float]:
        factor = _factor(config, parameters)
        family = re.match("[a-z]+", config["model_type"])
        is_other = family is None or family[0] not in model_id.lower()
        return factor > FARTHEST_USUAL or is_other, factor

    nearest = min(USUAL_BASES.values(), key=distance)
    return nearest if _factor(nearest, parameters) <= FARTHEST_USUAL else None


def _factor(config: Mapping[str, Any], parameters: float) -> float:
    own = ModelShape.of(dict(config)).parameters
    return max(own, parameters) / min(own, parameters)
