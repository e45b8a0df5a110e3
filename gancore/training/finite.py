"""Checks for NaN and infinity before an update and before a save."""

from __future__ import annotations

from cmath import isfinite
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn, optim

from gancore.contracts import Player
from gancore.errors import NonFiniteError

if TYPE_CHECKING:
    from gancore.training.state import TrainingState

_SMALL = 8192
"""Tensors up to this many numbers are joined: the calls take more time than the copy."""


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """The values of one check: scores by name, then the gradients of weights, or the weights if `projected`."""

    player: Player
    modules: Mapping[str, nn.Module]
    scores: tuple[str, ...]
    weights: tuple[Tensor, ...]
    projected: bool

    def describe(self, index: int, *, later: bool) -> str:
        """Describe what is not finite, by its index. `later`: the gradients may be of another step."""
        if index < len(self.scores):
            return f"the {self.player}'s {self.scores[index]} is not finite, so its update was not made"
        weight = self.weights[index - len(self.scores)]
        name = self._name_of(weight)
        if self.projected:
            return f"the {self.player}'s weight {name} is not finite after its regularizers projected it"
        large = "too large to be squared"
        what = f"not finite, or {large}" if later else "not finite"
        if not later and weight.grad is not None and weight.grad.isfinite().all():
            what = large
        return f"the gradient of the {self.player}'s {name} is {what}, so its update was not made"

    def _name_of(self, weight: Tensor) -> str:
        """Return the name of a weight: as in the player's network, with the role before it in other modules."""
        for role, module in self.modules.items():
            for name, parameter in module.named_parameters():
                if parameter is weight:
                    return name if role == self.player else f"{role}.{name}"
        return "weight"


def skips_by_flag(optimizer: optim.Optimizer) -> bool:
    """Return whether the optimizer skips an update by itself if `found_inf` is set, as GradScaler asks it to."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


class FiniteCheck:
    """Checks losses, penalties and gradients before each update.

    Gradients are checked by their sums of squares, so one whose square overflows, and would give an infinite moment,
    counts as not finite. `state` is where errors look for a weight or a moment that was not finite before. If
    `immediate`, each result is read at once and NonFiniteError raised; on a CPU that costs nothing. Otherwise it stays
    on the device in `found`: optimizers that know `found_inf` skip this update and all later ones, the number of the
    first bad step is kept, and `raise_if_found` raises. For an optimizer that does not know `found_inf` the result is
    read immediately all the same.
    """

    def __init__(self, device: torch.device, state: TrainingState | None = None, *, immediate: bool) -> None:
        self._state, self._immediate, self._on_cpu = state, immediate, device.type == "cpu"
        self._step = 0
        self._checks: list[_Checked] = []
        self._numbers: dict[object, int] = {}
        self.found = torch.zeros((), device=device)
        """1.0 since the first number that was not finite, else 0.0."""
        self._first = torch.zeros(3, dtype=torch.int64, device=device)  # step, check, index
        # On the device, so that a replayed CUDA graph reads the current step.
        self._device_step = torch.zeros((), dtype=torch.int64, device=device)

    def begin_step(self, step: int) -> None:
        """Attribute the checks that follow to this step."""
        self._step = step
        if not self._immediate:
            self._device_step.fill_(step)

    def check_gradients(
        self,
        player: Player,
        modules: Mapping[str, nn.Module],
        optimizer: optim.Optimizer,
        scores: Mapping[str, Tensor],
        weights: Sequence[Tensor],
    ) -> Sequence[Tensor] | None:
        """Check scores and gradients before an update; return the norms of the gradients if it computed them.

        `modules` are those that the optimizer trains, by role, the player's network under its own name.
        Raises NonFiniteError if it reads immediately. The weights are unchanged.
        """
        gradients = gradients_of(weights)
        if self._immediate and self._on_cpu and _surely_finite(scores.values(), gradients):
            return None
        deferred = not self._immediate and skips_by_flag(optimizer)
        if deferred:
            optimizer.found_inf = self.found  # type: ignore[attr-defined]  # torch's optimizers read it by getattr
        norms = norms_of(gradients)
        values = torch.stack([*scores.values(), *norms])
        moved = tuple([weight for weight in weights if weight.grad is not None])
        self._check(_Checked(player, modules, tuple(scores), moved, projected=False), values, deferred=deferred)
        return norms

    def check_weights(self, player: Player, module: nn.Module) -> None:
        """Check the weights that regularizers have projected after an update."""
        weights = tuple(module.parameters())
        norms = torch.stack(norms_of([weight.detach() for weight in weights]))
        checked = _Checked(player, {player: module}, (), weights, projected=True)
        self._check(checked, norms, deferred=not self._immediate)

    def raise_if_found(self) -> None:
        """Raise NonFiniteError for the first number that was not finite; waits for the device if it must."""
        if self._checks and bool(self.found):
            step, check, index = self._first.tolist()
            raise self._error(step, self._checks[check], index, later=True)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """The results on the device, which are restored in place when a step is undone."""
        return self.found, self._first

    def reset(self) -> None:
        """Forget what was found, once the state is finite again."""
        self.found.zero_()

    def _check(self, checked: _Checked, values: Tensor, *, deferred: bool) -> None:
        if not deferred:
            self.raise_if_found()  # an earlier update, whose result was not read yet, comes first
            # A sum is not finite if a summand is not, and reading one number is faster than comparing many.
            if isfinite(values.sum().item()):
                return
        bad = values.isfinite().logical_not_()
        if not deferred:
            if bad.any():
                raise self._error(self._step, checked, int(bad.nonzero()[0]), later=False)
            return
        key = (checked.player, checked.scores, tuple(map(id, checked.weights)), checked.projected)
        number = self._numbers.setdefault(key, len(self._checks))
        if number == len(self._checks):
            self._checks.append(checked)
        now = bad.any()
        place = torch.empty_like(self._first)  # filled on the device: a copy from the host would wait for it
        place[0], place[1], place[2] = self._device_step, number, bad.int().argmax()
        self._first.copy_(torch.where((self.found > 0) | ~now, self._first, place))
        torch.maximum(self.found, now.to(self.found.dtype), out=self.found)

    def _error(self, step: int, checked: _Checked, index: int, *, later: bool) -> NonFiniteError:
        """Return the error, which names what was not finite before if there is something, as the cause."""
        what = checked.describe(index, later=later)
        # Values are checked before each update, so state can only be the cause, except weights after a projection.
        cause = self._state.describe_not_finite(weights=not checked.projected) if self._state else ""
        return NonFiniteError(step, f"{cause} is not finite since an earlier update; then {what}" if cause else what)


def gradients_of(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of the weights that have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def norms_of(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the norm of each tensor, not finite if any number in it is not; cheaper than comparing each number."""
    dense = [tensor.coalesce().values() if tensor.is_sparse else tensor for tensor in tensors]
    return torch._foreach_norm(dense) if dense else ()


def _surely_finite(scores: Iterable[Tensor], gradients: Sequence[Tensor]) -> bool:
    """Return whether all scores are finite, and all gradients and their squares, for tensors on the CPU.

    False may be wrong, since a sum of squares may overflow. BLAS adds them up in half the time of a norm.
    """
    total, small = 0.0, list[Tensor]()
    for score in scores:
        total += score.item()
    for gradient in gradients:
        dense = gradient.coalesce().values() if gradient.is_sparse else gradient
        if dense.numel() <= _SMALL:
            small.append(dense)
        else:
            flat = dense.reshape(-1)
            total += torch.dot(flat, flat).item()
    if small:
        flat = torch._utils._flatten_dense_tensors(small)  # type: ignore[no-untyped-call]  # torch's
        total += torch.dot(flat, flat).item()
    return isfinite(total)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinity. Integers never do."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point() or value.is_complex()}
    suspects = set[str]()
    # Optimizers count steps on the CPU, whatever device their moments are on; each device is waited for once.
    for device in {value.device for value in floats.values()}:
        names = [name for name, value in floats.items() if value.device == device]
        # A sum is not finite if a summand is not; it takes a twentieth of the time, but may overflow by itself.
        sums = torch.stack([floats[name].detach().sum().abs().to(torch.float32) for name in names])
        suspects |= {name for name, fine in zip(names, sums.isfinite().tolist(), strict=True) if not fine}
    return [name for name in floats if name in suspects and not floats[name].isfinite().all()]
