"""Numbers that are not finite: noticed before an update is made of them, and before they are saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn, optim

from gancore.contracts import Player
from gancore.errors import NonFiniteError


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """Whose numbers were looked at, the names of its scores, and the weights whose gradients, or selves, came next."""

    player: Player
    module: nn.Module
    scores: tuple[str, ...]
    weights: tuple[Tensor, ...]
    confined: bool

    def describe(self, place: int, *, later: bool) -> str:
        """What is wrong, if it is the number at this place. `later`, the gradients are those of another step."""
        if place < len(self.scores):
            return f"the {self.player}'s {self.scores[place]} is not finite, so its update was not made"
        weight = self.weights[place - len(self.scores)]
        name = next((name for name, each in self.module.named_parameters() if each is weight), "weight")
        if self.confined:
            return f"the {self.player}'s weight {name} is not finite after its regularizers have confined it"
        large = "too large to be squared"
        what = f"not finite, or {large}" if later else "not finite"
        if not later and weight.grad is not None and weight.grad.isfinite().all():
            what = large
        return f"the gradient of the {self.player}'s {name} is {what}, so its update was not made"


def takes_flag(optimizer: optim.Optimizer) -> bool:
    """Whether the optimizer leaves out an update by itself where `found_inf` says so; GradScaler asks in this way."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


class FiniteCheck:
    """Looks at the losses, penalties and gradients of an update before it is made.

    Norms are sums of squares, so a gradient whose square overflows, which would make an infinite moment, counts as one
    that is not finite. `at_once` reads the verdict where it is found, and raises NonFiniteError: on a CPU that costs
    nothing. Otherwise it stays on the device, in `held`: optimizers that know `found_inf` leave out this update and all
    that follow, the number of the first bad step is kept, and `read` raises. For an optimizer that does not know it,
    the verdict is read at once all the same.
    """

    def __init__(self, device: torch.device, *, at_once: bool) -> None:
        self._at_once = at_once
        self._step = 0
        self._looks: list[_Look] = []
        self._known: dict[object, int] = {}
        self.held = torch.zeros((), device=device)
        """1.0 since the first number that was not finite, else 0.0."""
        self._first = torch.zeros(3, dtype=torch.int64, device=device)  # step, look, place
        # Where the device finds it, also when it does again what it has done before, as a graph.
        self._now = torch.zeros((), dtype=torch.int64, device=device)

    def at(self, step: int) -> None:
        """All that is looked at from here on belongs to this step."""
        self._step = step
        if not self._at_once:
            self._now.fill_(step)

    def before(
        self,
        player: Player,
        module: nn.Module,
        optimizer: optim.Optimizer,
        scores: Mapping[str, Tensor],
        weights: Iterable[Tensor],
    ) -> Tensor:
        """Looks at what an update is about to be made of; returns the norm of each gradient.

        Raises NonFiniteError, if it reads at once. The weights are as they were.
        """
        moved = tuple(weight for weight in weights if weight.grad is not None)
        norms = _norms([weight.grad for weight in moved if weight.grad is not None])
        look = _Look(player, module, tuple(scores), moved, confined=False)
        on_device = not self._at_once and takes_flag(optimizer)
        if on_device:
            optimizer.found_inf = self.held  # type: ignore[attr-defined]  # torch's optimizers read it by getattr
        values = torch.stack([*scores.values(), *norms])
        self._judge(look, values, at_once=not on_device)
        return values[len(scores) :]

    def after(self, player: Player, module: nn.Module) -> None:
        """Looks at the weights that regularizers have confined after an update."""
        weights = tuple(module.parameters())
        look = _Look(player, module, (), weights, confined=True)
        norms = torch.stack(_norms([weight.detach() for weight in weights]))
        self._judge(look, norms, at_once=self._at_once)

    def read(self) -> None:
        """Raises NonFiniteError for the first number that was not finite; waits for the device if it must."""
        if self._looks and bool(self.held):
            step, look, place = self._first.tolist()
            raise NonFiniteError(step, self._looks[look].describe(place, later=True))

    @property
    def findings(self) -> tuple[Tensor, Tensor]:
        """What lies on the device of it, to be put back in place where steps are undone."""
        return self.held, self._first

    def forget(self) -> None:
        """Begins anew, once what was not finite has been put right."""
        self.held.zero_()

    def _judge(self, look: _Look, values: Tensor, *, at_once: bool) -> None:
        if at_once:
            self.read()  # what came first, if another update was not read at once
            # A sum is not finite if a summand is not, and one number is read sooner than many are compared.
            if isfinite(values.sum().item()):
                return
        bad = values.isfinite().logical_not_()
        if at_once:
            if bad.any():
                raise NonFiniteError(self._step, look.describe(int(bad.nonzero()[0]), later=False))
            return
        key = (look.player, look.scores, tuple(map(id, look.weights)), look.confined)  # tensors compare by number
        number = self._known.setdefault(key, len(self._looks))
        if number == len(self._looks):
            self._looks.append(look)
        now = bad.any()
        place = torch.empty_like(self._first)  # filled on the device: copying from the host would wait for it
        place[0], place[1], place[2] = self._now, number, bad.int().argmax()
        self._first.copy_(torch.where((self.held > 0) | ~now, self._first, place))
        torch.maximum(self.held, now.to(self.held.dtype), out=self.held)


def _norms(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """A norm for each, not finite if anything in it is not; one pass, which costs less than to compare each number."""
    dense = [tensor.coalesce().values() if tensor.is_sparse else tensor for tensor in tensors]
    return torch._foreach_norm(dense) if dense else ()


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those that hold NaN or infinity. Integers never do."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point() or value.is_complex()}
    suspects = set[str]()
    # Optimizers count steps on the CPU, whatever device their moments are on; each device is waited for once.
    for device in {value.device for value in floats.values()}:
        names = [name for name, value in floats.items() if value.device == device]
        # A sum is not finite if a summand is not; it takes a twentieth of the time, but may overflow by itself.
        sums = torch.stack([floats[name].detach().sum().abs().to(torch.float32) for name in names])
        suspects |= {name for name, fine in zip(names, sums.isfinite().tolist(), strict=True) if not fine}
    return [name for name in floats if name in suspects and not floats[name].isfinite().all()]
