"""Every engine and setting of every table: which script, which job, in whose environment."""

from dataclasses import dataclass, field
from typing import Any

TASKS = ("sft", "lora", "dpo", "prepare", "generate")
PRECISIONS = ("fp32", "bf16")
LARGE = 8192
"""Tokens computed at once; the engine's own default is `tokens_per_batch` of its settings."""
QUICK = {
    "trl packed 512",
    "trl precomputed reference",
    "trl tokenized, masked, packed",
    "llamafactory packed",
    "swift grouped",
    "transformers generate, batches of 8",
    "transformers generate, batches of 32",
    "transformers generate, batches of 32, sorted by hand",
    "transformers generate_batch (continuous)",
}
"""The settings that were fastest in a full run; a quick one has these, all defaults, and ours."""


@dataclass(frozen=True)
class Contestant:
    """One row of a table."""

    engine: str
    """`ours`, `transformers` (both in our environment), or a peer with one of its own."""
    setting: str
    script: str
    job: dict[str, Any] = field(default_factory=dict)
    default: bool = False
    """What the engine does when told nothing."""

    @property
    def name(self) -> str:
        """As in the tables."""
        return f"{self.engine} {self.setting}"

    @property
    def quick(self) -> bool:
        """Whether a quick run has it."""
        own = self.engine == "ours" and "tokens_per_batch" not in self.job
        name = self.name.removesuffix(" bf16").removesuffix(" fp32")
        return own or self.default or name in QUICK

    def runs_in(self, precision: str) -> bool:
        """Whether a run of this precision, `fp32`, `bf16` or `both`, has it."""
        return precision == "both" or self.job.get("bf16", precision == "bf16") == (
            precision == "bf16"
        )


def trained(engine: str, layout: str, *, bf16: bool, ckpt: bool, **more: Any) -> Contestant:
    """A way of a peer to train on batches of one layout."""
    words = [layout, str(more["packed_tokens"]) if "packed_tokens" in more else ""]
    words += ["compact head (patched)" if more.get("compact") else ""]
    words += ["bf16" if bf16 else "fp32", "checkpointing" if ckpt else ""]
    job = {"layout": layout, "bf16": bf16, "checkpointing": ckpt, **more}
    default = layout == "padded" and ckpt and not more
    words += [("= its defaults" if bf16 else "= its defaults in fp32") if default else ""]
    return Contestant(engine, " ".join(filter(None, words)), f"{engine}_peer.py", job, default)


def ours() -> list[Contestant]:
    """`precision: auto` takes bf16 where the CPU has it."""
    large = f"bf16, {LARGE:,} tokens a batch"
    return [
        *(Contestant("ours", name, "ours.py", {"bf16": name == "bf16"}) for name in PRECISIONS),
        Contestant("ours", large, "ours.py", {"bf16": True, "tokens_per_batch": LARGE}),
    ]


def sft() -> list[Contestant]:
    both = (False, True)
    return [
        *ours(),
        *(
            trained("trl", layout, bf16=bf16, ckpt=ckpt)
            for layout in ("padded", "packed")
            for ckpt in both
            for bf16 in both
        ),
        *(trained("trl", "packed", bf16=bf16, ckpt=False, packed_tokens=512) for bf16 in both),
        *(trained("trl", "grouped", bf16=bf16, ckpt=False) for bf16 in both),
        *(trained("trl", "padded", bf16=bf16, ckpt=False, compact=True) for bf16 in both),
        *_other_peers(),
    ]


def lora() -> list[Contestant]:
    both = (False, True)
    return [
        *ours(),
        *(trained("trl", "padded", bf16=bf16, ckpt=True) for bf16 in both),
        *(
            trained("trl", layout, bf16=bf16, ckpt=False)
            for layout in ("padded", "packed", "grouped")
            for bf16 in both
        ),
        *(trained("trl", "packed", bf16=bf16, ckpt=False, packed_tokens=512) for bf16 in both),
        *_other_peers(),
    ]


def _other_peers() -> list[Contestant]:
    """Their defaults, and what could be faster. ms-swift packs with FlashAttention only."""
    both = (False, True)
    return [
        *(trained("llamafactory", "padded", bf16=bf16, ckpt=True) for bf16 in both),
        *(
            trained("llamafactory", layout, bf16=bf16, ckpt=False)
            for layout in ("padded", "packed")
            for bf16 in both
        ),
        *(trained("swift", "padded", bf16=bf16, ckpt=True) for bf16 in both),
        *(
            trained("swift", layout, bf16=bf16, ckpt=False)
            for layout in ("padded", "grouped")
            for bf16 in both
        ),
    ]


def dpo() -> list[Contestant]:
    found = ours()
    for precompute in (False, True):
        for bf16, ckpt in ((True, True), (False, True), (True, False), (False, False)):
            words = ["precomputed reference" if precompute else "reference model"]
            words += ["bf16" if bf16 else "fp32", "checkpointing" if ckpt else ""]
            default = ckpt and not precompute
            words += [("= its defaults" if bf16 else "= its defaults in fp32") if default else ""]
            job = {"precompute": precompute, "bf16": bf16, "checkpointing": ckpt}
            name = " ".join(filter(None, words))
            found.append(Contestant("trl", name, "trl_peer.py", job, default))
    return found


def prepare() -> list[Contestant]:
    return [
        Contestant("ours", "rendered, masked, packed", "ours.py"),
        Contestant("trl", "tokenized, masked, packed", "trl_peer.py", {"layout": "packed"}),
        Contestant("trl", "tokenized, masked", "trl_peer.py", {"layout": "padded"}, default=True),
    ]


def generate() -> list[Contestant]:
    script, batches = "transformers_peer.py", (1, 8, 32, 64)
    ways = [(batch, False) for batch in batches] + [(batch, True) for batch in batches[2:]]
    return [
        Contestant("ours", "generate", "ours.py"),
        *(
            Contestant(
                "transformers",
                f"generate, batches of {batch}{', sorted by hand' if by_length else ''}",
                script,
                {"engine": "generate", "batch": batch, "sorted": by_length},
            )
            for batch, by_length in ways
        ),
        Contestant("transformers", "generate_batch (continuous)", script, {"engine": "continuous"}),
    ]
