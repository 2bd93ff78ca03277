"""domains.py: how people call domains: by number, or by the name that the program gave one (tm_domain_name).

A snapshot keeps the names in info["domains"], numbers as text: {"3": "textures"}.
"""

from __future__ import annotations

from typing import Any, Mapping

HEAP = "heap"  # domain 0, unless the program names it otherwise


def names_in(info: Mapping[str, Any]) -> dict[int, str]:
    """The names in a snapshot's info, which may come from anybody's file."""
    names = info.get("domains")
    if not isinstance(names, dict):
        return {}
    return {int(number): _printable(name) for number, name in names.items()
            if number.isascii() and number.isdigit() and isinstance(name, str)}


def as_info(names: Mapping[int, str]) -> dict[str, str]:
    """What names_in reads."""
    return {str(number): name for number, name in names.items()}


def shown(domain: int, names: Mapping[int, str]) -> str:
    """`textures (domain 3)`, or `domain 3` without a name."""
    name = names.get(domain) or (HEAP if domain == 0 else "")
    return f"{_printable(name)} (domain {domain})" if name else f"domain {domain}"


def number_of(word: str, names: Mapping[int, str]) -> int | None:
    """The domain that a number or a name means; None for an unknown name."""
    if word.isascii() and word.isdigit():
        return int(word)
    named = [domain for domain, name in names.items() if _printable(name) == word]
    return named[0] if named else 0 if word == HEAP and 0 not in names else None


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name)
