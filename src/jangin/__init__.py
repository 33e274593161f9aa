"""jangin (장인, master artisan): from an organisation's documents to a specialist language model.

Rooms, bottom up; a room imports only from those before it in this list:
core, text, llm, documents, prepare, examples, metrics, models, inference, evaluation, training,
project, report, cli.
"""

import os

__version__ = "0.1.0"

# torch bundles a libgomp whose idle threads spin; on a small or busy machine that costs
# 3x to 25x. It is read once, when torch loads, so it must be set before anything else here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# oneDNN keeps a compiled kernel per shape, and every packed batch has another length: with the
# default of 1,024 a bf16 run on a CPU grows by hundreds of MB. With 16, the few shapes that do
# come again, those of attention, would push each other out.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
