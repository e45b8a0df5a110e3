"""Whether a layer gets the condition in its last inputs, as `torch.cat([latent, one_hot], dim=1)` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn

from gancore.contracts import Condition, Shape
from gancore.training.correspondence import layer_of
from gancore.training.networks import call, eval_mode
from gancore.utils.random import seeded

_COUNT = 2


@torch.no_grad()
def weights_with_columns_elsewhere(
    network: nn.Module, shape: Shape, condition: Condition, columns: Mapping[str, int]
) -> set[str]:
    """Return the weights whose last input columns are not those of the condition.

    `shape` is that of a latent or an image, `columns` the number of columns of the condition by the name of the weight.
    The network is called with two inputs and one condition: what is of the condition alone stays the same. Returns
    nothing for a network that cannot be called so.
    """
    modules, device = dict(network.named_modules()), next(network.parameters()).device
    received: dict[str, list[Tensor]] = {}
    with ExitStack() as stack, suppress(Exception):  # a plugin may raise anything
        stack.enter_context(eval_mode(network))
        stack.enter_context(seeded(0, device))
        for name in columns:
            owner, inputs = modules[layer_of(name)], received.setdefault(name, [])
            handle = owner.register_forward_pre_hook(lambda _, arguments, inputs=inputs: inputs.append(arguments[0]))
            stack.callback(handle.remove)
        given = torch.zeros(_COUNT, *(() if isinstance(condition, int) else condition), device=device)
        for _ in range(2):
            call(
                network,
                torch.rand(_COUNT, *shape, device=device),
                given.long() if isinstance(condition, int) else given,
            )
        return {
            name
            for name, count in columns.items()
            if len(received[name]) == 2 and not torch.equal(*(inputs[:, -count:] for inputs in received[name]))
        }
    return set()
