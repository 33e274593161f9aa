"""Predicted peak memory of a training run, from the model's shape; no torch.

The tensors that the packed loop keeps for the backward pass are counted per token and layer.
Letters: D hidden size, F feed-forward size, Q all query heads, K all key/value heads, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Literal

from jangin.models.shape import ModelShape

# Block sizes and buffer limits of the training kernels, shared with the memory prediction.
#
# No torch here, so that `jangin plan` can predict memory without loading it.


LOSS_CHUNK_BYTES = 32 * 2**20
"""Logits that the chunked cross-entropy and log-probabilities hold at once."""
LOSS_ROWS = 128
"""Fewest tokens of such a chunk on a CPU: with fewer, reading the head's weight takes longer than
multiplying by it. Their bf16 logits are 64 MiB for 256k tokens of vocabulary."""
CUDA_LOSS_ROWS = 1024
"""Fewest tokens of such a chunk on a GPU: with fewer, the head's product waits for its weight,
which is read once in each chunk. Their fp32 logits are 0.5 GiB for 128k tokens of vocabulary."""
PAIR_LOGITS_BYTES = 4 * LOSS_CHUNK_BYTES
"""Log-probabilities of at most this size keep their logits for the backward pass."""
ATTENTION_BLOCK = 256
"""Queries of one product in `sdpa_attention`: only inside a block is anything above the diagonal
computed."""
ATTENTION_GRAIN = 32
"""bf16 segments are rounded up to a multiple of this many tokens."""
KEPT_KEYS = 512
"""Attention weights of queries that see at most this many keys are kept for the backward pass."""
KEPT_FREED_BYTES = 512 * 2**20
"""Freed heap that a training process on a CPU keeps for its next batch."""


Precision = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]
Method = Literal["full", "lora", "qlora"]
Optimizer = Literal["adamw", "adamw_8bit", "adamw_bf16", "adamw_offload"]

GIB = 2**30
_MIB = 2**20

LIBRARY_BYTES = 170 * _MIB
"""Pages of the libraries' files: 140 MiB where these were read from disk, 210 right after their
installation, as the kernel maps all of a large folio of its page cache. It can take them back."""
CPU_PROCESS_BYTES = 330 * _MIB + LIBRARY_BYTES
"""Resident size of a process that has imported torch, transformers and polars and done a step."""
PEFT_BYTES = 15 * _MIB
BITSANDBYTES_BYTES = 45 * _MIB
"""More resident memory of `import peft` where bitsandbytes is installed too."""
QUANTIZER_BYTES = 30 * _MIB
"""More of loading weights in 4 bits: accelerate, and the library's kernels."""
SMALL_BLOCKS_BYTES = 64 * _MIB
"""Weights as they were before, twice: freed, but small blocks stay with the process."""
TOKENIZER_BYTES = 1250
"""For each token of the vocabulary: measured 1,290 with Gemma 3's 262,144, 1,045 with SmolLM2's."""
KERNEL_BYTES = 135 * _MIB
"""Compiled bf16 kernels: oneDNN's, with both of its caches held to 16 entries, and numba's."""
CUDA_PROCESS_BYTES = 600 * _MIB
"""CUDA context and kernel images on the device, outside torch's allocator."""
HEAP_WASTE = 0.75
"""Share of the forward pass's short-lived tensors that glibc cannot reuse: its `posix_memalign`
asks for more than it hands out, so a freed block is too small for the same request again."""
LLAMA_WASTE = 0.3
"""The same of `llama`, which makes fewer of them."""
SPLIT_WASTE = 0.32
"""Share of the activations that is wasted beside it where a step has several batches: each is a
little larger or smaller than the one before, so its tensors do not fit where those were. What was
freed goes back to the system only when the heap has grown, and by then it has been resident."""
WHOLE_SPREAD = 0.25
"""Batches that differ by this share or more waste all of that, others in proportion."""
ARENA_WASTE = 0.08
"""Share of the activations beside them in the arena: what passes, and holes."""
GRADIENT_WASTE = 0.1
"""Share of the gradients beside them on the heap: those of single matrices of a batch, in bf16 and
then in fp32, before they are added."""
LLAMA_FAMILIES = {"llama", "mistral", "qwen2", "qwen3", "gemma3_text"}
"""Families with CPU kernels and fused modules of our own."""
_EIGHT_BIT_BYTES = 2 + 2 * 4 / 256
STATE_BYTES = {
    "adamw": 8,
    "adamw_8bit": _EIGHT_BIT_BYTES,
    "adamw_bf16": _EIGHT_BIT_BYTES,
    "adamw_offload": 0,
}
"""On the device, per trained weight. 8-bit moments have an fp32 scale in each block of 256."""
OFFLOADED_BYTES = 12
"""In CPU memory, per weight: itself and two moments in fp32."""
NF4_BYTES = 0.516
"""Per weight: 4 bits and doubly quantised scales."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Predicted peak, part by part, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    copies: int
    """bf16 copies of fp32 matrices, and the last good weights where they are kept."""
    activations: int
    """Tensors kept for the backward pass."""
    loss: int
    """The logits chunk and the gradients computed with it."""
    heap: int
    """Freed memory that the C library cannot reuse."""
    process: int
    """Libraries and interpreter, or the CUDA context."""
    overlap: int = 0
    """Not more than 0: gradients for which there is room where activations were. In a step of a
    single batch the last gradients come when nothing is kept for the backward pass any more."""

    @property
    def peak(self) -> int:
        """Sum of all parts."""
        return sum(asdict(self).values())


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """What the prediction needs to know of a run besides the model."""

    method: Method
    tokens: int
    """Tokens of the largest batch."""
    precision: Precision
    rank: int = 16
    dropout: bool = False
    """Whether the adapter drops some of its inputs."""
    trained_share: float = 0.5
    """Share of tokens that the loss counts."""
    kept_keys: float = 0.0
    """Attention weights kept per token and head; 0 where compiled passes keep a logarithm."""
    split: bool = False
    """Whether a step has several batches."""
    spread: float = 1.0
    """Share of a batch by which these differ: about one row."""
    pairs: bool = False
    """Whether answers are compared in pairs, as DPO does."""
    kept_weights: bool = False
    """Whether the last good weights are kept beside those that are trained."""
    device: Device = "cpu"
    kernels: bool = True
    """Whether CPU kernels or fused modules for CUDA run the layers, where they can."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""
    shards: int = 1
    """Processes that share weights, gradients and optimizer (FSDP2)."""
    optimizer: Optimizer = "adamw"

    @property
    def has_bf16_weights(self) -> bool:
        """Whether all weights are trained in the type of the products, without copies in it."""
        narrow = self.optimizer in ("adamw_bf16", "adamw_offload")
        return narrow and self.precision == "bf16"

    @property
    def has_adapter(self) -> bool:
        """False where every weight is trained."""
        return self.method in ("lora", "qlora")


def predict(shape: ModelShape, training: PlannedTraining) -> MemoryPlan:
    """Peak of a training process on this model: resident memory on a CPU, device memory on CUDA."""
    adapter = training.has_adapter
    trained = shape.adapter_parameters(training.rank) if adapter else shape.parameters
    copies = 0
    wide = not adapter or (training.device == "cpu" and training.precision == "fp32")
    weights = shape.parameters * (4 if wide else shape.weight_bytes)
    if training.method == "qlora":
        weights = int(shape.linear_parameters * NF4_BYTES)
        weights += (shape.parameters - shape.linear_parameters) * shape.weight_bytes
    elif training.precision == "bf16" and (not adapter or shape.weight_bytes == 4):
        copies = 2 * shape.linear_parameters
    if training.has_bf16_weights:
        weights, copies = 2 * shape.parameters, 0
    if adapter:
        weights += 4 * trained
        copies += 2 * trained if training.precision == "bf16" else 0
    if training.shards > 1:
        copies = _gathered_bytes(shape, training)
    copies += 4 * trained // training.shards if training.kept_weights else 0
    own = training.kernels and shape.family in LLAMA_FAMILIES
    llama = own and training.device == "cpu" and not training.dropout
    kept, wasted = _llama_kernel_bytes(shape, training) if llama else _layer_bytes(shape, training)
    if own and training.device == "cuda":
        kept = _fused_layer_bytes(shape, training)
    layers = float(shape.layers)
    if training.checkpointing:
        # Inputs of all layers, and one layer in full.
        half = training.device == "cuda" and adapter and shape.weight_bytes == 2
        ends, layers = shape.layers * (2 if half else 4) * shape.hidden, 1
    else:
        ends = 0
        # After its attention the last layer computes trained tokens only.
        layers -= 0.6 * (1 - min(1, training.trained_share)) if llama else 0
    ends += 8 * shape.hidden + 8 * shape.head_size + 24
    on_cpu = training.device == "cpu"
    activations = int(training.tokens * (layers * kept + ends))
    if training.split:
        wasted += int(SPLIT_WASTE * min(1, training.spread / WHOLE_SPREAD) * kept)
    gradients = 4 * trained // training.shards
    state = STATE_BYTES[training.optimizer]
    if training.optimizer == "adamw_offload" and on_cpu:
        state = OFFLOADED_BYTES
    heap = int(training.tokens * layers * wasted)
    if llama and _uses_arena(training):
        heap = int(ARENA_WASTE * activations + GRADIENT_WASTE * gradients)
    return MemoryPlan(
        weights=weights // training.shards,
        gradients=gradients,
        optimizer=int(state * trained) // training.shards,
        copies=copies,
        activations=activations,
        loss=_loss_bytes(shape, training),
        heap=heap if on_cpu else 0,
        process=_process_bytes(shape, training),
        overlap=0 if training.split or training.shards > 1 else -min(gradients, activations),
    )


def _uses_arena(training: PlannedTraining) -> bool:
    """Whether all that the passes of compiled kernels compute is apart from the heap."""
    compiled = training.precision == "bf16" and not training.kept_keys
    apart = training.split or training.has_adapter
    return compiled and apart and training.method != "qlora" and training.shards == 1


def _gathered_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    """What a process of a sharded run holds beside its share: whole layers, one at a time.

    The weights outside the layers, two layers (one is gathered while the other computes), and of
    one of them the gradient, in the type of the products and in fp32, in which it is sent.
    """
    outside = shape.embedding_parameters * (1 if shape.tied else 2) + shape.hidden
    layer = (shape.parameters - outside) // shape.layers
    size = 2 if training.precision == "bf16" else shape.weight_bytes if training.has_adapter else 4
    gradient = 0 if training.has_adapter else (size + 4) * max(layer, outside)
    return size * (outside + 2 * layer) + gradient


def _layer_bytes(shape: ModelShape, training: PlannedTraining) -> tuple[int, int]:
    """(kept for the backward pass, wasted by the heap) per token of one layer."""
    D, F, Q, K = shape.hidden, shape.feed_forward, shape.queries, shape.keys
    adapter, mixed = training.has_adapter, training.precision == "bf16"
    size = 2 if mixed else 4
    outer = shape.norms - 2
    # Residual stream in fp32 at every norm; its scaled form where the norm itself is trained.
    kept = 4 * D * shape.norms * (1 if adapter else 2)
    # On a CPU attention computes in fp32.
    kept += (4 if training.device == "cpu" else size) * (Q + 2 * K + Q)
    kept += 4 * shape.heads + 4 * shape.norms
    kept += size * (_input_columns(shape, training) + Q + 4 * F)
    if shape.query_key_norm:
        kept += (Q + K) * ((4 if adapter else 6) if mixed else (4 if adapter else 8))
    outputs = 2 * D + Q + 2 * K + 2 * F
    passing = 4 * D * (2 if adapter else 1) * shape.norms + size * (2 * D + outer * D)
    passing += size * (Q + K) * 5 // 2 + 8 * (Q + K) + size * Q
    passing += (4 * 2 * D + 2 * K) if mixed else 0
    if adapter:
        kept += size * 7 * training.rank
        # Base and adapter write one each; half of them find room where another was.
        passing += size * outputs * 3 // 2
        if training.dropout:
            kept += (size + 1) * (4 * D + 2 * D + Q + F)
    return kept, int(HEAP_WASTE * passing)


def _input_columns(shape: ModelShape, training: PlannedTraining) -> int:
    """Columns that linear layers keep of what enters attention and feed-forward network.

    Autocast casts fp32 rows again for each layer. An adapter's are in bf16 already, unless the base
    is in fp32, or dropout takes them in fp32.
    """
    again = not training.has_adapter or training.dropout or shape.weight_bytes > 2
    return (5 if again and training.precision == "bf16" else 2) * shape.hidden


def _fused_layer_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    """Kept per token of one layer whose modules are fused on CUDA.

    A norm keeps its input, attention what it reads and writes in the type of the products, and the
    feed-forward network both halves and their product.
    """
    D, F, Q, K = shape.hidden, shape.feed_forward, shape.queries, shape.keys
    size, adapter = 2 if training.precision == "bf16" else 4, training.has_adapter
    gemma = shape.norms > 2  # their norms compute in fp32, outside of the kernel
    kept = (size if adapter and not gemma else 4) * D * shape.norms + 4 * shape.norms
    kept += size * (_input_columns(shape, training) + 2 * Q + 2 * K + 3 * F) + 4 * shape.heads
    if shape.query_key_norm:
        kept += (Q + K) * (4 if gemma else size if adapter else 2 * size)
    if adapter:
        kept += size * 7 * training.rank
        kept += (size + 1) * (4 * D + 2 * D + Q + F) if training.dropout else 0
    return kept


def _llama_kernel_bytes(shape: ModelShape, training: PlannedTraining) -> tuple[int, int]:
    """The same where `llama` computes the layers: each tensor once, in the type of the products.

    What the norms and the activation return is computed again.
    """
    D, F, Q, K = shape.hidden, shape.feed_forward, shape.queries, shape.keys
    size = 2 if training.precision == "bf16" else 4
    kept = 8 * D + 8 + size * (2 * Q + 2 * K + 2 * F)
    kept += shape.heads * (int(size * training.kept_keys) or 4)
    # Inputs of the norms after attention and feed-forward layer.
    kept += (shape.norms - 2) * (size * D + 4)
    if shape.query_key_norm:
        # `sdpa_attention` keeps them rotated.
        kept += 4 * (Q + K) // shape.head_size + (size * (Q + K) if training.kept_keys else 0)
    passing = LLAMA_WASTE * (8 * D + size * (Q + 2 * K + 2 * F))
    if training.has_adapter:
        room = _rounded(training.rank, 8)
        # Of q, k and v; of gate and up; of the other two: each side by side in full tiles.
        kept += size * sum(_rounded(count * room, ATTENTION_GRAIN) for count in (3, 2, 1, 1))
    if training.method == "qlora":
        # Products with 4-bit weights and their adapters are left to the modules, which keep rows.
        kept += size * (2 * D + F)
        kept += 2 * (5 * D + Q + F) if training.precision == "bf16" else 0
        passing += HEAP_WASTE * size * (2 * D + Q + 2 * K + 2 * F)
    return kept, int(passing)


def kept_keys(lengths: Sequence[int], precision: Precision) -> float:
    """Mean number of attention weights that `sdpa_attention` keeps per token and head.

    `lengths`: tokens of each row.
    """
    grain = ATTENTION_GRAIN if precision == "bf16" else 1
    kept = 0
    for length in lengths:
        blocks = -(-length // ATTENTION_BLOCK)
        for block in range(blocks):
            first, last = (length * part // blocks for part in (block, block + 1))
            if last <= KEPT_KEYS:
                kept += _rounded(last - first, grain) * _rounded(last, grain)
    return kept / sum(lengths)


def _rounded(count: int, grain: int) -> int:
    return -(-count // grain) * grain


def _loss_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    """Most bytes that the loss needs at one time."""
    trained = int(training.tokens * training.trained_share)
    hidden = 8 * trained * shape.hidden
    if training.pairs:
        return hidden + _pair_logits_bytes(shape, training, trained)
    chunk = _chunk_bytes(shape, training, trained) * (2 if shape.soft_capped else 1)
    head = _head_gradient_bytes(shape, training)
    if training.precision == "bf16":
        return hidden + 2 * chunk + head + _head_copy_bytes(shape, training)
    return hidden + chunk + head


def _chunk_bytes(shape: ModelShape, training: PlannedTraining, trained: int) -> int:
    """Bytes of the fp32 logits of one chunk of the loss."""
    rows = CUDA_LOSS_ROWS if training.device == "cuda" else LOSS_ROWS
    fused = training.device == "cpu" and training.precision == "bf16" and not shape.soft_capped
    size = 2 if fused else 4
    least = size * rows * shape.vocabulary
    return min(max(LOSS_CHUNK_BYTES, least), 4 * trained * shape.vocabulary)


def _pair_logits_bytes(shape: ModelShape, training: PlannedTraining, trained: int) -> int:
    """Logits kept for the backward pass, a chunk's gradient, and the head's."""
    logits = 4 * trained * shape.vocabulary
    chunk = _chunk_bytes(shape, training, trained)
    kept = logits if logits <= PAIR_LOGITS_BYTES else chunk
    mixed = training.precision == "bf16"
    cast = _head_copy_bytes(shape, training) + chunk // 2 if mixed else 0
    return kept + chunk + cast + _head_gradient_bytes(shape, training)


def _head_gradient_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    """The head's gradient of a batch, where it is not added to that of the batches before."""
    direct = training.split and training.device == "cpu" and training.shards == 1
    return 0 if training.has_adapter or direct else 4 * shape.embedding_parameters


def _head_copy_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    """Temporary bf16 copy of fp32 output embeddings during the loss."""
    wide = not training.has_adapter or shape.weight_bytes == 4
    return 2 * shape.embedding_parameters if wide and not training.has_bf16_weights else 0


def _process_bytes(shape: ModelShape, training: PlannedTraining) -> int:
    if training.device == "cuda":
        return CUDA_PROCESS_BYTES
    size = CPU_PROCESS_BYTES + TOKENIZER_BYTES * shape.vocabulary
    if training.precision == "bf16":
        size += KERNEL_BYTES
    if training.has_adapter:
        size += PEFT_BYTES
        size += BITSANDBYTES_BYTES if find_spec("bitsandbytes") else 0
    if training.method == "qlora":
        size += QUANTIZER_BYTES + min(SMALL_BLOCKS_BYTES, 8 * shape.parameters)
    return size
