"""Executes a text on the terms of its graph, and compares the results."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from archdsl.common.source import Span
from archdsl.graph import Graph, Node, Scope
from archdsl.graph.series import Part
from archdsl.proof.errors import Unproved
from archdsl.proof.inference import Correspondence, compare_weights
from archdsl.proof.layers import Layer, forget
from archdsl.proof.library import Library, Run
from archdsl.proof.meaning import MARK, Meaning, Owner, Weight, in_order
from archdsl.proof.modules import DEVICE, DTYPE, Buffer, Module
from archdsl.proof.modules import Weight as ModuleWeight
from archdsl.proof.parallel import compare_parallel, mark_units
from archdsl.proof.reader import Text, read
from archdsl.proof.sizes import Guard, compare_free, compare_guards
from archdsl.proof.terms import Storage, Tensor
from archdsl.proof.vocabulary import HELPERS, is_guard
from archdsl.syntax.tree import Residual
from archdsl.transform.inference import Folding
from archdsl.transform.parallel import Parallel
from archdsl.transform.parallel_function import parallel_functions
from archdsl.transform.recompute import Recompute

if TYPE_CHECKING:  # what augmentations are is imported only if there is one
    from archdsl.augment.base import Pipeline

FILE = "<built>"


class Proof:
    """The comparison of one text with one graph."""

    def __init__(
        self,
        text: str,
        graph: Graph,
        folding: Folding | None,
        recompute: Recompute,
        parallel: Parallel | None,
        augmentation: tuple[str, Pipeline] | None,
    ) -> None:
        self.text, self.graph, self.augmentation = text, graph, augmentation
        self.folding, self.recompute, self.parallel = folding, recompute, parallel
        self.inference = folding is not None
        self.counting: list[tuple[str, Layer]] = []
        """The layers that keep statistics, with their paths."""
        self.paths: dict[int, str] = {}
        """The paths of the finished model's modules, once they are asked for."""

    def run(self) -> None:
        try:
            self._run()
        except Unproved:
            raise
        except Exception as error:
            raise Unproved(f"does not run: {type(error).__name__}: {error}{_line(error)}") from error
        finally:
            forget()

    def _run(self) -> None:
        meaning = Meaning(self.graph, gradients=not self.inference, moves="permute" in self.text)
        name = self.augmentation[0] if self.augmentation else None
        helpers = list(meaning.helpers)
        if self.parallel is not None:
            helpers += parallel_functions(self.parallel)
        if self.augmentation is not None:
            from archdsl.proof.augmentation import TEXTS

            helpers += TEXTS
        outside = {kind.imported: (kind.module, kind.target) for kind in self.graph.outside}
        text = read(self.text, helpers, name, outside)
        meaning.compute(training=not self.inference)
        run = Run(meaning.table, training=not self.inference)
        model, guards = self.make(text, run, meaning)
        self.compare_state(model, meaning)
        self.finished(model, meaning)
        self.forwards(model, meaning, run)
        if self.parallel is not None:
            compare_parallel(self.parallel, text, self.space, model)
        compare_guards(guards, self.graph.sizes if self.inference else self.graph.always)
        if self.folding is not None:
            walked = Correspondence(self.folding.training, self.graph, self.folding)
            walked.run()
            # A file looks up each of its batchnorms for each key of the state_dict.
            norms, weights = len(self.folding.folded), 6 * len(self.folding.training)
            self.library.budget.left += norms * weights
            compare_weights(walked, self.space.get("fold_batchnorms", dict))  # type: ignore[arg-type]
            return
        differs = any(output.training for output in self.graph.outputs)
        if text.by_mode or differs or self.graph.training is not None:
            if differs:
                meaning.compute(training=False)
            for guard in guards:
                guard.calls.clear()
            _in_mode(model, training=False)
            run.training = False
            self.forwards(model, meaning, run)
            compare_guards(guards, self.graph.sizes)

    def make(self, text: Text, run: Run, meaning: Meaning) -> tuple[Module, list[Guard]]:
        """The constructed model of a text, and its guards."""
        outside = meaning.outside
        library = self.library = Library(run)
        space = self.space = library.globals(repeats=bool(self.recompute.parts))
        imported = {kind.imported: object() for kind in self.graph.outside}
        made: dict[str, object] = {**imported}
        made |= {h.name: h.made or library.function(h, h.name in outside) for h in text.helpers.values()}
        made |= {name: library.maker(name, shapes) for name, shapes in meaning.makers.items() if name in made}
        if self.augmentation is not None:
            from archdsl.proof.augmentation import FLOW, flow

            made.update({name: flow(name) for name in FLOW if name in made})
        space[HELPERS] = made
        exec(compile(text.tree, FILE, "exec"), space)
        known = {**library.known(), **imported}
        for helper in text.helpers.values():
            for name in helper.uses - text.helpers.keys():
                if name not in space or (name in known and space[name] is not known[name]):
                    raise Unproved(f"does not import `{name}`, which {helper.name} needs")
        guards: list[Guard] = []
        for name, function in text.functions.items():
            if is_guard(function):
                guard = Guard(space[name], function, space, library.budget)  # type: ignore[arg-type]  # a function of the text
                guards.append(guard)
                space[name] = guard
        if "dynamic_shapes" in space:
            compare_free(self.graph, space["dynamic_shapes"]())  # type: ignore[operator]
        if self.augmentation is not None:
            from archdsl.proof.augmentation import compare

            name, pipeline = self.augmentation
            if name not in text.definitions or name == text.classes[-1]:
                raise Unproved(f"has no `{name}`")
            compare(pipeline, text.definitions[name], space[name](), text.helpers)  # type: ignore[operator]
        if not text.classes:
            raise Unproved("has no class")
        self.compare_inputs(text.definitions[text.classes[-1]])
        model = space[text.classes[-1]](device=DEVICE, dtype=DTYPE)  # type: ignore[operator]
        if not isinstance(model, Module):
            raise Unproved("ends with a class that is no module")
        return model, guards

    def finished(self, model: Module, meaning: Meaning) -> None:
        """Compares the modes in which a model starts; from here on nothing may change it."""
        starts = not self.inference or not (meaning.statistics or self.graph.outside)
        modules = [*model.modules()]
        for module in modules:
            if module.training is not starts:
                raise Unproved("does not start in the mode that its form needs, with all its members")
        if self.parallel is not None:
            mark_units(self.parallel, model)
        for module in modules:
            module._seal()

    def compare_inputs(self, model: ast.ClassDef) -> None:
        """The arguments of `forward`, by name: a single one may be passed as for PyTorch's layers."""
        forward = next((s for s in model.body if isinstance(s, ast.FunctionDef) and s.name == "forward"), None)
        if forward is None:
            return  # an nn.Sequential
        names = [node.name or "" for node in self.graph.input_nodes]
        _, *given = [a.arg for a in forward.args.args]
        if forward.args.vararg or len(given) != len(names):
            raise Unproved("takes more or fewer inputs than the network")
        for name, found in zip(names, given, strict=True):
            if not _is_named(found, name) and (len(names) > 1 or found not in ("x", "input")):
                raise Unproved(f"takes `{found}` where the network has the input `{name}`")

    # ------------------------------------------------------------ state

    def compare_state(self, model: Module, meaning: Meaning) -> None:
        """Compares the keys in order, sizes, trainability and initialisation; binds the weights to terms."""
        found = list(_owners(model))
        if len({id(made) for _, made in found}) < len(found):
            raise Unproved("has the same weights twice")
        self.counting = [(path, made) for path, made in found if isinstance(made, Layer) and made.spec.has_statistics]
        wanted = _in_order_of(found, meaning, self.graph)
        for (path, owner), (where, made) in zip(wanted, found, strict=False):
            if path != where:
                raise Unproved(f"has the weights of `{where}` where the network has those of `{path}`")
            if (
                isinstance(made, Layer)
                and made.is_as_made
                and owner.declared.is_plain
                and made.spec == owner.declared.spec
            ):
                if not made.spec.placed:
                    raise Unproved(f"makes `{path}` without device and dtype")
                continue
            _same_weights(owner.weights(), where, made)
        if len(wanted) != len(found):
            more = (found if len(found) > len(wanted) else wanted)[min(len(found), len(wanted))]
            raise Unproved(f"{'has' if more in found else 'lacks'} the weights of `{more[0]}`")
        for path, made in found:
            if isinstance(made, Layer):
                made.__dict__["path"] = path  # it reads its weights itself, under its path
            else:
                made.bind(meaning.table, path)

    # ------------------------------------------------------------ forward

    def forwards(self, model: Module, meaning: Meaning, run: Run) -> None:
        """Runs a model, and again for every other answer to what it asks about PyTorch's state."""
        states: list[dict[str, bool]] = [{}]
        while states:
            run.state = states.pop()
            run.asked = {}
            self.forward(model, meaning, run)
            known = dict(run.state)
            for question, answer in run.asked.items():
                if question not in known:
                    states.append({**known, question: not answer})
                    known[question] = answer

    def forward(self, model: Module, meaning: Meaning, run: Run) -> None:
        table = meaning.table
        table.rewind(0)
        table.counted.clear()
        run.recomputed.clear()
        run.in_series.clear()
        for _, layer in self.counting:
            layer.reset()
        inputs = [Tensor(table, term, Storage(kept="what the caller gave")) for term in meaning.inputs]
        given = model(*inputs)
        names = [name for name, _ in meaning.outputs]
        if len(names) == 1:
            given = (given,)
        elif not isinstance(given, tuple) or not hasattr(given, "_fields"):
            raise Unproved("gives no named tuple")
        else:
            for name, field in zip(names, given._fields, strict=True):
                if not _is_named(field, name or ""):
                    raise Unproved(f"gives `{field}` where the network has the output `{name}`")
        for (name, tensor), value in zip(meaning.outputs, given, strict=True):
            if tensor is None:
                if value is not None:
                    raise Unproved(f"gives the output `{name}` while it does not train")
            elif (
                not isinstance(value, Tensor)
                or (value.read(), value.order) != meaning.values[tensor.node][tensor.index]
            ):
                raise Unproved(f"gives something else as the output{f' `{name}`' if name else ''}")
        if +table.ran != meaning.ran:
            raise Unproved("draws at random more or less often than the network")
        for path, layer in self.counting if run.training else ():
            wanted, found = meaning.statistics.get(path, []), layer.updates
            if found is None or len(found) != len(wanted):
                raise Unproved(f"updates the statistics of `{path}` more or less often than the network")
            if found != wanted:
                raise Unproved(f"updates the statistics of `{path}` by other tensors, or in another order")
        self.compare_recomputed(model, meaning, run)

    def compare_recomputed(self, model: Module, meaning: Meaning, run: Run) -> None:
        """Compares the recomputed parts with those chosen."""
        if not run.state.get("grad", True) or run.state.get("exporting", False):
            return
        if not run.recomputed and not run.in_series and not self.recompute.parts:
            return
        bodies = self.recompute.bodies
        self.paths = self.paths or {id(module): path[:-1] for path, module in model._named(True)}
        around = {scope.path: scope.parent for scope in bodies}
        found = [(self.paths.get(id(module), "?"), given) for module, given in run.recomputed]
        live = [s for s in self.recompute.scopes if any(n.id in meaning.live for n in s.nodes())]
        wanted = [(s.path, self.taken(s, s.parent, meaning) if s in bodies else ()) for s in live]
        rows = []
        for series in self.recompute.series:
            gives = [*([series.given] if series.given is not None else []), series.outflow]
            results = tuple(meaning.values[t.node][t.index][0].number for t in gives)
            rows.append((self.taken(series, around.get(series.scope.path), meaning), results))
        calls = [(path, given if path in around else ()) for path, given in found]
        if sorted(calls) != sorted(wanted) or sorted(run.in_series) != sorted(rows):
            raise Unproved("recomputes other parts than those chosen")

    def taken(self, part: Part, around: Scope | None, meaning: Meaning) -> tuple[int, ...]:
        """The terms that flow into a part, one by one those that the scope around has gathered."""
        tensors = [p for t in part.inflow() for p in self.recompute.features(self.graph, t, around)]
        return tuple(meaning.values[t.node][t.index][0].number for t in tensors)


def _in_mode(model: Module, training: bool) -> None:
    """What `train` and `eval` do."""
    for module in model.modules():
        module.__dict__["training"] = training


def _is_named(name: str, said: str) -> bool:
    """Whether a Python name corresponds to a name of the spec, and differs from the others."""
    written = re.escape(re.sub(r"\W", "_", said, flags=re.ASCII).strip("_"))
    head = "" if written[:1].isalpha() else r"[a-z]*_*"  # no name begins with a digit
    return re.fullmatch(rf"_*{head}{written}_*\d*", name) is not None


def _in_order_of(found: Sequence[tuple[str, Any]], meaning: Meaning, graph: Graph) -> list[tuple[str, Owner]]:
    """The owners of weights, in the order of the state_dict.

    The layers of a skip (`residual via`) are placed before the body, and may be created after it, as in torchvision's
    files.
    """
    members = meaning.members
    where = {path: i for i, (path, _) in enumerate(found)}
    order: dict[str, tuple[int, ...]] = {path: (i,) for i, path in enumerate(members)}
    for scope in graph.root.scopes():
        for i, member in enumerate(scope.members):
            if isinstance(member, Node) and isinstance(member.origin, Residual) and member.origin.via is not None:
                around = _around(scope.members[:i], member.origin.via.span, member.origin.body.span)
                for apart in (True, False):
                    via, body = (
                        [p for p in paths if p in members and _is_apart(members[p], scope.path) == apart]
                        for paths in around
                    )
                    first, other = (next((where[p] for p in paths if p in where), None) for paths in (via, body))
                    if first is not None and other is not None and first > other:
                        last = max(order[path] for path in body)
                        order.update({path: (*last, n) for n, path in enumerate(_with_scopes(via, body, members))})
    made = in_order(members[path] for path in sorted(members, key=order.__getitem__))
    return [(owner.path, owner) for owner in made]


def _with_scopes(via: Sequence[str], body: Sequence[str], members: Iterable[str]) -> list[str]:
    """The paths of a skip, and before them the marks of the scopes that it has for itself."""
    marks = [path.removesuffix(MARK) for path in members if path.endswith(MARK)]
    own = [m for m in marks if any(p.startswith(m) for p in via) and not any(p.startswith(m) for p in body)]
    return [*(mark + MARK for mark in own), *via]


def _is_apart(owner: Owner, scope: str) -> bool:
    """Whether it is no bare parameter of this scope, which comes before all layers."""
    return owner.declared.spec is not None or owner.path.rpartition(".")[0] != scope


def _around(members: Sequence[Node | Scope], via: Span, body: Span) -> tuple[list[str], list[str]]:
    """The paths of the operations of a skip, and of its body: the last ones placed."""
    found: list[list[str]] = []
    rest = len(members)
    for span in (body, via):
        end = rest
        while rest and span.start <= members[rest - 1].span.start and members[rest - 1].span.end <= span.end:
            rest -= 1
        inside = members[rest:end]
        found.append([n.path for m in inside for n in ([m] if isinstance(m, Node) else m.nodes())])
    return found[1], found[0]


def _owners(model: Module) -> Iterator[tuple[str, Layer | ModuleWeight]]:
    """The layers and bare parameters of a model with their paths, in the order of the state_dict."""
    stack: list[tuple[str, Module]] = [("", model)]
    while stack:
        path, module = stack.pop()
        if isinstance(module, Layer):
            if module.spec.parts:
                yield path, module
            continue
        prefix = f"{path}." if path else ""
        for name, weight in (*module._parameters.items(), *module._buffers.items()):
            yield prefix + name, weight
        stack.extend([(prefix + name, member) for name, member in reversed(module._modules.items())])


def _same_weights(wanted: list[Weight], path: str, made: Layer | ModuleWeight) -> None:
    """Compares the weights of an owner with those declared. Raises Unproved."""
    if isinstance(made, Layer):
        members: list[tuple[str, ModuleWeight]] = [*made._parameters.items(), *made._buffers.items()]
        given = [(f"{path}.{name}", weight) for name, weight in members]
    else:
        given = [(path, made)]
    found = []
    for key, weight in given:
        if not weight.placed:
            raise Unproved(f"makes `{key}` without device and dtype")
        buffer = isinstance(weight, Buffer)
        found.append(Weight(key, weight.sizes, weight.trainable and not buffer, buffer, weight.start))
    for ours, theirs in zip_longest(wanted, found):
        if ours != theirs:
            raise Unproved(f"has {_shown(theirs)} where the network has {_shown(ours)}")


def _shown(weight: Weight | None) -> str:
    if weight is None:
        return "no such weight"
    frozen = "" if weight.trainable or weight.buffer else ", frozen"
    start = f", started by {weight.start}" if weight.start is not None else ""
    return f"the weight `{weight.key}` {list(weight.shape)}{frozen}{start}"


def _line(error: BaseException) -> str:
    trace = error.__traceback__
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""
