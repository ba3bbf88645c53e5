"""What is not marked otherwise here is run with the faults, or with the security tests: not by default."""

import pytest

SECURITY = (
    "test_advisory_snapshot",
    "test_audit",
    "test_checkpoint_files",
    "test_confinement",
    "test_quoting",
    "test_redaction",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "robustness" and not any(item.iter_markers("faults")):
            item.add_marker(pytest.mark.security if item.path.stem in SECURITY else pytest.mark.faults)
