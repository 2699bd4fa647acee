"""The tests that `pytest -m quick` runs: some of every part, in half a minute of one core's time.

A test that takes a second or more is not one of them. Most files run whole, so a new test of theirs is quick without
an entry here.
"""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
EVERY = ("test_",)

QUICK: dict[str, tuple[str, ...]] = {
    "advice/test_trial.py": EVERY,
    "analysis/test_costs.py": EVERY,
    "backends/diagram/test_diagram.py": ("test_depth", "test_merges", "test_themes", "test_identity", "test_tikz"),
    "backends/torch_source/test_differential.py": ("test_names_that", "test_networks", "test_random_networks[0]"),
    "backends/torch_source/test_generated.py": (
        *("test_golden", "test_odd", "test_one_class", "test_outputs", "test_documentation", "test_activations"),
    ),
    "backends/torch_source/test_size_checks.py": EVERY,
    "checker/test_lints.py": EVERY,
    "checker/test_valid_sizes.py": ("test_not_all", "test_choices", "test_sizes_of", "test_an_output"),
    "cli/test_findings.py": EVERY,
    "cli/test_cli.py": (
        *("test_check", "test_show_is", "test_draw", "test_build_writes", "test_exit", "test_usage", "test_help"),
    ),
    "diagnostics/test_codes.py": ("test_every", "test_example", "test_explain"),
    "diagnostics/test_errors.py": EVERY,
    "dims/test_dims.py": EVERY,
    "elaborate/test_language.py": EVERY,
    "elaborate/test_paths.py": EVERY,
    "formatting/test_formatting.py": ("test_style", "test_odd", "test_syntax", "test_lines"),
    "graph/test_verifying.py": EVERY,
    "language_server/test_protocol.py": ("test_a_mistake", "test_sizes", "test_hover", "test_definitions"),
    "ops/test_messages.py": EVERY,
    "ops/test_sweep.py": ("test_has_what", "test_sizes_and_weights", "test_macs"),
    "planning/test_schedules.py": EVERY,
    "planning/test_stages.py": ("test_relays", "test_too_few", "test_wrong", "test_files"),
    "proof/test_proof.py": ("test_networks", "test_wrong", "test_what"),
    "report/test_compare.py": EVERY,
    "report/test_explain.py": EVERY,
    "report/test_summary.py": EVERY,
    "runtime/test_load.py": EVERY,
    "runtime/test_weights.py": EVERY,
    "syntax/test_highlighting.py": ("test_words", "test_texts", "test_formatters"),
    "syntax/test_parser.py": (
        *("test_tables", "test_value", "test_statement", "test_declaration", "test_text", "test_spans"),
    ),
    "test_docs.py": EVERY,
    "test_imports.py": ("test_imports", "test_every", "test_backends"),
    "test_quick.py": EVERY,
    "test_random_specs.py": ("test_what_is_built_wrong", "test_what_is_not"),
    "transform/test_inference.py": ("test_which", "test_members"),
    "transform/test_recompute.py": ("test_dense", "test_nothing"),
}
"""How the names of the quick tests of a file begin."""


@cache  # each test asks, and a file has many
def quick_names(path: Path) -> tuple[str, ...]:
    """How the names of the quick tests of a file begin, none if it has none."""
    return QUICK.get(path.relative_to(FOLDER).as_posix(), ()) if path.is_relative_to(FOLDER) else ()
