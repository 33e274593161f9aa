"""Loading of models and tokenizers from artifacts, and unwrapping of PEFT models."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from jangin.core.digest import digest_file
from jangin.core.errors import ConfigError, JanginError, MachineError, StoreError
from jangin.core.store import MANIFEST, moved_with
from jangin.models.device import available_bytes, native_precision, use_growing_segments
from jangin.models.shape import READERS

REFERENCE = "reference.json"
LOCATION = "location.json"
REMOTE_CODE = "trust_remote_code"
"""True in the reference of a model whose own Python code may run."""
TRUSTED = "runs_code"
"""File in the artifact of a training whose base may run Python code of its own."""


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of an artifact with a `model/` or an `adapter/`.

    Raises:
        StoreError: neither folder has a tokenizer.json.

    """
    for name in ("model", "adapter"):
        if (folder / name / "tokenizer.json").exists():
            return AutoTokenizer.from_pretrained(
                folder / name, local_files_only=True, trust_remote_code=runs_remote_code(folder)
            )
    raise StoreError(
        f"{folder} has no tokenizer.json. Delete the folder and run again to create it."
    )


def load_model(
    folder: Path,
    dtype: str | torch.dtype = "auto",
    adapter: Path | None = None,
    quantization: Any = None,
    device: str | None = None,
) -> Any:
    """The causal language model of a `base` or `model` artifact, ready to generate.

    It is in evaluation mode, on `device`: by default the GPU if there is one. `dtype` auto keeps
    the checkpoint's. `adapter` is a PEFT folder to load on top of it, `quantization` a quantization
    config of transformers.

    Raises:
        MachineError: the weights cannot be read or downloaded.

    """
    if torch.cuda.is_available():
        use_growing_segments()
    # cuDNN builds a plan of some 30 ms for every new number of rows and length: at each token.
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
    path, revision = locate(folder)
    options: dict[str, Any] = {
        "revision": revision,
        "dtype": dtype,
        REMOTE_CODE: runs_remote_code(folder),
    }
    if quantization is not None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        options |= {"quantization_config": quantization, "device_map": {"": device}}
    try:
        with without_progress_bars():
            model: Any = model_class(folder).from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise loading_error(str(path), error) from error
    if adapter is not None:
        model = attach_adapter(model, adapter)
        # The stop tokens it was trained with.
        model.base_model.model.generation_config = GenerationConfig.from_pretrained(adapter)
    if quantization is None:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval()


def to_device(model: Any) -> Any:
    """The model on the GPU, if there is one."""
    return model.cuda() if torch.cuda.is_available() else model


def model_class(folder: Path) -> Any:
    """The class that loads the language model of a `base` or `model` artifact; see `class_of`.

    Raises:
        ConfigError: it does not write text.
        OSError, ValueError: the config cannot be read or downloaded.

    """
    return class_of(read_config(folder), locate(folder)[0], trusted=runs_remote_code(folder))


def read_config(folder: Path) -> Any:
    """The config of transformers beside the weights of a `base` or `model` artifact."""
    path, revision = locate(folder)
    trusted = runs_remote_code(folder)
    return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trusted)


def class_of(config: Any, model: str, *, trusted: bool) -> Any:
    """The class that loads the language model of this config; `model` is its name for messages.

    `AutoModelForCausalLM` where it knows the config, else the class that the checkpoint names:
    that of models that see pictures as well, such as Mistral 3's. `trusted`: the model may bring
    a class of its own, so that nothing is known here.

    Raises:
        ConfigError: transformers has no such class, or it does not write text from left to right.

    """
    architectures = config.architectures or [config.model_type]
    reads_only = config.is_encoder_decoder or all(name.endswith(READERS) for name in architectures)
    if trusted or (type(config) in AutoModelForCausalLM._model_mapping and not reads_only):
        return AutoModelForCausalLM
    names = [name for name in architectures if name.endswith("ForConditionalGeneration")]
    named = getattr(transformers, names[0], None) if names and not reads_only else None
    if named is None:
        raise ConfigError(
            f"the model {model} is {' or '.join(architectures)}, which does not write text from "
            f"left to right as far as transformers {transformers.__version__} knows. Choose a "
            "causal language model as the base."
        )
    return named


def model_without_weights(folder: Path) -> Any:
    """The model of a base on the meta device, without its weights."""
    config = read_config(folder)
    auto: Any = AutoModelForCausalLM
    kind = model_class(folder)
    with torch.device("meta"):
        if kind is auto:
            return auto.from_config(config, trust_remote_code=runs_remote_code(folder))
        return kind._from_config(config)


def outside_of_text(model: Any) -> list[str]:
    """Names of the modules that are not used for text: vision or audio towers, projectors.

    Empty for a model of text alone.
    """
    if model.config.get_text_config() is model.config:
        return []
    parts = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    inside = {id(module) for part in parts if part is not None for module in part.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) not in inside and not any(id(child) in inside for child in module.modules())
    ]


def load_trained(
    model_folder: Path,
    base_folder: Path,
    dtype: str | torch.dtype = "auto",
    device: str | None = None,
    *,
    as_trained: bool = False,
) -> Any:
    """The model of a training stage: its full weights, or the base with its adapter.

    With `as_trained` the base has the 4 bits in which the adapter was trained, if it was.

    Raises like `load_model`.
    """
    if not has_adapter(model_folder):
        return load_model(model_folder, dtype, device=device)
    quantization = trained_quantization(model_folder) if as_trained else None
    return load_model(base_folder, dtype, model_folder / "adapter", quantization, device)


def has_adapter(model_folder: Path) -> bool:
    """True if a training stage wrote an adapter instead of full weights."""
    return not (model_folder / "model" / "config.json").exists()


def attach_adapter(model: Any, adapter: Path, name: str = "default") -> Any:
    """The model with a PEFT folder loaded on top of it under this name, beside those it has."""
    from peft import PeftModel  # seconds to import, so only here

    with known_warnings_ignored():
        if isinstance(model, PeftModel):
            model.load_adapter(str(adapter), adapter_name=name)
            return model
        return PeftModel.from_pretrained(model, adapter, adapter_name=name)


def is_on_gpu(model: Any) -> bool:
    """Whether the weights are on a GPU."""
    return bool(next(model.parameters()).device.type == "cuda")


def merged_to_answer(model: Any) -> Any:
    """The model with its adapter added to its weights where a GPU answers; else as it is.

    An adapter beside them doubles the kernels of each token, for which a GPU waits. 4-bit weights
    stay as they are.
    """
    apart = base_model(model) is model or hasattr(base_model(model).config, "quantization_config")
    if apart or not is_on_gpu(model):
        return model
    with known_warnings_ignored():
        return model.merge_and_unload()


def four_bits(dtype: torch.dtype, *, double_quant: bool) -> Any:
    """Quantization of every linear layer but the head as nf4; `dtype` is that of the products.

    Raises:
        MachineError: bitsandbytes is not installed.

    """
    if find_spec("bitsandbytes") is None:
        raise MachineError(
            "`method: {type: qlora}` needs bitsandbytes, which is not installed. "
            "Install it with: pip install 'jangin[quantized]'"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # untyped in transformers
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def trained_quantization(model_folder: Path) -> Any:
    """The quantization that an artifact's adapter was trained on; None for one without.

    Raises like `four_bits`.
    """
    manifest = model_folder / MANIFEST
    if not has_adapter(model_folder) or not manifest.exists():
        return None
    config = json.loads(manifest.read_text(encoding="utf-8"))["config"]
    method = config.get("method", {})
    if method.get("type") != "qlora":
        return None
    precision = config.get("precision", "auto")
    precision = native_precision() if precision == "auto" else precision
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return four_bits(dtype, double_quant=method.get("double_quant", True))


def use_native_precision(model: Any) -> Any:
    """The model in fp32, if it is in 16 bits on a CPU that has no arithmetic for them.

    Such a CPU emulates it: 256 prompt tokens of a bf16 Llama of 135M parameters took 8.7 CPU-s
    with AVX2, and 1.2 in fp32. A model stays as it is where the copy would take more than half of
    the available memory.
    """
    weights = list(model.parameters())
    half = weights[0].dtype in (torch.bfloat16, torch.float16)
    if weights[0].device.type != "cpu" or not half or native_precision() == "bf16":
        return model
    needed = 4 * sum(weight.numel() for weight in weights)
    return model.float() if needed <= available_bytes() / 2 else model


def locate(folder: Path) -> tuple[str, str | None]:
    """(path or hub id for `from_pretrained`, revision) of the weights of an artifact.

    Raises:
        MachineError: a local model is no longer where it was.

    """
    reference = folder / "model" / REFERENCE
    if not reference.exists():
        return str(folder / "model"), None
    hub = json.loads(reference.read_text())
    location = folder / "runtime" / LOCATION
    if location.exists():
        source = json.loads(location.read_text())
        if "gguf" in source:
            return str(_unpacked(folder, source, hub["revision"])), None
        path = moved_with(folder, source["path"])
        if not path.exists():
            raise MachineError(
                f"the base model is no longer at {path}. Move it back, or set its new path in "
                f"the project file, delete {folder} and run again."
            )
        return str(path), None
    return hub["id"], hub["revision"]


def _unpacked(folder: Path, source: dict[str, str], digest: str) -> Path:
    """Folder of the weights that were unpacked from a GGUF file, again where it was deleted."""
    from jangin.models.gguf.header import read_header
    from jangin.models.gguf.unpack import unpack

    first = Path(source["path"])
    weights = folder.parent.parent / first.parent.name / first.name
    for candidate in (first, weights):
        if candidate.exists():
            return candidate
    file = Path(source["gguf"])
    if not file.exists() or digest_file(file) != digest:
        raise MachineError(
            f"the base model is no longer at {file}, and its unpacked weights were deleted. Put "
            f"the same file there, or set its new path in the project file, delete {folder} and "
            "run again."
        )
    with without_progress_bars():
        unpack(file, read_header(file, "models: catalog: base"), weights)
    return weights


def runs_remote_code(folder: Path) -> bool:
    """Whether the model of an artifact may run Python code of its own."""
    reference = folder / "model" / REFERENCE
    if (folder / TRUSTED).exists():
        return True
    return reference.exists() and bool(json.loads(reference.read_text()).get(REMOTE_CODE))


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Context without the progress bars of transformers; ours show the same work."""
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # untyped there


@contextmanager
def known_warnings_ignored() -> Iterator[None]:
    """Ignore what users cannot act on.

    A deprecation between PEFT 0.21 and transformers 5.23; that ranks of fused experts belong to no
    module, as they belong to parameters; that the weights of GPT-2 are transposed, as PEFT found.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        warnings.filterwarnings("ignore", ".*_pattern keys did not match any", RuntimeWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
        yield


def loading_error(model: str, error: Exception) -> JanginError:
    """The error, not raised, for a model that `from_pretrained` could not load."""
    if "trust_remote_code" in str(error):
        return ConfigError(
            f"the model {model} needs Python code that its own folder or repository holds, and "
            "that is not run unasked. Read the code, then set `trust_remote_code: true` for the "
            "base, for a hub model with `revision: COMMIT`."
        )
    if "gated repo" in str(error):
        return MachineError(
            f"the model {model} is gated: accept its terms on https://huggingface.co/{model}, and "
            "give your token with `hf auth login` or the variable HF_TOKEN."
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return MachineError(
        f"the model {model} cannot be loaded: {first} "
        "When this machine is offline, set a local folder with `base: {type: local, path: ...}`."
    )


def base_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


# PEFT imports it where it is installed; each import warns that an inference kernel is missing.
getLogger("bitsandbytes").setLevel(ERROR)
# It logs every retry; our own error names the unreachable hub once.
getLogger("huggingface_hub").setLevel(ERROR)
