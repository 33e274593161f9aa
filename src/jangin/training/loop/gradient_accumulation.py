"""The gradient of one optimizer step, batch after batch, with recovery from running out of memory.

The summed loss is divided by the denominator of the whole step (such as its trained tokens), so
any split of a step into batches has the same gradient. After running out of memory it is therefore
enough to halve the batches.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from math import log2

import torch

from jangin.core.errors import TrainingError
from jangin.core.events import Progress
from jangin.models.loading import base_model
from jangin.models.tokens.packing import split_by_budget
from jangin.training.kernels import Arena, HeapGrowth, release_freed_memory, zeros_like
from jangin.training.loop.config import Full, TrainingConfig
from jangin.training.loop.layer_choice import LayerChoice
from jangin.training.loop.objective import Objective
from jangin.training.loop.process_group import ProcessGroup


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
        """Compute the largest batch of these steps once, so that memory runs out now or never.

        Weights, gradients, sums and random state are unchanged afterwards.
        """
        rows = max(
            (
                part
                for rows in rows_of_steps
                for part in split_by_budget(self.objective.lengths, rows, self.objective.budget)
            ),
            key=lambda part: int(self.objective.lengths[part].sum()),
        )
        before = self._snapshot()
        computed = self.tokens
        self._add(rows, split=False) if self.group.size > 1 else self.add(rows)
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
        base_model(self.objective.loss_model.model).activation_checkpointing_enable()
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
