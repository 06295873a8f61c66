"""The comparison with s3prl's own encoder runs, and an encoder that fails does not end it."""

import pytest
from s3prl_attention.benchmark import speed

TINY = [
    "--hidden-dim",
    "32",
    "--num-heads",
    "8",
    "--num-layers",
    "1",
    "--batch",
    "1",
    "--frames",
    "20",
    "--rounds",
    "1",
]


def tables(text: str) -> dict[str, dict[str, str]]:
    """Phase -> encoder -> the rest of its line."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines()[2:]:
        name, rest = line[:28].strip(), line[28:].strip()
        if name in speed.PHASES:
            phase = found[name] = {}
        elif name:
            phase[name] = rest
    return found


def test_all_encoders_are_timed_in_both_phases(capsys):
    speed.main([*TINY, "--threads", "1", "--upstream", "fixed_init"])
    found = tables(capsys.readouterr().out)
    assert set(found) == set(speed.PHASES)
    for phase in found.values():
        assert list(phase) == ["self_attention", "fixed_init", speed.MOCKINGJAY, speed.TUNED_MOCKINGJAY]
        assert not [line for line in phase.values() if "failed" in line]
        assert "1.000 (1.000-1.000)" in phase["self_attention"]


def test_no_rounds_are_refused_before_anything_is_built(capsys):
    with pytest.raises(SystemExit, match=r"^error: --rounds must be at least 1, got 0"):
        speed.main([*TINY, "--rounds", "0"])
    assert capsys.readouterr().out == ""


def test_an_unknown_upstream_is_one_line(capsys):
    with pytest.raises(SystemExit, match="error: nonesuch: unknown upstream 'nonesuch'"):
        speed.main([*TINY, "--threads", "1", "--upstream", "nonesuch"])
