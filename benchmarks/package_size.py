"""`python benchmarks/package_size.py`: the size of the package in figures, as ARCHITECTURE.md prints them.

Printed are the number of modules, the lines of code per comment line, and the share of private functions that their
file names once. Lines of docstrings, and comments for tools, are not counted.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent / "zarr_s3_async"
_NEWER = {"streams", "loader", "adapters", "metrics", "fastapi.py", "blocking.py"}
"""Parts that the aim for the number of modules leaves out."""
_FOR_TOOLS = ("noqa", "type: ignore", "pragma", "fmt:")
_NO_CODE = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines(source: str, tree: ast.Module) -> tuple[int, int]:
    """The numbers of comment lines and of code lines."""
    texts = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    comments, code = set[int](), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if not any(word in token.string for word in _FOR_TOOLS):
                comments.add(token.start[0])
        elif token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(comments), len(code - texts)


def functions(tree: ast.Module) -> tuple[int, int]:
    """The numbers of private functions that are named once in their file, and of all functions."""
    names = Counter[str]()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names[node.id] += 1
        elif isinstance(node, ast.Attribute):
            names[node.attr] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.name)
    once = sum(name.startswith("_") and not name.startswith("__") and names[name] == 1 for name in found)
    return once, len(found)


def main() -> None:
    """Print the figures."""
    paths = [path for path in sorted(_PACKAGE.rglob("*.py")) if path.relative_to(_PACKAGE).parts[0] != "testing"]
    modules = sum(path.relative_to(_PACKAGE).parts[0] not in _NEWER for path in paths)
    totals = Counter[str]()
    for path in paths:
        source = path.read_text()
        tree = ast.parse(source)
        comments, code = lines(source, tree)
        once, all_functions = functions(tree)
        totals.update(comments=comments, code=code, once=once, functions=all_functions)
    print(f"modules without the newer parts: {modules}")
    print(f"comment lines to code lines: 1 to {totals['code'] / totals['comments']:.1f}")
    print(f"private functions named once in their file: {totals['once'] / totals['functions']:.1%}")


if __name__ == "__main__":
    main()
