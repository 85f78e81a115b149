"""The floors of the package: who may import whom. `python tools/house.py` draws them.

A room is a folder of `rnn_codec/`, or a module at its top. A room imports only rooms on floors
below its own, so wings, which share a floor, know nothing of each other. Imports inside functions
count; those for types alone do not. `wings.py` finds the wings by name, which is no import.
"""

import ast
import collections
import graphlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = "rnn_codec"

# From the ground up.
FLOORS = (
    ("errors", "version"),
    ("options",),
    ("configuration", "storage", "targets"),
    ("backend", "container", "layers", "pictures", "wings"),
    ("entropy", "standard"),
    ("frames", "presets"),
    ("loading",),
    ("codec",),
    ("training",),
    ("embedded", "hybrid", "recurrent"),
    ("evaluation", "plugins"),
    ("commands",),
    ("__main__",),
)
WINGS = ("embedded", "hybrid", "recurrent")
# Only they name a wing; all others go by its record.
MAY_NAME_WINGS = WINGS

MOST_LINES = 500


def modules(root):
    """Dotted names below the package, to paths; the package itself is ""."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path, names):
    """Yields the modules of the package that a file imports, as `modules` names them."""
    for node in _runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            if name.split(".")[0] != PACKAGE:
                continue
            below = name.removeprefix(PACKAGE).removeprefix(".")
            # What is imported is a module, or a name that the module before it defines.
            yield below if below in names else below.rpartition(".")[0]


def _runtime_nodes(node):
    """All nodes but those below `if TYPE_CHECKING`."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    for child in ast.iter_child_nodes(node):
        yield from _runtime_nodes(child)


def room_of(module):
    return module.split(".")[0]


def faults(root):
    """What is wrong with the house: a list of lines, empty if all is well."""
    found = modules(root)
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    graph, lines = {}, []
    for module, path in found.items():
        graph[module] = set(imports(path, found)) - {module}
        room = room_of(module)
        if module and room not in floor_of:
            lines.append(f"{room}: has no floor; give it one in tools/house.py")
            continue
        for target in sorted(graph[module]):
            lines += _faults_of_import(module, target, floor_of)
        count = len(path.read_text(encoding="utf-8").splitlines())
        name = path.relative_to(root / PACKAGE).as_posix()
        if count > MOST_LINES:
            lines.append(f"{name}: has {count} lines, above {MOST_LINES}; split it")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        lines.append(f"a circle: {' -> '.join(reversed(error.args[1]))}")
    return sorted(set(lines))


def _faults_of_import(module, target, floor_of):
    room, other = room_of(module), room_of(target)
    if room == other:
        return
    if not target:
        yield f"{module}: imports a name from {PACKAGE} itself; import it from its module"
    elif other in WINGS and room not in MAY_NAME_WINGS:
        yield f"{module}: imports {target}, a wing; go by the wing's record"
    elif module and floor_of.get(other, 0) >= floor_of[room]:
        yield f"{module}: imports {target}, which is on no floor below"


def drawing(root):
    """The house as text: a line for each room, the top floor first, with the rooms it imports."""
    found = modules(root)
    arrows, sizes = collections.defaultdict(collections.Counter), collections.Counter()
    for module, path in found.items():
        sizes[room_of(module)] += 1
        for target in set(imports(path, found)):
            if target and room_of(target) != room_of(module):
                arrows[room_of(module)][room_of(target)] += 1
    lines = []
    for floor in reversed(range(len(FLOORS))):
        lines.append(f"--- floor {floor} " + "-" * 60)
        for room in FLOORS[floor]:
            if room in sizes:
                below = ", ".join(f"{name} {n}" for name, n in sorted(arrows[room].items()))
                files = f"{sizes[room]} file{'s' if sizes[room] > 1 else ''}"
                lines.append(f"{room:<14}{files:>9}  -> {below or 'nothing'}")
    total = sum(sum(counter.values()) for counter in arrows.values())
    longest = max(found.values(), key=lambda path: len(path.read_text().splitlines()))
    lines.append(f"{total} imports between {len(sizes) - 1} rooms")
    lines.append(f"longest file: {longest.relative_to(root / PACKAGE)}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawing(ROOT))
    wrong = faults(ROOT)
    print("\n".join(wrong) or "no circle, no arrow upward, no wing that knows another")
    sys.exit(bool(wrong))
