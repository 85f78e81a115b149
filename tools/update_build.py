"""Writes BUILD from what the Python files import: python tools/update_build.py.

One file is one target. Its deps are the files of this repository that it imports, at the top or
inside a function; its data, outside of the package, the files that it names in a string of their
own because it starts them. Imports made up at run time are not seen.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = "rnn_codec"
# Besides the files at the top. Named, because environments and runs lie in the clone too.
FOLDERS = ("benchmarks", "examples", "fuzz", PACKAGE, "tests", "tools")
NO_TARGETS = ("setup.py",)  # pip's

# What no import tells: the data of a target, by its name; every test has :test_files.
DATA = {
    "presets": [":weights"],
    "evaluation_report": [":page"],
    "build_test": [":sources"],
}

HEADER = """\
# Written by tools/update_build.py from the imports; tests/build_test.py fails while it differs.
#
# A module of rnn_codec/ has its own name, :codec; one of a folder below that of the folder too,
# :commands_train. A main is a py_binary, :train or :benchmarks_demo, a test a py_test, :codec_test.
#
# :rnn_codec is the package's __init__.py: for those who `import rnn_codec` or take a name of its
# own from it. No module depends on it, though Python runs it before any of them: it imports modules
# itself, so that would be a cycle. For those who import only modules it is not there, and
# rnn_codec is a package without contents (Bazel's legacy_create_init, or a namespace package);
# they see no difference, and their deps stay the ones that they name.
#
# Packages of others (Keras, NumPy, absl, ...) come from the python3 on the PATH, as setup.py
# installs them. So there is one list of them, and a build downloads nothing.

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

package(default_visibility = ["//visibility:public"])

filegroup(
    name = "weights",
    srcs = glob(
        ["rnn_codec/weights/**"],
        allow_empty = True,
    ),
)

filegroup(
    name = "page",
    srcs = ["rnn_codec/evaluation/page.html"],
)

# What tests read.
filegroup(
    name = "test_files",
    srcs = glob(
        [
            "*.md",
            "*.toml",
            "*.txt",
            "docs/**",
            "tests/**",
        ],
        allow_empty = True,
        exclude = [
            "tests/**/*.py",
            "tests/**/*.pyc",
        ],
    ),
)

# What tests/build_test.py compares.
filegroup(
    name = "sources",
    srcs = ["BUILD"] + glob(
        {python_files},
        allow_empty = True,
    ),
)
"""


def generate(root):
    """The text of BUILD for the tree under a folder.

    Raises:
        ValueError: two files claim one name.
    """
    paths = _python_files(root)
    names = {}
    for path in paths:
        other = names.setdefault(_target_name(path), path)
        if other != path:
            raise ValueError(f"expected one target a name, received {other} and {path}; rename one")
    modules = {_module_name(path): _target_name(path) for path in paths}
    targets = [_target(root, path, modules) for path in paths]
    python_files = ["*.py", *(f"{folder}/**/*.py" for folder in FOLDERS)]
    header = HEADER.replace("{python_files}", _list(python_files, "        "))
    return "\n".join([header, *sorted(targets)])


def _python_files(root):
    """All paths from the root that become targets."""
    files = list(root.glob("*.py"))
    for folder in FOLDERS:
        files.extend((root / folder).rglob("*.py"))
    paths = [file.relative_to(root) for file in files]
    # Outside of the package there are folders, not packages; Bazel puts an __init__.py there.
    return sorted(
        path
        for path in paths
        if path.name not in NO_TARGETS and (path.parts[0] == PACKAGE or path.stem != "__init__")
    )


def _module_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _target_name(path):
    parts = _module_name(path).split(".")
    if len(parts) > 1 and parts[0] in (PACKAGE, "tests"):
        parts = parts[1:]
    return "_".join(parts)


def _target(root, path, modules):
    """The rule for one file."""
    text = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    name = _target_name(path)
    in_package = path.parts[0] == PACKAGE
    if path.parts[0] == "tests" and path.stem.endswith("_test"):
        rule = "py_test"
    elif not in_package and re.search('^if __name__ == "__main__":', text, re.MULTILINE):
        rule = "py_binary"
    else:
        rule = "py_library"
    deps = {f":{imported}" for imported in _imported(tree, path, modules)}
    data = set(DATA.get(name, ()))
    if rule == "py_test":
        data.add(":test_files")
    if not in_package:
        data.update(f":{started}" for started in _started(tree, modules))

    lines = [f'name = "{name}"', f'srcs = ["{path.as_posix()}"]']
    if rule != "py_library" and path.name != f"{name}.py":
        lines.append(f'main = "{path.as_posix()}"')
    for attribute, labels in (("data", data), ("deps", deps)):
        if labels := sorted(labels - {f":{name}"}):
            lines.append(f"{attribute} = {_list(labels, '    ')}")
    return f"{rule}(\n" + "".join(f"    {line},\n" for line in lines) + ")\n"


def _imported(tree, path, modules):
    """Names of the targets that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [[alias.name] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = path.parts[: len(path.parts) - node.level] if node.level else ()
            origin = ".".join([*parts, *filter(None, [node.module])])
            # What is imported is a module of that name, or else a name that the module defines.
            candidates = [[f"{origin}.{alias.name}", origin] for alias in node.names]
        else:
            continue
        for dotted_names in candidates:
            if path.parts[0] != PACKAGE:  # a script finds what lies beside it
                beside = [".".join([*path.parts[:-1], name]) for name in dotted_names]
                dotted_names = beside + dotted_names
            found = [modules[name] for name in dotted_names if name in modules]
            yield from found[:1]


def _started(tree, modules):
    """Names of the targets that a file names: scripts by path, modules for python -m by dots."""
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for module, target in modules.items():
        in_package = module.startswith(f"{PACKAGE}.")
        if (module if in_package else module.replace(".", "/") + ".py") in strings:
            yield target


def _list(items, indentation):
    if len(items) == 1:
        return f'["{items[0]}"]'
    return "[\n" + "".join(f'{indentation}    "{item}",\n' for item in items) + f"{indentation}]"


if __name__ == "__main__":
    (ROOT / "BUILD").write_text(generate(ROOT), encoding="utf-8")
