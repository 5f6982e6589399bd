"""Emulate a second device: its tensors compute as on the CPU, but do not mix with those.

    with OtherDevice():
        model = Transformer(config).to(DEVICE)

What CUDA refuses, this refuses: an operation on tensors of both devices (unless the one on the CPU
is a single number, or an index), a CPU generator for draws on the device, NumPy. It borrows the
name of torch's meta device, which needs no driver.
"""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten


class OnDevice(Tensor):
    """Keep a tensor's numbers in a tensor on the CPU, where only this file looks."""

    @staticmethod
    def __new__(cls, held: Tensor):
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"OnDevice({self.held!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def is_elsewhere(value) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, OnDevice)


MOVES = {aten._to_copy.default, aten.copy_.default, aten.copy.default, aten._copy_from.default}
INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
INDEXED |= {aten._unsafe_index.Tensor}
JOINED = {aten.cat.default, aten.stack.default}


def check_devices(function, args, kwargs) -> None:
    """Raise RuntimeError where CUDA does."""
    flat = tree_flatten((args, kwargs))[0]
    here = [value for value in flat if isinstance(value, OnDevice)]
    there = [value for value in flat if is_elsewhere(value)]
    generators = [value for value in flat if isinstance(value, torch.Generator)]
    if generators and (here or torch.device(kwargs.get("device") or "cpu") == DEVICE):
        raise RuntimeError(f"{function} was given a generator on the CPU for draws on the device")
    if not here or function in MOVES:
        return
    if function in INDEXED:
        if not isinstance(args[0], OnDevice):
            raise RuntimeError(f"{function}: indices on the device for a tensor on the CPU")
        there = [value for value in tree_flatten(args[2:])[0] if is_elsewhere(value)]
    changed = [args[0]] if function._schema.is_mutable and args else []
    if [
        value
        for value in there
        if value.ndim or function in JOINED or any(value is own for own in changed)
    ]:
        shapes = [
            (tuple(value.shape), "device" if isinstance(value, OnDevice) else "cpu")
            for value in (*here, *there)
        ]
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {function} was given {shapes}"
        )


def run(function, args, kwargs):
    """Run one operation on the numbers behind the tensors, after a look at where these are."""
    check_devices(function, args, kwargs)
    flat = tree_flatten((args, kwargs))[0]
    target = kwargs.get("device")
    on_device = (
        any(isinstance(value, OnDevice) for value in flat)
        if target is None
        else torch.device(target) == DEVICE
    )
    if function is aten.copy_.default:
        on_device = isinstance(args[0], OnDevice)
    held, named = tree_map(
        lambda value: value.held if isinstance(value, OnDevice) else value, (args, kwargs)
    )
    if target is not None:
        named["device"] = torch.device("cpu")
    if function is aten.linalg_lstsq.default and on_device:
        named["driver"] = "gels"  # the only one on CUDA
    found = function(*held, **named)
    if target is not None and function is aten._to_copy.default and not on_device:
        return found
    if on_device:
        found = tree_map(lambda value: OnDevice(value) if is_elsewhere(value) else value, found)
    if any(isinstance(value, OnDevice) for value in flat) and on_device:
        return return_and_correct_aliasing(function, args, kwargs, found)
    return found


class Factories(TorchDispatchMode):
    """Make tensors on the device, or move them there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def list_to_tensor(index):
    """Return an index without lists of numbers, which the meta device does not keep."""
    if isinstance(index, tuple):
        return tuple(list_to_tensor(part) for part in index)
    return (
        torch.tensor(index, dtype=None if index else torch.int64)
        if isinstance(index, list)
        else index
    )


class Conversions(TorchFunctionMode):
    """Handle what never comes to an operation.

    That is torch.tensor(..., device), and the address of a tensor's numbers.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if (
            function in (torch.tensor, torch.as_tensor, torch.asarray)
            and kwargs.get("device") is not None
        ):
            target = kwargs.pop("device")
            return function(*args, **kwargs).to(target)
        if function is Tensor.new_tensor and isinstance(args[0], OnDevice):
            kwargs.setdefault("dtype", args[0].dtype)
            return torch.tensor(*args[1:], **kwargs).to(DEVICE)
        if args and isinstance(args[0], OnDevice):
            if function is Tensor.data_ptr:
                return args[0].held.data_ptr()
            if function is Tensor.numpy:
                raise TypeError(
                    "can't convert a tensor on the device to numpy: use Tensor.cpu() first"
                )
            if function is Tensor.tolist:
                return args[0].held.tolist()
            if function is Tensor.__getitem__:
                return function(args[0], list_to_tensor(args[1]))
            if function is Tensor.__setitem__:
                value = args[2] if isinstance(args[2], Tensor) else torch.tensor(args[2])
                return function(args[0], list_to_tensor(args[1]), value)
        return function(*args, **kwargs)


class OtherDevice:
    """Provide a second device inside `with OtherDevice():`."""

    def __enter__(self):
        self.modes = [Factories(), Conversions()]
        for mode in self.modes:
            mode.__enter__()
        return self

    def __exit__(self, *raised):
        for mode in reversed(self.modes):
            mode.__exit__(*raised)
