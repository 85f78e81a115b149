"""Lets Bazel 4 build without a network.

It would download these repositories before the first py_test, though all that it takes from them is
its own built-in rules under another name. (Debian packages rules_cc too, but one too new for its
Bazel.) So here they are made of the built-in rules.
"""

_RULES = {
    "rules_cc": (
        "cc",
        ["cc_binary", "cc_library", "cc_test", "cc_toolchain", "cc_toolchain_suite"],
    ),
    "rules_java": ("java", ["java_import", "java_runtime", "java_toolchain"]),
    "rules_python": ("python", ["py_binary", "py_library", "py_test"]),
}

# Named by every test, run by `bazel coverage` only, which does not work here.
_COVERAGE = """
filegroup(
    name = "coverage_report_generator",
    visibility = ["//visibility:public"],
)
"""

def _write_files(repository):
    for path, text in repository.attr.files.items():
        repository.file(path, text)

_repository = repository_rule(_write_files, attrs = {"files": attr.string_dict()})

def native_rules_repositories():
    """Declares them; to be called in WORKSPACE."""
    for name, (package, rules) in _RULES.items():
        definitions = ["{0} = native.{0}".format(rule) for rule in rules]
        _repository(
            name = name,
            files = {
                package + "/BUILD": "",
                package + "/defs.bzl": "\n".join(definitions),
            },
        )
    _repository(name = "remote_coverage_tools", files = {"BUILD": _COVERAGE})
