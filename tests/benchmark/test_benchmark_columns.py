"""How the tables write numbers."""

import pytest
from s3prl_attention.benchmark.columns import count, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.01142, "0.0114"),
        (0.457, "0.457"),
        (61.23, "61.2"),
        (1234.4, "1234"),
        (2e-5, "0.0000200"),
    ],
)
def test_three_digits_without_exponent(value: float | None, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (999, "999"), (12_345, "12.3k"), (85e6, "85.0M"), (1.2e9, "1.20G")]
)
def test_counts(value: int | None, text: str):
    assert count(value) == text
