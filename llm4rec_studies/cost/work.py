"""An amount of work, free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Work of a kind, such as a training step. Numbers may be means, so they need not be whole.

    Attributes:
        operations: of matrix products and attention; a multiply-add is two.
        bytes: read and written by all operators.
        operators: kernels that an accelerator would be asked to start.
        seconds: of the processor, to make the batches, and of a CPU for what is timed there; the only number that
            depends on the machine.
    """

    operations: float = 0.0
    bytes: float = 0.0
    operators: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(mine + its for mine, its in zip(self.parts, other.parts, strict=True)))

    def __mul__(self, factor: float) -> Work:
        return Work(*(factor * part for part in self.parts))

    @property
    def parts(self) -> tuple[float, ...]:
        return self.operations, self.bytes, self.operators, self.seconds
