"""The gradient of one optimizer step, batch after batch, with recovery from running out of memory.

The summed loss is divided by the denominator of the whole step (such as its trained tokens), so
any split of a step into batches has the same gradient. After running out of memory it is therefore
enough to halve the batches.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import ceil, log2
from statistics import median
from typing import Any, Literal

import torch
import transformers

from jangin.core.digest import digest_value
from jangin.core.errors import JanginError, TrainingError
from jangin.core.events import Progress
from jangin.models.forward.compiled_layers import (
    CompiledLayers,
    Timing,
    decoder_layers,
    error_line,
    find_timing,
    keep_timing,
)
from jangin.models.loading import base_model
from jangin.models.tokens.packing import split_by_budget
from jangin.training.kernels import Arena, HeapGrowth, release_freed_memory, zeros_like
from jangin.training.loop.config import Full, TrainingConfig
from jangin.training.loop.objective import Objective
from jangin.training.loop.process_group import ProcessGroup

# Whether the layers of a training run compiled: what its settings say, or its first steps.
#
# `compile: auto` and `measure` time real steps, each of which is done once: some eagerly, then
# some compiled. The faster way is kept, also by later runs of the same work on the same device.


Mode = Literal["eager", "compiled", "timing_eager", "timing_compiled"]

CLOCK = time.perf_counter
EARLIER_PART = "as in the part of the run before the checkpoint"


@dataclass(frozen=True, slots=True)
class Rules:
    """When compiling is tried, and in how many steps it is judged."""

    samples: int = 5
    """Timed steps of each way, of which the median counts."""
    most_steps: int = 20
    """Compiled steps among which there must be that many that compile nothing new."""
    least_seconds: float = 600.0
    """Of training left below which nothing is compiled."""
    share: float = 0.1
    """Of these seconds that compiling may take."""
    longest: float = 600.0
    """Seconds that compiling may take at most."""

    always: bool = False
    """Try it however little is left."""

    def limit(self, left: float) -> float:
        """Seconds that compiling may take where the run takes `left` seconds more; 0: none."""
        if self.always:
            return self.longest
        return min(self.share * left, self.longest) if left >= self.least_seconds else 0.0


RULES = {"auto": Rules(), "measure": Rules(always=True)}
_MORE_TIME = 2
"""Times as long as before that compiling must be allowed to take for another trial."""


@dataclass(slots=True)
class LayerChoice:
    """How the layers run in each pass of a training, and what decided it."""

    setting: str
    progress: Progress
    device: torch.device
    compiled: CompiledLayers
    tokens_per_step: float = 1.0
    """Mean of the run, to express speeds in seconds per step."""
    rules: Rules = field(default_factory=Rules)
    mode: Mode = "eager"
    because: str = ""
    """Why the layers run as they do."""
    timing: Timing | None = None
    """What was measured, in this run or before."""
    _key: str = ""
    _steps_left: int = 0
    _eager: list[float] = field(default_factory=list)
    _compiled: list[float] = field(default_factory=list)
    _first: list[tuple[float, int]] = field(default_factory=list)
    """(seconds, tokens) of the steps that compiled something."""

    @classmethod
    def of(
        cls, model: Any, setting: str, reason: str, tokens_per_step: float, progress: Progress
    ) -> "LayerChoice":
        """As the settings say; `begin` starts the measurement for `auto` and `measure`.

        `reason` is why layers run eagerly without a measurement; empty for none.
        """
        device = next(model.parameters()).device
        layers = decoder_layers(model)
        config = getattr(base_model(model), "config", None)
        if not reason and not layers:
            reason = "this model does not name its layers"
        if not reason and setting != "layers" and hasattr(config, "quantization_config"):
            reason = "quantized weights are not compiled"
        if reason and setting != "off" and (setting, device.type) != ("auto", "cpu"):
            progress.message(f"`compile: {setting}`: layers run eagerly: {reason}.")
        always = setting == "layers" and not reason
        return cls(
            setting,
            progress,
            device,
            CompiledLayers(layers),
            tokens_per_step,
            RULES.get(setting, Rules()),
            "compiled" if always else "eager",
            "`compile: layers`" if always else reason,
        )

    def begin(self, steps: int, about: dict[str, Any], decided: str = "") -> None:
        """Decide, or begin to measure, before the first of `steps` steps.

        `about` is what the speed depends on beside the layers; `decided` what a checkpoint says.
        """
        if self.mode == "compiled" or self.because:
            return
        self.compiled.limit(self.rules.longest)
        if decided in ("eager", "compiled"):
            self.mode = "compiled" if decided == "compiled" else "eager"
            self.because = EARLIER_PART
            return
        self._steps_left = steps
        self._key = _key(self.compiled.layers, self.device, about)
        known = find_timing(self._key)
        if known is None or not self._settle_by(known, steps):
            self.mode = "timing_eager"

    @property
    def decided(self) -> str:
        """`eager` or `compiled`; empty while it is measured. A checkpoint keeps it."""
        return self.mode if self.mode in ("eager", "compiled") else ""

    def facts(self) -> dict[str, Any]:
        """For the figures of a run."""
        facts: dict[str, Any] = {"mode": self.decided or "not decided", "because": self.because}
        timing, tokens = self.timing, self.tokens_per_step
        if timing is not None:
            paid = timing.break_even(tokens)
            facts |= {
                "eager_seconds_per_step": timing.eager * tokens,
                "compiled_seconds_per_step": (
                    None if timing.compiled is None else timing.compiled * tokens
                ),
                "compiling_seconds": timing.compiling,
                "break_even_steps": None if paid is None else ceil(paid),
            }
        return facts

    @contextmanager
    def passes(self) -> Iterator[None]:
        """Inside, forward and backward passes run as decided, or as they are measured now."""
        if self.mode in ("eager", "timing_eager"):
            yield
            return
        with self.compiled.running():
            yield

    @contextmanager
    def timed(self, tokens: Callable[[], int]) -> Iterator[None]:
        """Inside is the gradient of one step; `tokens` counts those computed so far."""
        if self.decided:
            yield
            return
        graphs, first = self.compiled.graphs, tokens()
        self._wait()
        began = CLOCK()
        try:
            yield
        except BaseException:
            if self.mode == "timing_eager":
                self._eager.clear()  # After running out of memory, steps have other batches.
            raise
        self._wait()
        self._steps_left -= 1
        seconds, count = CLOCK() - began, tokens() - first
        if self.mode == "timing_eager":
            self._note_eager(seconds, count)
        else:
            self._note_compiled(seconds, count, fresh=self.compiled.graphs > graphs)

    def gave_up(self, error: BaseException) -> bool:
        """Whether compiled layers are given up for this error, so the step can be done eagerly."""
        memory = isinstance(error, torch.OutOfMemoryError)
        if self.mode not in ("compiled", "timing_compiled") or isinstance(error, JanginError):
            return False
        if memory and self.mode == "compiled":
            return False
        if self.compiled.exceeded and self.mode == "timing_compiled":
            self._keep(None, self.compiled.exceeded)
        failed = f"compiled layers failed with {error_line(error)}"
        out = "compiled layers ran out of memory"
        self._settle("eager", self.compiled.failure or (out if memory else failed))
        return True

    def close(self) -> None:
        """Free the compiled code."""
        self.compiled.drop()

    def _settle(self, mode: Literal["eager", "compiled"], because: str) -> None:
        self.mode, self.because = mode, because
        if mode == "eager":
            self.compiled.drop()
        self.progress.message(
            f"`compile: {self.setting}`: layers run compiled: {because}."
            if mode == "compiled"
            else f"`compile: {self.setting}`: layers run eagerly: {because}."
        )

    def _settle_by(self, known: Timing, steps: int) -> bool:
        """Decide by an earlier measurement; False where it does not suffice."""
        text, paid = known.text(self.tokens_per_step), known.break_even(self.tokens_per_step)
        if known.compiled is None:
            left = known.eager * self.tokens_per_step * steps
            if self.rules.limit(left) > _MORE_TIME * known.compiling:
                return False
        self.timing = known
        because = f"measured on this device before: {text}"
        if paid is None or self.rules.always or steps > paid:
            self._settle("eager" if paid is None else "compiled", because)
        else:
            self._settle("eager", f"{because}, and {steps:,} are left")
        return True

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _note_eager(self, seconds: float, tokens: int) -> None:
        self._eager.append(seconds / tokens)
        if len(self._eager) <= self.rules.samples:
            return
        left = self._eager_time() * self.tokens_per_step * self._steps_left
        limit = self.rules.limit(left)
        if not limit:
            self._settle("eager", f"the {left:.0f} s that are left do not pay for compiling")
            return
        self.compiled.limit(limit)
        self.mode = "timing_compiled"

    def _note_compiled(self, seconds: float, tokens: int, *, fresh: bool) -> None:
        if not self.compiled.graphs:
            self._settle("eager", "kernels for this device compute them already")
            return
        if fresh:
            self._first.append((seconds, tokens))
        else:
            self._compiled.append(seconds / tokens)
        if len(self._compiled) == self.rules.samples:
            self._decide()
        elif len(self._first) + len(self._compiled) == self.rules.most_steps:
            self._settle("eager", "batch after batch needs code of its own")

    def _decide(self) -> None:
        compiled = median(self._compiled)
        extra = sum(seconds - tokens * compiled for seconds, tokens in self._first)
        timing = self._keep(compiled, max(0.0, extra))
        faster = compiled < timing.eager
        self._settle("compiled" if faster else "eager", timing.text(self.tokens_per_step))

    def _eager_time(self) -> float:
        """Seconds per token; the first step, which reserves memory, is not counted."""
        return median(self._eager[1:])

    def _keep(self, compiled: float | None, compiling: float) -> Timing:
        self.timing = Timing(
            key=self._key,
            device=_device_name(self.device),
            eager=self._eager_time(),
            compiled=compiled,
            compiling=compiling,
        )
        keep_timing(self.timing)
        return self.timing


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _key(layers: Sequence[Any], device: torch.device, about: dict[str, Any]) -> str:
    """Digest of all that a timing depends on."""
    shapes = [
        f"{type(layer).__name__} {name} {tuple(p.shape)} {p.dtype} {p.requires_grad}"
        for layer in layers
        for name, p in layer.named_parameters()
    ]
    versions = [torch.__version__, transformers.__version__]
    return digest_value([_device_name(device), versions, shapes, about])


@dataclass(slots=True)
class _Snapshot:
    """State that a pass over batches changes, beside gradients."""

    sums: dict[str, torch.Tensor]
    cpu: torch.Tensor
    cuda: torch.Tensor | None


@dataclass(slots=True)
class Gradient:
    """Accumulates gradients of the objective's model."""

    objective: Objective
    config: TrainingConfig
    progress: Progress
    group: ProcessGroup
    checkpointing: bool = False
    """Whether activations are recomputed in the backward pass."""
    tokens: int = 0
    """Tokens computed in this process so far, padding included."""
    layers: LayerChoice = field(init=False)
    """Whether the decoder layers run compiled."""
    _heap: HeapGrowth = field(default_factory=HeapGrowth)
    arena: Arena = field(default_factory=Arena)
    """Memory of what the kernels compute in both passes, on a CPU."""

    def __post_init__(self) -> None:
        """Set up how layers run and activation checkpointing, as far as the settings fix it."""
        objective, config = self.objective, self.config
        model = objective.loss_model.model
        on_gpu = next(model.parameters()).device.type == "cuda"
        rows = min(config.examples_per_step, len(objective.lengths))
        self.layers = LayerChoice.of(
            model,
            config.compile,
            config.eager_reason("cuda" if on_gpu else "cpu"),
            max(1.0, float(objective.lengths.mean()) * rows),
            self.progress,
        )
        if self.config.activation_checkpointing == "always":
            self._checkpoint()

    def begin(self, steps: int, decided: str = "") -> None:
        """Before the first of `steps` steps: choose how layers run, or begin to measure it.

        `decided` is what the checkpoint says from which the run resumes.
        """
        objective = self.objective
        self.layers.begin(
            steps,
            {
                "objective": objective.name,
                "dtype": str(objective.loss_model.dtype),
                "packed": objective.loss_model.packed,
                "checkpointing": self.checkpointing,
                "batch": round(log2(min(objective.budget, self.layers.tokens_per_step))),
            },
            decided,
        )

    def add(self, rows: Sequence[int]) -> torch.Tensor:
        """() float64 on the model's device: the loss of this process, summed, not averaged.

        Adds to `.grad` the gradient of the step's mean loss. `rows` are those of the whole step;
        this process computes its own part of them. Collective: every process must call it.

        Raises `TrainingError` where not even single rows fit into memory; with several processes
        `torch.OutOfMemoryError`, because only the launcher can restart all of them.
        """
        while True:
            before = self._snapshot()
            casts = self.objective.loss_model.casts
            try:
                with casts.weights_unchanged(), self.layers.timed(lambda: self.tokens):
                    return self._add(rows)
            except Exception as error:
                if self.group.size > 1:
                    raise
                out_of_memory = isinstance(error, torch.OutOfMemoryError)
                gave_up = self.layers.gave_up(error)
                if not gave_up and not out_of_memory:
                    raise
            self._restore(before)
            if not gave_up:
                self._shrink(rows)

    def warm_up_memory(self, rows_of_steps: Sequence[Sequence[int]]) -> None:
        """Compute what needs most memory in these steps, so that it runs out now or never.

        That is the largest batch, or the largest that is not the first of its step: it finds the
        gradients of those before it. Weights, gradients, sums and random state are unchanged
        afterwards.
        """
        lengths, first, later = self.objective.lengths, list[int](), list[int]()

        def tokens(part: list[int]) -> int:
            return int(lengths[part].sum())

        for rows in rows_of_steps:
            for share in self.group.shares(rows, lengths):
                parts = sorted(split_by_budget(lengths, share, self.objective.budget), key=tokens)
                first = max([first, *parts[-1:]], key=tokens)
                later = max([later, *parts[-2:-1]], key=tokens)
        before = self._snapshot()
        computed = self.tokens
        for part in filter(None, (first, later)):
            self._add(part, split=False) if self.group.size > 1 else self.add(part)
        self._restore(before)
        self.tokens = computed

    def _add(self, rows: Sequence[int], *, split: bool = True) -> torch.Tensor:
        """`add` without recovery; without `split` every process computes all `rows`."""
        objective, group = self.objective, self.group
        own = group.own_rows(rows, objective.lengths) if split else rows
        batches = objective.batches(own) if own else []  # of this process
        # The heap fits the largest batch once; smaller ones find room where it was.
        batches = sorted(batches, key=lambda batch: batch.tokens, reverse=True)
        counts = group.all_gather(objective.loss_denominator(batches), len(batches))
        # torchtitan's `global_valid_tokens`: trained tokens of the step in all processes.
        global_denominator = sum(denominator for denominator, _ in counts)
        most_batches = max(count for _, count in counts)
        device = next(objective.loss_model.model.parameters()).device
        has_heap = device.type == "cpu" and group.size == 1 and most_batches > 1
        in_arena = device.type == "cpu" and self._takes_arena(most_batches)
        with self.arena.in_use() if in_arena else nullcontext():
            reserved = self._reserve_gradients() if has_heap else {}
        loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        # DDP and FSDP average gradients over the processes; the step's is their sum.
        scale = group.size / global_denominator
        for index in range(most_batches):
            with (
                group.gradient_sync(objective.loss_model, last=index == most_batches - 1),
                objective.loss_model.direct.of_step(scale) if group.size == 1 else nullcontext(),
                self.layers.passes(),
                self.arena.in_use() if in_arena else nullcontext(),
            ):
                self._heap.release()
                if index < len(batches):
                    loss = objective.loss(batches[index])  # (), summed over the batch
                    loss_sum += loss.detach()
                    self.tokens += batches[index].tokens
                else:
                    loss = self._empty_step(rows)
                torch.autograd.backward(loss * scale)
        for parameter, version in reserved.items():
            if parameter.grad is not None and parameter.grad._version == version:
                parameter.grad = None  # No part of the loss: the optimizer leaves it alone.
        return loss_sum

    def _takes_arena(self, batches: int) -> bool:
        """Whether tensors of a step's passes are apart from the heap.

        Not those of a single batch where all weights are trained: their gradients, of which none
        exists before, find room on the heap where activations were.
        """
        alone = batches == 1 and isinstance(self.config.method, Full)
        if self.group.size > 1 or (alone and not self.arena.reserved):
            return False
        if not self.arena.reserved:
            release_freed_memory(0)  # There may have been steps of a single batch.
        return True

    def _reserve_gradients(self) -> dict[torch.nn.Parameter, int]:
        """Allocate gradients before the first batch; returns them with their version numbers.

        In its backward pass they would be scattered over the heap, and divide the memory that it
        frees into pieces too small for the next batch. In an arena they have the same memory in
        each step.
        """
        reserved = {}
        for parameter in self.objective.loss_model.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = zeros_like(parameter)
                reserved[parameter] = parameter.grad._version
        return reserved

    def _empty_step(self, rows: Sequence[int]) -> torch.Tensor:
        """(): a loss of 0 whose passes take part in the collectives of the other processes."""
        before = self._snapshot()
        loss = self.objective.loss(self.objective.batches(rows[:1])[0]) * 0
        self._restore(before, gradients=False)
        return loss

    def _shrink(self, rows: Sequence[int]) -> None:
        """After running out of memory halve the batches, then recompute activations, then raise."""
        objective = self.objective
        alone = len(split_by_budget(objective.lengths, rows, objective.budget)) == len(rows)
        if not alone:
            objective.budget //= 2
            self.progress.message(
                f"out of memory; continuing with batches of {objective.budget} tokens, which does "
                "not change the loss"
            )
        elif self.config.activation_checkpointing == "auto" and not self.checkpointing:
            self._checkpoint()
            self.progress.message("out of memory; continuing with activation checkpointing")
        else:
            longest = max(rows, key=lambda row: int(objective.lengths[row]))
            raise TrainingError(
                f"out of memory with a single row: {objective.names[longest]} has "
                f"{objective.lengths[longest]} tokens. Set a smaller `max_row_tokens`, use "
                "`method: {type: qlora}`, or choose a smaller base model."
            )

    def _checkpoint(self) -> None:
        base = base_model(self.objective.loss_model.model)
        if hasattr(base, "activation_checkpointing_enable"):
            base.activation_checkpointing_enable()
        else:  # transformers before 5.23
            base.gradient_checkpointing_enable({"use_reentrant": False})
        self.checkpointing = True

    def _snapshot(self) -> _Snapshot:
        sums = {k: v.clone() for k, v in self.objective.sums.items() if v.ndim == 0}
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return _Snapshot(sums, torch.get_rng_state(), cuda)

    def _restore(self, before: _Snapshot, *, gradients: bool = True) -> None:
        for name, value in before.sums.items():
            self.objective.sums[name].copy_(value)
        torch.set_rng_state(before.cpu)
        if before.cuda is not None:
            torch.cuda.set_rng_state(before.cuda)
        if gradients:
            for parameter in self.objective.loss_model.model.parameters():
                parameter.grad = None
            if before.cuda is not None:
                torch.cuda.empty_cache()
