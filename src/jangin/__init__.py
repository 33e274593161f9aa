"""jangin (장인, master artisan): from an organisation's documents to a specialist language model.

Floors, in the order the data flows and in which imports may run:
core -> documents -> examples -> grading -> models -> pipeline -> serving.
"""

import os

__version__ = "0.1.0"

# torch bundles a libgomp whose idle threads spin; on a small or busy machine that costs
# 3x to 25x. It is read once, when torch loads, so it must be set before anything else here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
