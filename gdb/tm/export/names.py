"""names.py: what the exports call a frame."""

from __future__ import annotations

from ..model import RawFrame, wide

_REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """The text in one line of valid UTF-8; what cannot be in it, as bytes of another encoding, becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _REPLACEMENT for character in text)


def label(raw: RawFrame) -> str:
    """A frame in short: its function, else its place, `libc.so.6(+0x2a1f0)` or `a.c:12`."""
    filename, lineno, function, _, _ = wide(raw)
    return printable(function or (f"{filename}:{lineno}" if lineno else filename))
