"""The learning rate that `learning_rate: auto` chooses. Imports no torch.

Full supervised tuning of pretrained models: 2e-5 for Llama 2 chat (Touvron et al. 2023,
arXiv:2307.09288), less for larger models and more for smaller ones. LoRA and QLoRA: 2e-4 up to 13B
and 1e-4 from 33B on (Dettmers et al. 2023, arXiv:2305.14314, table 9), at any rank; the best
rate of LoRA is about ten times that of full tuning (Schulman et al. 2025, LoRA Without Regret).
DPO: 5e-7 for full tuning of 7B (Tunstall et al. 2023, arXiv:2310.16944), ten times that for LoRA.
"""

from collections.abc import Mapping
from pathlib import Path

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.shape import ModelShape
from jangin.training.loop.config import Adapter, C, TrainingKeys

SMALL = 50_000_000
"""Parameters below which the rate is that of starters. No pretrained model in use is so small."""
HUGE = float("inf")
_Rates = tuple[tuple[float, float], ...]
"""(parameters below which the rate applies, rate)."""
_FULL: _Rates = ((1e9, 5e-5), (7e9, 2e-5), (HUGE, 1e-5))
_ADAPTER: _Rates = ((30e9, 2e-4), (HUGE, 1e-4))
_FULL_DPO: _Rates = ((1e9, 1e-6), (HUGE, 5e-7))
_ADAPTER_DPO: _Rates = ((HUGE, 5e-6),)


def auto_rate(config: TrainingKeys, base: Path) -> float:
    """The rate that fits the method and the size of the model of a `base` artifact."""
    try:
        parameters: float = ModelShape.read(base / "model" / "config.json").parameters
    except TrainingError:  # a family whose sizes are unknown, and so no starter
        parameters = HUGE
    if parameters < SMALL:
        return config.starter_rate
    adapter = isinstance(config.method, Adapter)
    if config.preference:
        table = _ADAPTER_DPO if adapter else _FULL_DPO
    else:
        table = _ADAPTER if adapter else _FULL
    return next((rate for most, rate in table if parameters < most), table[-1][1])


def with_rate(config: C, base: Path, progress: Progress) -> C:
    """`config` with a number as its learning rate; the number is reported where it was `auto`."""
    if config.learning_rate != "auto":
        return config
    rate = auto_rate(config, base)
    if rate != config.starter_rate:
        progress.message(
            f"learning rate {rate:g}, which suits `method: {config.method.type}` and this base "
            "model. Set `learning_rate` for another one."
        )
    return config.model_copy(update={"learning_rate": rate})


def rate_facts(config: TrainingKeys, base: Path) -> Mapping[str, str]:
    """The derived rate for the cache key; empty where it is what stages without `auto` used."""
    if config.learning_rate != "auto" or (rate := auto_rate(config, base)) == config.starter_rate:
        return {}
    return {"learning_rate": f"{rate:g}"}
