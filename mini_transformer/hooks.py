"""Hook points: named places in the forward pass to read or replace an activation.

One mechanism serves both. A hook is a function `fn(value, hook)`; if it returns None the value goes
on (with whatever the function changed in place), otherwise the returned tensor takes its place. A
cache is a hook that only looks.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mini_transformer import warm_up  # noqa: F401  (before anything is computed)
from mini_transformer.nearest import find_nearest

HookFunction = Callable[[Tensor, "HookPoint"], Tensor | None]
# "blocks.0.attn.hook_pattern", or short: ("pattern", 0), "embed"
HookName = str | tuple[str | int, ...]
HookFilter = HookName | Callable[[str], bool]


class HookPoint:
    """A named place in the forward pass. Without listeners, calling it costs one empty loop.

    `on_demand` marks activations that are too large to compute unless somebody listens
    (`hook_result` and the inputs of q, k and v, one stream per head); the model asks `hook.on`
    before it computes them.
    """

    def __init__(self, on_demand: bool = False) -> None:
        self.name = ""  # filled in by HookedModule.name_hook_points
        self.on_demand = on_demand
        self.listeners: list[Callable[[Tensor, HookPoint], Tensor]] = []

    def __call__(self, value: Tensor) -> Tensor:
        for listener in self.listeners:
            value = listener(value, self)
        return value

    @property
    def on(self) -> bool:
        return bool(self.listeners)

    @property
    def layer(self) -> int | None:
        """The block this hook point is in, or None for those outside the blocks."""
        return int(self.name.split(".")[1]) if self.name.startswith("blocks.") else None

    def __getstate__(self) -> dict[str, Any]:
        """Leave listeners out of a copied or saved model: nobody could take them away from it."""
        return {**vars(self), "listeners": []}

    def __repr__(self) -> str:
        return f"HookPoint({self.name!r})"


class Editor:
    """Calls a user's hook function on a copy of the activation.

    Editing in place then cannot reach what was cached before.
    """

    def __init__(self, fn: HookFunction) -> None:
        self.fn = fn
        self.calls = 0

    def __call__(self, value: Tensor, hook: HookPoint) -> Tensor:
        self.calls += 1
        mine = value.clone()
        new = self.fn(mine, hook)
        if new is None:
            return mine
        if not isinstance(new, Tensor):
            raise ValueError(
                f"the hook on {hook.name} returned a {type(new).__name__}: return a tensor, or None"
            )
        for what in ("shape", "dtype", "device"):
            given = getattr(new, what)
            expected = getattr(value, what)
            if given != expected:
                raise ValueError(
                    f"the hook on {hook.name} returned {what} {given}, "
                    f"but the activation has {expected}"
                )
        return new


class Recorder:
    """Stores activations by name.

    Copies only what another name (resid_post 0 is resid_pre 1) or a caller holds. With `copy_all`,
    copies everything: where hook functions run, each may keep what it was given or what it
    returned.
    """

    def __init__(self, held: Iterable[object] = (), copy_all: bool = False) -> None:
        self.values: dict[str, Tensor] = {}
        self.copy_all = copy_all
        self.stored = {find_memory(x) for x in held if isinstance(x, Tensor)} | {None}

    def __call__(self, value: Tensor, hook: HookPoint) -> Tensor:
        value = self.separate(value)
        self.stored.add(find_memory(value))
        self.values[hook.name] = value
        return value

    def separate(self, value: Tensor) -> Tensor:
        """Return a copy if the memory is held already, or cannot be told; otherwise the value."""
        return value.clone() if self.copy_all or find_memory(value) in self.stored else value


def find_memory(value: Tensor) -> int | None:
    """Find where a tensor's memory begins, the same for its views.

    Return None where torch.func hides it.
    """
    try:
        return value.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return None


def short_name(name: str) -> HookName:
    """Shorten a hook's name.

    `blocks.0.attn.hook_pattern` becomes `("pattern", 0)`, and `blocks.1.ln2.hook_scale` becomes
    `("scale", 1, "ln2")`.
    """
    *path, last = name.split(".")
    short = last.removeprefix("hook_")
    if not path or path[0] != "blocks":
        return short
    return (short, int(path[1]), path[2]) if path[-1].startswith("ln") else (short, int(path[1]))


def find_names(where: HookFilter, known: Collection[str]) -> list[str]:
    """Find the hook names among `known` that a full name, short name or filter means.

    Raise KeyError with the nearest name if there is none.

    >>> find_names(("pattern", -1), ["blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"])
    ['blocks.1.attn.hook_pattern']
    """
    if callable(where):
        if found := [name for name in known if where(name)]:
            return found
        raise KeyError(
            f"the filter {getattr(where, '__name__', where)} matches none of the "
            f"{len(known)} hook names"
        )
    if not isinstance(where, str | tuple):
        raise KeyError(
            f"a hook name is a string, a short name like ('pattern', 0) or a filter, not {where!r}"
        )
    if where in known:
        return [where]  # type: ignore[list-item]
    by_short = {short_name(name): name for name in known}
    wanted: Any = where[0] if isinstance(where, tuple) and len(where) == 1 else where
    has_layer = isinstance(wanted, tuple) and len(wanted) > 1 and isinstance(wanted[1], int)
    if has_layer and wanted[1] < 0:
        in_blocks: list[Any] = [short for short in by_short if isinstance(short, tuple)]
        n_layers = 1 + max((short[1] for short in in_blocks), default=-1)
        wanted = (wanted[0], wanted[1] + n_layers, *wanted[2:])
    if wanted in by_short:
        return [by_short[wanted]]
    spelled = {str(s): s for s in (*known, *by_short)}
    hint = f"; nearest: {spelled[find_nearest(where, spelled)]!r}" if spelled else ""
    raise KeyError(f"no hook is called {where!r}{hint}")


class ActivationCache(Mapping[HookName, Tensor]):
    """Activations of one run, by hook name.

    Names are full, `cache["blocks.0.attn.hook_pattern"]`, or short, `cache["pattern", 0]`. Layers
    count from the end if negative. Raise KeyError for a name that does not exist, or was not cached
    in this run. The tensors are part of the autograd graph:

    >>> import torch
    >>> from mini_transformer import Config, Transformer
    >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
    >>> logits, cache = model.run_with_cache(torch.tensor([[1, 2, 3]]))
    >>> (gradient,) = torch.autograd.grad(logits.sum(), cache["pattern", -1])
    >>> tuple(gradient.shape)
    (1, 4, 3, 3)
    """

    def __init__(self, values: dict[str, Tensor], model: "HookedModule") -> None:
        self._values = values
        self._model = model

    def __getitem__(self, key: HookName) -> Tensor:
        (name,) = find_names(key, self._model.hook_points)
        if name not in self._values:
            on_demand = self._model.hook_points[name].on_demand
            why = "computed only on demand" if on_demand else "not asked for or not reached"
            raise KeyError(
                f"{name} was not cached ({why}): use run_with_cache(..., "
                f"names_filter=[{name!r}, ...])"
            )
        return self._values[name]

    def __iter__(self) -> Iterator[HookName]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return "\n".join(f"{name:34}{tuple(value.shape)}" for name, value in self._values.items())


class HookedModule(nn.Module):
    """A module whose HookPoints have names.

    There are four ways to use them: hooks and run_with_hooks edit, recording and run_with_cache
    look.
    """

    def name_hook_points(self) -> None:
        """Name every HookPoint after its place in the module tree; call at the end of __init__."""
        self.hook_points: dict[str, HookPoint] = {}
        for prefix, module in self.named_modules():
            for attribute, point in vars(module).items():
                if isinstance(point, HookPoint):
                    point.name = f"{prefix}.{attribute}".lstrip(".")
                    self.hook_points[point.name] = point

    @contextmanager
    def _listening(self, pairs: list[tuple[HookPoint, Any]]) -> Iterator[None]:
        """Attach listeners, and take away exactly these again, whatever happens in between."""
        try:
            for point, listener in pairs:
                point.listeners.append(listener)
            yield
        finally:
            for point, listener in pairs:
                point.listeners = [kept for kept in point.listeners if kept is not listener]

    @contextmanager
    def hooks(
        self, fwd_hooks: Iterable[tuple[HookFilter, HookFunction]] = ()
    ) -> Iterator["HookedModule"]:
        """Run hook functions in every forward inside the block.

        `with model.hooks([(name, fn)]): ...` runs `fn(value, hook)` at `name`. Names are full,
        short or a filter. Unknown names and filters that match nothing raise KeyError; replacements
        of another shape, dtype or device, and hooks that were never reached, ValueError. Nothing is
        left behind, also after exceptions.

        >>> import torch
        >>> from mini_transformer import Config, Transformer
        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
        >>> seen = []
        >>> silence = (("z", 0), lambda z, hook: z * 0)
        >>> look = (("attn_out", 0), lambda x, hook: seen.append(x))
        >>> with model.hooks([silence, look]):
        ...     logits = model(torch.tensor([[1, 2, 3]]))
        >>> seen[0].abs().max().item()
        0.0
        """
        pairs = []
        for pair in fwd_hooks:
            if not (isinstance(pair, tuple) and len(pair) == 2 and callable(pair[1])):
                raise ValueError(
                    f"fwd_hooks is a list of pairs (name, function), but {pair!r} is in it"
                )
            pairs += [
                (self.hook_points[name], Editor(pair[1]))
                for name in find_names(pair[0], self.hook_points)
            ]
        with self._listening(pairs):
            yield self
        if missed := [point.name for point, editor in pairs if editor.calls == 0]:
            raise ValueError(
                f"the hook on {', '.join(missed)} was never reached: "
                "no forward run passed through it"
            )

    @contextmanager
    def recording(self, names: HookFilter | Sequence[HookFilter]) -> Iterator[ActivationCache]:
        """Keep activations of every forward inside the block, without editing them.

        `names` is a hook name (full or short), a filter, or a list of them; unknown names and
        filters that match nothing raise KeyError. The cache fills while the block runs: a later
        forward overwrites what an earlier one left. Hooks that were attached before are seen, those
        attached inside the block are not. Nothing is left behind, also after exceptions. The
        tensors are copies, and part of the autograd graph.

        >>> import torch
        >>> from mini_transformer import Config, Transformer
        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
        >>> with model.recording(["embed", ("z", 0)]) as values:
        ...     logits = model(torch.tensor([[1, 2, 3]]))
        >>> tuple(values["z", 0].shape), list(values)
        ((1, 3, 4, 4), ['hook_embed', 'blocks.0.attn.hook_z'])
        """
        recorder = Recorder(copy_all=True)
        with self._listening([(point, recorder) for point in self._find_points(names)]):
            yield ActivationCache(recorder.values, self)

    def _find_points(self, names: HookFilter | Sequence[HookFilter]) -> list[HookPoint]:
        """Find the hook points of one name or filter, or of several; each is listed once."""
        filters: list[Any] = names if isinstance(names, list) else [names]
        found = [name for where in filters for name in find_names(where, self.hook_points)]
        return [self.hook_points[name] for name in dict.fromkeys(found)]

    @contextmanager
    def without_hooks(self) -> Iterator[None]:
        """Run the model as its weights alone say inside the block; put all hooks back after it.

        >>> import torch
        >>> from mini_transformer import Config, Transformer
        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=1))
        >>> with model.hooks([("embed", lambda x, hook: x * 0)]):
        ...     with model.without_hooks():
        ...         alone = model(torch.tensor([[1, 2]]))
        ...     hooked = model(torch.tensor([[1, 2]]))
        >>> torch.equal(alone, model(torch.tensor([[1, 2]]))), torch.equal(alone, hooked)
        (True, False)
        """
        kept = {point: point.listeners for point in self.hook_points.values()}
        try:
            for point in kept:
                point.listeners = []
            yield
        finally:
            for point, listeners in kept.items():
                point.listeners = listeners

    def run_with_hooks(
        self, *args: Any, fwd_hooks: Iterable[tuple[HookFilter, HookFunction]] = (), **kwargs: Any
    ):
        """Run the model once with hooks in place; return what it returns. See `hooks`.

        >>> import torch
        >>> from mini_transformer import Config, Transformer
        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=2, n_heads=4))
        >>> silence = ("embed", lambda x, hook: x * 0)
        >>> logits = model.run_with_hooks(torch.tensor([[1, 2, 3]]), fwd_hooks=[silence])
        """
        with self.hooks(fwd_hooks):
            return self(*args, **kwargs)

    def run_with_cache(
        self,
        *args: Any,
        names_filter: HookFilter | Sequence[HookFilter] | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, ActivationCache]:
        """Run the model once and keep its activations; return `(logits, cache)`.

        `names_filter` is a hook name, a filter, or a list of them; by default everything is kept
        except what is computed only on demand (`hook_result`, `hook_q_input`, `hook_k_input`,
        `hook_v_input`).

        >>> import torch
        >>> from mini_transformer import Config, Transformer
        >>> model = Transformer(Config(d_vocab=10, n_ctx=8, d_model=16, n_layers=1, n_heads=4))
        >>> wanted = [("result", 0), lambda name: "resid" in name]
        >>> model.run_with_cache(torch.tensor([[1, 2, 3]]), names_filter=wanted)[1]
        blocks.0.hook_resid_pre           (1, 3, 16)
        blocks.0.attn.hook_result         (1, 3, 4, 16)
        blocks.0.hook_resid_post          (1, 3, 16)
        """
        points = [point for point in self.hook_points.values() if not point.on_demand]
        if names_filter is not None:
            points = self._find_points(names_filter)
        hooked = any(point.on for point in self.hook_points.values())
        recorder = Recorder(held=(*args, *kwargs.values()), copy_all=hooked)
        with self._listening([(point, recorder) for point in points]):
            output = self(*args, **kwargs)
        # A run that stops at a layer returns the very stream that was cached last.
        return recorder.separate(output), ActivationCache(recorder.values, self)
