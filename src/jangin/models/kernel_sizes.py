"""Block sizes and buffer limits of the training kernels, shared with the memory prediction.

No torch here, so that `jangin plan` can predict memory without loading it.
"""

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
