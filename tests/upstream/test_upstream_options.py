"""Typed options: what is filled in, what is refused, and that all mistakes are told at once."""

from dataclasses import FrozenInstanceError, dataclass, field

import pytest
from s3prl_attention.upstream.options import fields, typed


@dataclass(frozen=True)
class Sample:
    width: int = 4
    rate: float = 0.5
    name: str = "x"
    wide: bool = False
    root: str | None = None
    parts: list[str] = field(default_factory=list)


def test_what_is_left_out_keeps_its_default():
    assert typed(Sample, {}, "here") == Sample()
    assert typed(Sample, {"width": 7, "parts": ["a", "b"]}, "here") == Sample(width=7, parts=["a", "b"])
    assert fields(Sample) == ["width", "rate", "name", "wide", "root", "parts"]


def test_values_keep_their_types():
    made = typed(Sample, {"rate": 1, "root": None, "wide": True}, "here")
    assert isinstance(made, Sample)
    assert type(made.rate) is float
    assert type(made.parts) is list
    assert (made.root, made.wide) == (None, True)
    with pytest.raises(FrozenInstanceError):
        made.width = 3


def test_every_mistake_is_told_at_once():
    with pytest.raises(ValueError) as told:  # noqa: PT011  # every part of the message is checked below
        typed(Sample, {"widht": 3, "rate": "fast", "wide": "perhaps", "width": 2.5, "colour": 1, "name": "y"}, "model")
    message = str(told.value)
    assert message.startswith("model: ")
    for part in (
        "no option 'widht' (did you mean 'width'",
        "no option 'colour' (",
        "rate must be float, got 'fast'",
        "wide must be bool, got 'perhaps'",
        "width must be int, got 2.5",
    ):
        assert part in message
    assert "name" not in message.split("known:")[0]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "many"}, "width must be int, got 'many'"),
        ({"width": None}, "width must be int, got None"),
        ({"width": True}, "width must be int, got True"),
        ({"width": [3]}, "width must be int"),
        ({"rate": None}, "rate must be float, got None"),
        ({"parts": "abc"}, "parts must be list"),
        pytest.param({"parts": {"a": 1}}, "parts must be list"),
        ({"name": {"a": 1}}, "name must be str"),
        ({"root": ["a"]}, "root must be"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        typed(Sample, values, "model")


def test_the_dataclass_has_the_last_word():
    @dataclass(frozen=True)
    class Positive:
        count: int = 1

        def __post_init__(self):
            if self.count < 1:
                raise ValueError(f"count must be at least 1, got {self.count}")

    with pytest.raises(ValueError, match="count must be at least 1, got -1"):
        typed(Positive, {"count": -1}, "model")


@pytest.mark.parametrize("text", ["${home}/speech", "???"])
def test_text_that_omegaconf_would_read_as_its_own_is_refused(text):
    with pytest.raises(ValueError, match="model: name may not hold"):
        typed(Sample, {"name": text}, "model")
