"""Damaged target files: one error that names the file, and the field where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from spikec.compiler import targets
from spikec.compiler.errors import UsageError
from spikec.compiler.targets import load_target

SHIPPED = Path(targets.__file__).with_name("loihi2.toml").read_text(encoding="utf-8")


def with_field(field: str, value: str) -> str:
    """Return a shipped target with another value in one field of its file."""
    lines = SHIPPED.splitlines()
    (place,) = [i for i, line in enumerate(lines) if line.split("=")[0].strip() == field]
    lines[place] = f"{field} = {value}"
    return "\n".join(lines)


DAMAGED = {
    "nested without end": ("x = " + "[" * 5000 + "]" * 5000, "it is not TOML: too deep"),
    "tables without end": ("x = " + "{a=" * 5000 + "1" + "}" * 5000, "it is not TOML: too deep"),
    "many digits": (with_field("graded_bits", "1" * 5000), "it is not TOML"),
    "many hexadecimal digits": (
        with_field("graded_bits", "0x" + "f" * 5000), "graded_bits is an integer of 20000 bits",
    ),
    "a long text": (with_field("graded_bits", f"'{'x' * 5000}'"), "graded_bits is 'xxxx"),
    "a nested number": (
        with_field("graded_bits", "[" * 90 + "1" + "]" * 90), "graded_bits is [[[[",
    ),
    "an infinite cost": (with_field("spike_pj", "[0.0, inf]"), "[costs] spike_pj is [0.0, inf]"),
    "a huge cost": (
        with_field("spike_pj", "[1, 0x" + "f" * 400 + "]"), "[costs] spike_pj is [1, ",
    ),
    "a list of lists": (with_field("spike_pj", "[[1], [2]]"), "spike_pj is [[1], [2]]"),
    "too long": ("#" * (1 << 20) + SHIPPED, "larger than 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_error_about_the_file(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    path = tmp_path / "damaged.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_target(str(path))
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.where) == ("U021", str(path))
    assert message in finding.message
    assert len(finding.message) < 300
