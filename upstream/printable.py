"""Text of unknown origin, as it may be printed; cheap to import."""


def printable(text: object) -> str:
    """``text`` with everything escaped that would steer a terminal or that no encoding can print; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))
