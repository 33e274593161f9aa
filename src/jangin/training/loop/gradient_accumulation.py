"""The gradient of one optimizer step: batch after batch, and what happens when memory runs out.

A step's loss is divided by its weight, so any split of its rows into batches has the same
gradient. That is why running out of memory only halves the batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jangin.core.errors import TrainingError
from jangin.core.stage import Progress
from jangin.models.loading import base_model
from jangin.models.tokens.packing import split_by_budget
from jangin.training.loop.config import TrainingConfig
from jangin.training.loop.objective import Objective
from jangin.training.loop.process_group import Ranks


@dataclass(slots=True)
class _Before:
    """What a pass over batches changes beside gradients."""

    sums: dict[str, torch.Tensor]
    cpu: torch.Tensor
    cuda: torch.Tensor | None


@dataclass(slots=True)
class Gradient:
    """Adds up gradients of the objective's model."""

    objective: Objective
    config: TrainingConfig
    progress: Progress
    ranks: Ranks
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of being kept."""
    tokens: int = 0
    """Computed in this process, for the speed."""

    def __post_init__(self) -> None:
        """Switch activation checkpointing on where it is asked for."""
        if self.config.activation_checkpointing == "always":
            self._checkpoint()

    def add(self, rows: Sequence[int]) -> torch.Tensor:
        """Add the gradient of a step's mean loss; returns the summed loss of this process.

        Raises `TrainingError` when not even single rows fit into memory.
        """
        while True:
            before = self._before()
            try:
                with self.objective.scorer.casts.held():
                    return self._add(rows)
            except torch.OutOfMemoryError:
                if self.ranks.count > 1:
                    raise  # the others wait in a collective; the launcher starts all of them anew
            self._restore(before)
            self._shrink(rows)

    def rehearse(self, rows_of_steps: Sequence[Sequence[int]]) -> None:
        """Compute the largest batch of these steps once, so that memory runs out now or never.

        Weights, sums and random state are afterwards as they were.
        """
        rows = max(
            (
                part
                for rows in rows_of_steps
                for part in split_by_budget(self.objective.lengths, rows, self.objective.budget)
            ),
            key=lambda part: int(self.objective.lengths[part].sum()),
        )
        before = self._before()
        computed = self.tokens
        self._add(rows, shared=False) if self.ranks.count > 1 else self.add(rows)
        self._restore(before)
        self.tokens = computed

    def _add(self, rows: Sequence[int], *, shared: bool = True) -> torch.Tensor:
        objective, ranks = self.objective, self.ranks
        own = ranks.share(rows, objective.lengths) if shared else rows
        batches = objective.batches(own) if own else []
        counts = ranks.gather(objective.weigh(batches), len(batches))
        weight, most = sum(w for w, _ in counts), max(n for _, n in counts)
        device = next(objective.scorer.model.parameters()).device
        total = torch.zeros((), device=device)
        for place in range(most):
            with ranks.reduce_gradients(objective.scorer, now=place == most - 1):
                if place < len(batches):
                    loss = objective.loss(batches[place])
                    total += loss.detach()
                    self.tokens += batches[place].tokens
                else:
                    loss = self._idle(rows)
                # Processes average their gradients; the step's is a sum.
                torch.autograd.backward(loss * ranks.count / weight)
        return total

    def _idle(self, rows: Sequence[int]) -> torch.Tensor:
        """A pass that counts nothing, while other processes have one batch more."""
        before = self._before()
        loss = self.objective.loss(self.objective.batches(rows[:1])[0]) * 0
        self._restore(before, gradients=False)
        return loss

    def _shrink(self, rows: Sequence[int]) -> None:
        """After running out of memory: half the tokens at once, then keep no activations."""
        objective = self.objective
        alone = len(split_by_budget(objective.lengths, rows, objective.budget)) == len(rows)
        if not alone:
            objective.budget //= 2
            self.progress.say(
                f"out of memory; going on with batches of {objective.budget} tokens, "
                "the loss stays the same"
            )
        elif self.config.activation_checkpointing == "auto" and not self.checkpointing:
            self._checkpoint()
            self.progress.say("out of memory; going on with activation checkpointing")
        else:
            longest = max(rows, key=lambda row: int(objective.lengths[row]))
            raise TrainingError(
                f"not even a single row fits into memory: {objective.names[longest]} has "
                f"{objective.lengths[longest]} tokens. Set a smaller `max_row_tokens`, "
                "`method: {type: qlora}`, or take a smaller base."
            )

    def _checkpoint(self) -> None:
        base_model(self.objective.scorer.model).activation_checkpointing_enable()
        self.checkpointing = True

    def _before(self) -> _Before:
        sums = {k: v.clone() for k, v in self.objective.sums.items() if v.ndim == 0}
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return _Before(sums, torch.get_rng_state(), cuda)

    def _restore(self, before: _Before, *, gradients: bool = True) -> None:
        for name, value in before.sums.items():
            self.objective.sums[name].copy_(value)
        torch.set_rng_state(before.cpu)
        if before.cuda is not None:
            torch.cuda.set_rng_state(before.cuda)
        if gradients:
            for parameter in self.objective.scorer.model.parameters():
                parameter.grad = None
            if before.cuda is not None:
                torch.cuda.empty_cache()
