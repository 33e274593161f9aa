"""The table of docs/guides/base-and-gpu.md, from the memory forecast that `jangin plan` uses."""

import re
from pathlib import Path

from jangin.models.fits import CARDS, LENGTHS, fits
from jangin.models.memory import GIB, Device, Method, PlannedTraining, predict
from jangin.models.shape import USUAL_BASES, ModelShape

HEADS = {
    "base-and-gpu.md": "| base | parameters | full, GPU | LoRA, GPU | QLoRA, GPU | full, CPU |",
    "base-and-gpu.ko.md": "| 모델 | 파라미터 | 전체, GPU | LoRA, GPU | QLoRA, GPU | 전체, CPU |",
}
"""{page: head of its table}."""
COLUMNS: tuple[tuple[Method, Device], ...] = (
    ("full", "cuda"),
    ("lora", "cuda"),
    ("qlora", "cuda"),
    ("full", "cpu"),
)
"""No adapters on a CPU: their forecast depends on the packages that are installed."""
TOKENS = 2048
"""Tokens of a batch: the default of `tokens_per_batch`."""
_BEGIN, _END = "<!-- memory table -->", "<!-- end of the memory table -->"
_FITS = re.compile(r"(<!-- fits table -->)[\s\S]*?(<!-- end of the fits table -->)")


def memory_pages(guides: Path) -> dict[Path, str]:
    """The pages with their tables rewritten; raises `ValueError` where a page has no place."""
    pages = {}
    for name, head in HEADS.items():
        text = (guides / name).read_text(encoding="utf-8")
        table = f"{head}\n|---|---:|---:|---:|---:|---:|\n{_rows()}"
        # The table holds no backslash, which `subn` would read as an escape.
        pages[guides / name], count = re.subn(
            rf"{_BEGIN}[\s\S]*?{_END}", f"{_BEGIN}\n\n{table}\n\n{_END}", text
        )
        if count != 1:
            raise ValueError(f"{name} has {count} places for the table of memory")
        pages[guides / name] = _FITS.sub(rf"\1\n\n{_fits(head)}\n\n\2", pages[guides / name])
    return pages


def _fits(head: str) -> str:
    """What `jangin plan --fits` prints; the first column has the name that it has in `head`."""
    base = head.split("|")[1].strip()
    lines = [f"| {base} | `method` | `optimizer` | {' | '.join(f'{c} GiB' for c in CARDS)} |"]
    lines.append(f"|---|---|---|{'---:|' * len(CARDS)}")
    for fit in fits():
        cells = [f"{tokens // LENGTHS[0]}k" if tokens else "-" for tokens in fit.longest]
        lines.append(f"| {fit.base} | {fit.method} | {fit.optimizer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows() -> str:
    lines = []
    for name, config in USUAL_BASES.items():
        shape = ModelShape.of(dict(config))
        peaks = [
            predict(shape, PlannedTraining(method, TOKENS, "bf16", device=device)).peak / GIB
            for method, device in COLUMNS
        ]
        cells = [f"{shape.parameters / 1e9:.2f}B", *(f"{peak:.1f} GiB" for peak in peaks)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)
