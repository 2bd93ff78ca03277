#!/usr/bin/env python3
"""Counts the names that the standard library's modules use. What `make bench` runs of Python: analyse.py MODULES."""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from pathlib import Path


def names_of(tree: ast.AST) -> Counter[str]:
    return Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def analyse(paths: list[Path]) -> dict[str, Counter[str]]:
    """The trees stay until the end, as a linter keeps them."""
    trees = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    return {module: names_of(tree) for module, tree in trees.items()}


def main() -> None:
    folder = Path(ast.__file__).parent
    names = json.loads(json.dumps(analyse(sorted(folder.glob("*.py"))[:int(sys.argv[1])])))
    total: Counter[str] = Counter()
    for counts in names.values():
        total.update(counts)
    print(len(names), total.most_common(3))


if __name__ == "__main__":
    main()
