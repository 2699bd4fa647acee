"""Runs a network on a large image tile by tile, with the numbers of the whole image."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.analysis.tiling import Tiling, tiling
from archdsl.checker.finished_graph import pin
from archdsl.common.units import memory_from
from archdsl.compiler import Network, checked
from archdsl.graph import Graph, Tensor
from archdsl.runtime.gathering import TOLERANCE, Gathering, Statistics, Stop, calls, empty, passes
from archdsl.runtime.journal import Journal, fingerprint
from archdsl.runtime.loading import graph_of

if TYPE_CHECKING:
    import torch

Item = tuple[int, int]
"""A sample of the batch, and the number of a tile."""


def tiled(
    model: torch.nn.Module,
    *images: Any,
    spec: Network | None = None,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    batch: int | None = None,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
    out: Any = None,
    resume: str | Path | None = None,
    progress: bool | None = None,
    approximate: bool = False,
    gather: bool = False,
) -> Any:
    """The results of a network for images of any size, computed tile by tile: equal to those of the whole images.

    `images` has one array for each input of the network, [N, C, …]: a tensor, or anything that gives NumPy arrays
    for slices, such as a memory-mapped file or a zarr array. `model` is a module of `archdsl.load`, in eval mode;
    for another module of the same network, such as that of a built file, give `spec`.

    `tile` is the largest tile, `memory` (in bytes, or such as "16GiB") what a run may take; with `memory` as many tiles
    run together as fit, else `batch` of them, or one. `prepare` is applied to each piece before it enters the
    network; it must treat every position alike, as `lambda x: x.float() / 255` does.

    `out` takes the results: an array [N, C, …] that can be assigned to, or the name of an .npy file, which is
    memory-mapped; a dict of them by the outputs' names if there are several. By default they are new tensors.
    `resume` is a folder that records which tiles are done: a later call with the same arguments leaves them out.
    With torch.distributed initialised, as under torchrun, each process computes its share of the tiles, into the same
    `out`; new tensors are complete in every process.

    With `approximate`, operations that need the whole image, such as a global pooling, may see only their tile. A
    warning names them, and says how far the results for a part of the image differ from those of a run on that part
    as a whole, which is up to two tiles long on each axis.

    With `gather`, the statistics of global poolings, `instancenorm` and `groupnorm` are those of the whole image: a
    pass over the tiles for each such layer gathers them, before that for the results.

    Raises SpecError if the network cannot be cut exactly, and ValueError for arguments that do not fit.
    """
    graph = checked(spec) if spec is not None else graph_of(model)
    if graph is None:
        raise ValueError("this module was not made by archdsl.load here: give its spec, tiled(model, image, spec=…)")
    if any(module.training for module in model.modules()):
        raise ValueError("the module is in training mode, in which its results depend on the batch: call model.eval()")
    limit = None if memory is None else memory_from(memory)
    sides = tuple(tile) if isinstance(tile, Sequence) else (tile,)
    for number in (batch, *sides):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"`tile` and `batch` are numbers of at least 1; got {number!r}")
    samples = _samples(graph, images, prepare)
    sizes = pin(graph, [tuple(image.shape[1:]) for image in images])
    plan = tiling(graph, sizes, tile=tile, limit=limit, batch=batch, approximate=approximate or gather, single=gather)
    run = _Run(model, graph, plan, images, prepare, Share.here())
    if plan.assumed and gather:
        run = with_statistics(run, samples)
        _verify(run)
    elif plan.assumed and run.share.rank == 0:
        warnings.warn(_about(plan, measured(run)), stacklevel=2)
    journal = None
    if resume is not None:
        if out is None:
            raise ValueError("`resume` needs `out`: results in memory are lost with the process")
        journal = Journal(
            Path(resume),
            run.share.rank,
            fingerprint(f"{graph.name} {gather} {approximate}", plan.sizes, plan.tile, model),
        )
        run.share.wait()  # until all have read what was done before
    results = _Results(plan, samples, run.share, out, images, run.weight, keep=bool(journal and journal.done))
    run.into(results, journal, progress)
    return results.finished()


def _samples(graph: Graph, images: Sequence[Any], prepare: object) -> int:
    """The number of samples. Raises ValueError for arrays that are no images of the network."""
    import torch

    nodes = graph.input_nodes
    if len(images) != len(nodes):
        names = ", ".join(f"`{node.name}`" for node in nodes)
        raise ValueError(f"{graph.name} takes {names}: give an image for each, in this order")
    for image, node in zip(images, nodes, strict=True):
        shape = tuple(image.shape)
        if len(shape) != len(graph.shape(Tensor(node.id))) + 1:
            raise ValueError(f"the image for `{node.name}` is {list(shape)}: it must have the batch, [N, C, …]")
        floats = image.is_floating_point() if isinstance(image, torch.Tensor) else image.dtype.kind in "fc"
        if prepare is None and not floats:
            raise ValueError(
                f"the image for `{node.name}` has integers: prepare=lambda x: x.float() / 255 converts them"
            )
    if len({image.shape[0] for image in images}) > 1:
        raise ValueError("the images have different numbers of samples")
    return int(images[0].shape[0])


def _about(plan: Tiling, error: float | None) -> str:
    names = ", ".join(f"`{node.operation.name}` (`{node.path}`)" for node in plan.assumed[:3])
    more = f" and {len(plan.assumed) - 3} more" if len(plan.assumed) > 3 else ""
    found = (
        "how far that changes them could not be measured"
        if error is None
        else f"on a part of the image, up to two tiles long, they differ by {error:.2%} (relative, root mean square)"
    )
    return f"the results are approximate: {names}{more} see only their tile; {found}"


def with_statistics(run: _Run, samples: int) -> _Run:
    """The same run, with statistics of the whole images. Raises ValueError if they cannot be gathered."""
    plan, state = run.plan, Gathering(run.model)
    if calls(run.model, lambda: run.model(*run.tensors([(0, 0)]))) != len(plan.assumed):
        names = ", ".join(sorted({f"`{node.operation.name}`" for node in plan.assumed}))
        raise ValueError(
            f"statistics can be gathered for global poolings, instancenorm and groupnorm; not for all of {names} here"
        )
    for part in passes(plan):
        statistics = empty(part, samples)
        _Run(run.model, run.graph, part, run.images, run.prepare, run.share, state).collect(statistics, samples)
        if run.share.ranks > 1:
            statistics.share()
        state.found.append(statistics)
    state.capture = None
    return replace(run, gathering=state)


def _verify(run: _Run) -> None:
    """Demands that gathered statistics give what a whole run on a part of the image gives. Raises ValueError."""
    error = measured(run)
    if error is None or error > TOLERANCE:
        found = "this could not be tried" if error is None else f"they differ by {error:.2%}"
        raise ValueError(f"the results with gathered statistics must be those of a whole run on a part: {found}")


def measured(run: _Run) -> float | None:
    """The error of tiles on the middle of the first sample, relative to a run on all of that part; None if unknown."""
    import torch

    plan, places = run.plan, {}
    sizes = dict(plan.sizes)
    for axis in plan.axes:
        length = min(axis.size, axis.tile + axis.step)
        start = (axis.size - length) // 2 // axis.stride * axis.stride
        places[axis.name] = slice(start, start + length)
        sizes[axis.name] = length
    sizes = {name: sizes[name] for name in plan.sizes}
    if not run.graph.sizes.holds(sizes):
        return None
    spans = [places[axis.name] for axis in plan.axes]
    parts = [run.read(image, 0, spans, cut) for image, cut in zip(run.images, plan.cut, strict=True)]
    part = tiling(
        run.graph, sizes, tile=[axis.tile for axis in plan.axes], approximate=True, single=run.gathering is not None
    )
    inner = _Run(run.model, run.graph, part, parts, None, Share())
    results = _Results(part, 1, Share(), None, parts, run.weight, keep=False)
    (inner if run.gathering is None else with_statistics(inner, 1)).into(results, None, False)
    with torch.inference_mode():
        whole = run.model(*map(run.placed, parts))
    whole = [whole] if isinstance(whole, torch.Tensor) else list(whole)
    pairs = [(w.cpu().double(), found.double()) for w, found in zip(whole, results.arrays.values(), strict=True)]
    return max(float((w - found).norm() / w.norm().clamp(min=1e-30)) for w, found in pairs)


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the work that this process does."""

    rank: int = 0
    ranks: int = 1

    @classmethod
    def here(cls) -> Share:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def wait(self) -> None:
        """Waits for all processes."""
        if self.ranks > 1:
            import torch.distributed as dist

            dist.barrier()


@dataclass(slots=True, eq=False)
class _Run:
    """Cuts tiles, runs the network on them, and hands on the results."""

    model: torch.nn.Module
    graph: Graph
    plan: Tiling
    images: Sequence[Any]
    prepare: Callable[[torch.Tensor], torch.Tensor] | None
    share: Share
    gathering: Gathering | None = None

    @property
    def weight(self) -> torch.Tensor:
        """A tensor of the type and at the place that the network's inputs must have."""
        import torch

        tensors = (*self.model.parameters(), *self.model.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.zeros(()))

    def placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """An input, where the network is; a network without weights takes any type."""
        return tensor.to(self.weight) if any(True for _ in self.model.parameters()) else tensor

    def into(self, results: _Results, journal: Journal | None, progress: bool | None) -> None:
        import torch

        tiles = [t for t in range(self.plan.count) if t == 0 or self.plan.keeps(t)]
        items = [(n, t) for n in range(results.samples) for t in tiles]
        done = journal.done if journal is not None else set()
        left = [item for item in items[self.share.rank :: self.share.ranks] if item not in done]
        size = self.plan.batch
        try:
            with torch.inference_mode(), _progress(len(left), progress, self.share) as advance:
                for start in range(0, len(left), size):
                    some = left[start : start + size]
                    self.step(some, results)
                    if journal is not None:
                        journal.add(some, results.flush)
                    advance(len(some))
        finally:  # also of a run that is interrupted
            if journal is not None:
                journal.close(results.flush)

    def collect(self, statistics: Statistics, samples: int) -> None:
        """Adds up what this process's tiles keep of the input of a layer."""
        import torch

        state = self.gathering
        assert state is not None
        items = [(n, t) for n in range(samples) for t in range(self.plan.count)][self.share.rank :: self.share.ranks]
        with torch.inference_mode(), state.active():
            for start in range(0, len(items), self.plan.batch):
                some = items[start : start + self.plan.batch]

                def add(x: torch.Tensor, some: Sequence[Item] = some) -> None:
                    for own, (sample, tile) in zip(x, some, strict=True):
                        spans = (slice(*k.own) for k in self.plan[tile].kept[0])
                        statistics.add(sample, own[(slice(None), *spans)])

                state.begin([sample for sample, _ in some])
                state.capture = add
                with suppress(Stop):
                    self.model(*self.tensors(some))

    def tensors(self, items: Sequence[Item]) -> list[torch.Tensor]:
        """The network's inputs for some tiles."""
        import torch

        return [
            self.placed(torch.cat([self.piece(image, cut, item) for item in items]))
            for image, cut in zip(self.images, self.plan.cut, strict=True)
        ]

    def step(self, items: Sequence[Item], results: _Results) -> None:
        """Runs some tiles together."""
        import torch

        if self.gathering is not None:
            self.gathering.begin([sample for sample, _ in items])
        with self.gathering.active() if self.gathering is not None else nullcontext():
            found = self.model(*self.tensors(items))
        found = [found] if isinstance(found, torch.Tensor) else list(found)
        shapes = [(len(items), *shape) for shape in self.plan.shapes(tile=True)]
        if [tuple(result.shape) for result in found] != shapes:
            raise ValueError(f"the module gives {[list(f.shape) for f in found]} where its spec says {shapes}")
        results.put(items, found)

    def piece(self, image: Any, cut: Sequence[bool], item: Item) -> torch.Tensor:
        """The part of an image, [1, C, …], that a tile takes."""
        sample, number = item
        return self.read(image, sample, [slice(*span) for span in self.plan[number].cut], cut)

    def read(self, image: Any, sample: int, spans: Sequence[slice], cut: Sequence[bool]) -> torch.Tensor:
        """A part of an image, [1, C, …]; `cut` says for each axis whether it is cut there."""
        import torch

        slices = [spans[axis] if here else slice(None) for axis, here in enumerate(cut)]
        found = image[(slice(sample, sample + 1), slice(None), *slices)]
        if not isinstance(found, torch.Tensor):
            import numpy

            found = torch.from_numpy(numpy.array(found))  # a copy: torch takes no read-only arrays
        return self.prepare(found) if self.prepare is not None else found


@contextmanager
def _progress(total: int, wanted: bool | None, share: Share) -> Iterator[Callable[[int], None]]:
    """Shows how many tiles are done, in the first process; gives what is called after some more."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if share.rank or not (on_terminal if wanted is None else wanted):
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("tiles", total=total)
        yield lambda count: bar.advance(task, count)


@dataclass(eq=False)
class _Results:
    """Where the results go: one array for each output, made when the first results say of which type they are."""

    plan: Tiling
    samples: int
    share: Share
    out: Any
    images: Sequence[Any]
    like: torch.Tensor
    """A tensor of the type that results have where there are none."""
    keep: bool
    """Whether files have results from before."""

    def __post_init__(self) -> None:
        names = [output.name or "" for output in self.plan.outputs]
        several = len(names) > 1
        if several and self.out is not None and not (isinstance(self.out, Mapping) and set(self.out) == set(names)):
            raise ValueError(f"the network has several outputs: give `out` as a dict with {', '.join(names)}")
        given = self.out if several and self.out is not None else dict.fromkeys(names, self.out)
        self.shapes = dict(zip(names, ((self.samples, *s) for s in self.plan.shapes()), strict=True))
        self.arrays: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        for name, array in given.items():
            self.given[name] = self.checked(array, self.shapes[name])

    def checked(self, array: Any, shape: tuple[int, ...]) -> Any:
        if array is None:
            return None
        if isinstance(array, str | Path):
            path = Path(array)
            if path.suffix != ".npy":
                raise ValueError(f"{path}: results are written to .npy files, or to an array that you give")
            if any(_is_file_of(image, path) for image in self.images):
                raise ValueError(f"{path} is the file of an image")
            return path
        if tuple(array.shape) != shape:
            raise ValueError(f"`out` is {list(array.shape)}, the results are {list(shape)}")
        if self.share.ranks > 1 and hasattr(array, "chunks"):
            raise ValueError(
                "several processes cannot write to an array in chunks, since tiles share them: give the name of an "
                ".npy file, and convert it afterwards"
            )
        return array

    def make(self, name: str, like: torch.Tensor) -> Any:
        """The array of an output."""
        import torch

        given, shape = self.given[name], self.shapes[name]
        if given is None:
            return torch.zeros(shape, dtype=like.dtype)
        if not isinstance(given, Path):
            return given
        import numpy

        kind = _numpy(like).dtype
        if self.keep and not given.exists():
            raise ValueError(
                f"{given} is gone, with the tiles that `resume` records: remove that folder to begin again"
            )
        if self.share.rank == 0 and not self.keep:
            numpy.lib.format.open_memmap(given, "w+", kind, shape).flush()
        self.share.wait()
        found = numpy.lib.format.open_memmap(given, "r+")
        if found.shape != shape or found.dtype != kind:
            raise ValueError(f"{given} has {list(found.shape)} of {found.dtype}, the results are {list(shape)}, {kind}")
        return found

    def put(self, items: Sequence[Item], found: Sequence[torch.Tensor]) -> None:
        """Stores what is kept of some tiles' results."""
        import torch

        for number, (name, result) in enumerate(zip(self.shapes, found, strict=True)):
            if name not in self.arrays:
                self.arrays[name] = self.make(name, result)
            target = self.arrays[name]
            for own, (sample, tile) in zip(result, items, strict=True):
                if own.dim() == 1 and tile:
                    continue  # one result for the whole image, which the first tile gives
                kept = self.plan[tile].kept[number][: own.dim() - 1]
                part = own[(slice(None), *(slice(*k.own) for k in kept))]
                place = (sample, slice(None), *(slice(*k.whole) for k in kept))
                if part.numel():
                    target[place] = part if isinstance(target, torch.Tensor) else _numpy(part)

    def flush(self) -> None:
        for array in self.arrays.values():
            if hasattr(array, "flush"):
                array.flush()

    def finished(self) -> Any:
        """The arrays: one, or several by the names of the outputs."""
        for name, given in self.given.items():
            if name not in self.arrays:  # this process had nothing to do
                self.arrays[name] = self.make(name, self.like)
            if given is None and self.share.ranks > 1:
                import torch.distributed as dist

                dist.all_reduce(self.arrays[name])  # every process has zeros where the others have results
        self.flush()
        self.share.wait()
        return self.arrays if len(self.arrays) > 1 else next(iter(self.arrays.values()))


def _numpy(tensor: torch.Tensor) -> Any:
    import torch

    found = tensor.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()


def _is_file_of(image: Any, path: Path) -> bool:
    """Whether an array is mapped from a file."""
    while image is not None:
        name = getattr(image, "filename", None)
        if name and path.exists() and path.samefile(name):
            return True
        image = getattr(image, "base", None)
    return False
