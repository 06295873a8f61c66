"""Plain values: dotted keys and equal texts."""

from s3prl_attention.benchmark.plain import flat, text, texts


def test_nested_mappings_become_dotted_keys():
    tree = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": None, "g": {}}
    assert flat(tree) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": None}
    assert texts(tree) == {"a.b.c": "1", "a.d": '[{"e": 2}]', "f": "null"}
    assert flat(None) == {}


def test_equal_values_have_equal_texts():
    assert text({"a": 1, "b": [2]}) == text({"b": [2], "a": 1}) != text({"a": 1, "b": [3]})
