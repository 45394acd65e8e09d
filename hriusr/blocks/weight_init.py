"""Initial values of weights, as one table: module type -> parameter name -> initialiser.

Linear layers start as Swin starts them (arXiv:2103.14030): normal with deviation 0.02, biases zero. Convolutions are
not in the table and keep PyTorch's own start, as in SwinIR and HAT.
"""

from collections.abc import Callable

from torch import Tensor, nn


def trunc_normal_02_(tensor: Tensor) -> Tensor:
    """Fill in place with a normal distribution of mean 0 and deviation 0.02, cut off at -2 and 2."""
    return nn.init.trunc_normal_(tensor, std=0.02)


INITIALISERS: dict[type[nn.Module], dict[str, Callable[[Tensor], Tensor]]] = {
    nn.Linear: {"weight": trunc_normal_02_, "bias": nn.init.zeros_},
    nn.LayerNorm: {"weight": nn.init.ones_, "bias": nn.init.zeros_},
}


def fan_in_(weight: Tensor) -> Tensor:
    """Fill the weight of a linear layer in place: normal, cut off at 2 deviations of 1 / sqrt(inputs)."""
    deviation = weight.shape[1] ** -0.5
    return nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


LINEAR_INITIALISERS = {"swin": trunc_normal_02_, "fan_in": fan_in_}


def initialise_weights(network: nn.Module, linear_init: str = "swin") -> None:
    """Fill every parameter the table has a row for, in all submodules of a network.

    Parameters without a row (convolutions, relative position tables, gates) keep what their own constructor gave them.
    A module that wants another start than the table's sets it after this call.

    Args:
        network: whose parameters are filled.
        linear_init: weights of linear layers: "swin", the table's, or "fan_in", scaled to the number of inputs.

    Raises:
        ValueError: unknown linear_init.
    """
    if linear_init not in LINEAR_INITIALISERS:
        raise ValueError(f"linear_init (={linear_init!r}) must be one of {', '.join(LINEAR_INITIALISERS)}")
    table = INITIALISERS | {nn.Linear: INITIALISERS[nn.Linear] | {"weight": LINEAR_INITIALISERS[linear_init]}}
    for module in network.modules():
        for kind, initialisers in table.items():
            for name, initialise in initialisers.items() if isinstance(module, kind) else ():
                parameter = getattr(module, name)
                if parameter is not None:
                    initialise(parameter)
