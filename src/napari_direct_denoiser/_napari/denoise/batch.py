"""The layers that one press of a button denoises, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..shared.forms import duration
from .runs import Request, Result


@dataclass(eq=False)
class Batch:
    """Requests, of which those before `done` have given their layers."""

    requests: Sequence[Request]
    done: int = 0
    names: list[str] = field(default_factory=list)
    """Of the layers that were added."""
    seconds: float = 0.0
    clipped: list[str] = field(default_factory=list)

    @property
    def request(self) -> Request:
        """The one that is under way."""
        return self.requests[self.done]

    @property
    def place(self) -> str:
        """Which layer of how many is under way; empty if there is one."""
        return f"Layer {self.done + 1} of {len(self.requests)}: " if len(self.requests) > 1 else ""

    def add(self, names: Sequence[str], results: Sequence[Result], seconds: float) -> bool:
        """Record the layers of the request under way; give whether another request follows."""
        self.names += names
        self.seconds += seconds
        self.clipped += [result.clipped_words for result in results if result.clipped]
        self.done += 1
        return self.done < len(self.requests)

    def words(self) -> str:
        """What was added, and what a person should know about it."""
        if not self.names:
            return ""
        added = "Added " + ", ".join(f"“{name}”" for name in self.names)
        looked_at = self.requests[0].as_looked_at
        how = ": each plane is computed when you look at it" if looked_at else f" after {duration(self.seconds)}"
        return " ".join([f"{added}{how}.", *self.clipped])
