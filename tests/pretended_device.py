"""A GPU that is not there: tensors keep their numbers on the CPU, say that they lie elsewhere, and are refused what they would be there.

Every storage has a place. What Python asks of tensors (`device`, `to`, `numpy`, new ones) is answered by it, and an operation that meets
two places is first put to PyTorch's fake tensors on these devices, which raise where a real device would. So whole functions run,
`.item()`, `.tolist()` and gradients among them, and give the CPU's numbers. Drawing differs: all devices draw from the CPU's generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CPU, ANYWHERE = torch.device("cpu"), torch.device("meta")
"""ANYWHERE: made inside an operation that was given no tensor; it belongs to whatever it meets first."""
MOVING = (Tensor.to, Tensor.cpu, torch.as_tensor, torch.asarray)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put")
DEVICE, IS_ON = Tensor.device.__get__, {Tensor.is_cuda.__get__: "cuda", Tensor.is_cpu.__get__: "cpu", Tensor.is_mps.__get__: "mps"}


def tensors(*arguments: Any) -> list[Tensor]:
    """All tensors among arguments, in lists and dictionaries too."""
    found: list[Tensor] = []
    for x in arguments:
        if isinstance(x, Tensor):
            found.append(x)
        elif isinstance(x, list | tuple | dict):
            found += tensors(*(x.values() if isinstance(x, dict) else x))
    return found


class Places:
    """Where storages lie: on the CPU, but for those that were put on the pretended device."""

    def __init__(self, device: torch.device):
        self.device = device
        self._places: dict[int, tuple[StorageWeakRef, torch.device]] = {}  # a weak reference keeps the number from being used again
        self._allowed: dict[Any, torch.device] = {}

    def known(self, x: Tensor) -> torch.device | None:
        """Where x was put; None if it was put nowhere."""
        if x.device != CPU or x.layout != torch.strided:
            return x.device
        return self._places.get(x.untyped_storage()._cdata, (None, None))[1]

    def of(self, x: Tensor) -> torch.device:
        """Where x lies."""
        return self.known(x) or CPU

    def put(self, x: Tensor, place: torch.device) -> Tensor:
        """From now on x and its views lie there. Raises TypeError for double precision on an Apple GPU, as that does."""
        if x.device != CPU or x.layout != torch.strided:
            return x
        if place.type == "mps" and x.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        if len(self._places) > 20_000:
            self._places = {key: value for key, value in self._places.items() if not value[0].expired()}
        storage = x.untyped_storage()
        self._places[storage._cdata] = (StorageWeakRef(storage), place)
        return x

    def together(self, func: Any, args: Any, kwargs: Any) -> torch.device | None:
        """Where an operation's result lies; None without tensors. Raises RuntimeError where its tensors cannot meet."""
        given = tensors(args, kwargs)
        places = [self.of(x) for x in given]
        settled = {place for place in places if place != ANYWHERE}
        if len(settled) < 2:
            return next(iter(settled), None)
        case = (func, tuple((place, x.dim(), x.dtype) for x, place in zip(given, places, strict=True)))
        if case not in self._allowed:
            indexing = func.overloadpacket.__name__ in INDEXING  # fake tensors allow too much there
            self._allowed[case] = self._indexed(*args[:3]) if indexing else self._asked(func, args, kwargs)
        return self._allowed[case]

    def _asked(self, func: Any, args: Any, kwargs: Any) -> torch.device:
        with FakeTensorMode():

            def fake(x: Tensor) -> Tensor:
                place = self.device if self.of(x) == ANYWHERE else self.of(x)
                return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=place)

            out = func(*tree_map_only(Tensor, fake, args), **tree_map_only(Tensor, fake, kwargs))
        return torch.device(tensors(out)[0].device.type) if tensors(out) else self.device

    def _indexed(self, x: Tensor, indices: Any, values: Any = None) -> torch.device:
        place = self.of(x)
        if any(self.of(index) not in (place, CPU, ANYWHERE) for index in tensors(indices)):
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({place})")
        if any(value.dim() and self.of(value) not in (place, ANYWHERE) for value in tensors(values)):
            raise RuntimeError(f"Expected all tensors to be on the same device: values are not on {place}, where self is")
        return place


class Operations(TorchDispatchMode):
    """Below Python, in backward passes too: checks every operation, and puts its results where they belong."""

    def __init__(self, places: Places):
        super().__init__()
        self.places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        places, kwargs = self.places, kwargs or {}
        with torch._C.DisableTorchFunction():
            place = places.together(func, args, kwargs)
            out = func(*args, **kwargs)
            for x in tensors(out):
                if places.known(x) is None:
                    places.put(x, place or ANYWHERE)
            for x in tensors(args, kwargs):
                if place and places.of(x) == ANYWHERE:
                    places.put(x, place)
        return out


class Calls(TorchFunctionMode):
    """In Python: tells a tensor's device, and makes and moves tensors where they are wanted."""

    def __init__(self, places: Places):
        super().__init__()
        self.places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        places, kwargs = self.places, dict(kwargs or {})
        if func.__name__ == "__get__":
            place = places.of(args[0])
            return place if func == DEVICE else place.type == IS_ON[func] if func in IS_ON else func(*args)
        if func in (Tensor.numpy, Tensor.__array__) and places.of(args[0]) != CPU:
            raise TypeError(f"can't convert {places.of(args[0])} device type tensor to numpy. Use Tensor.cpu() to copy it to host memory")
        given, named, args, kwargs = tensors(args, kwargs), *self._named(func, args, kwargs)
        out = func(*args, **kwargs)
        if func in MOVING:
            return self._moved(out, given, named)
        elsewhere = [places.of(x) for x in given if places.of(x) not in (CPU, ANYWHERE)]
        for x in tensors(out):
            if named or places.known(x) in (None, ANYWHERE) or not given:
                places.put(x, named or next(iter(elsewhere), CPU))
        return out

    def _named(self, func: Any, args: Any, kwargs: Any) -> tuple[torch.device | None, Any, Any]:
        """(the device that a call names, its arguments with the CPU instead)."""
        if func is Tensor.cpu:
            return CPU, args, kwargs
        if func is Tensor.to and tensors(args[1:], kwargs):
            return self.places.of(tensors(args[1:], kwargs)[0]), args, kwargs
        found: list[torch.device] = []

        def on_cpu(x: Any) -> Any:
            if isinstance(x, str | torch.device) and (place := torch.device(torch.device(x).type)) in (CPU, self.places.device):
                found.append(place)
                return CPU
            return x

        if func is Tensor.to:
            args = (args[0], *map(on_cpu, args[1:]))
        if "device" in kwargs:
            kwargs["device"] = on_cpu(kwargs["device"])
        if kwargs.get("generator") is not None and found and kwargs["generator"].device != found[0]:
            raise RuntimeError(f"Expected a {found[0]} generator, but found {kwargs['generator'].device}")
        return (found[0] if found else None), args, kwargs

    def _moved(self, out: Tensor, given: list[Tensor], named: torch.device | None) -> Tensor:
        """What `to` and its like return: in memory of its own if it goes elsewhere."""
        was = self.places.of(given[0]) if given else CPU
        place = named or was
        if place != was and (not given or out.untyped_storage()._cdata == given[0].untyped_storage()._cdata):
            out = out.clone()
        return out if place == was and given else self.places.put(out, place)


class PretendedGenerator(torch.Generator):
    """A random generator of the CPU that says it is another device's."""

    def __new__(cls, device: Any = "cpu") -> PretendedGenerator:
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu"):
        self.place = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self.place


@contextmanager
def pretended(kind: str) -> Iterator[torch.device]:
    """Inside, this machine has a device of kind "cuda" or "mps"."""
    places = Places(torch.device(kind))
    state = {kind: torch.Generator().get_state()}
    answers = {
        "cuda.is_available": lambda: kind == "cuda",
        "cuda.get_device_capability": lambda device=None: (8, 0),
        "cuda.get_device_name": lambda device=None: "pretended",
        "cuda.synchronize": lambda device=None: None,
        "mps.synchronize": lambda: None,
        "cuda.max_memory_allocated": lambda device=None: 0,
        "backends.mps.is_available": lambda: kind == "mps",
        "Generator": PretendedGenerator,
        "Event": lambda **_: SimpleNamespace(record=lambda: None, synchronize=lambda: None),
    }
    for module in ("cuda", "mps"):
        answers[f"{module}.get_rng_state"] = lambda device=None: state[kind]
        answers[f"{module}.set_rng_state"] = lambda new, device=None: state.update({kind: new})
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(f"torch.{name}", answer)
        with Operations(places), Calls(places):
            yield places.device
