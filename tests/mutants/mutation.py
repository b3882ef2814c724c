"""Mutants of a Python source: one small change each, in code that runs."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("sign", "comparison", "constant", "boolean", "min/max", "branch")

OPERATORS: dict[type[ast.AST], tuple[str, type[ast.AST]]] = {
    ast.Add: ("sign", ast.Sub),
    ast.Sub: ("sign", ast.Add),
    ast.Mult: ("sign", ast.Div),
    ast.Div: ("sign", ast.Mult),
    ast.FloorDiv: ("sign", ast.Mult),
    ast.Lt: ("comparison", ast.LtE),
    ast.LtE: ("comparison", ast.Lt),
    ast.Gt: ("comparison", ast.GtE),
    ast.GtE: ("comparison", ast.Gt),
    ast.Eq: ("comparison", ast.NotEq),
    ast.NotEq: ("comparison", ast.Eq),
    ast.Is: ("comparison", ast.IsNot),
    ast.IsNot: ("comparison", ast.Is),
    ast.In: ("comparison", ast.NotIn),
    ast.NotIn: ("comparison", ast.In),
    ast.And: ("boolean", ast.Or),
    ast.Or: ("boolean", ast.And),
    ast.BitAnd: ("boolean", ast.BitOr),
    ast.BitOr: ("boolean", ast.BitAnd),
}
DROPPED: dict[type[ast.AST], str] = {ast.USub: "sign", ast.Not: "boolean", ast.Invert: "boolean"}
RENAMED = {"equal": ("comparison", "not_equal")} | {
    f"{arg}{one}{imum}": ("min/max", f"{arg}{other}{imum}")
    for one, other in (("min", "max"), ("max", "min"))
    for arg, imum in (("", ""), ("arg", ""), ("", "imum"))
}
CHOICES = ("where", "cond")  # called with a condition and two branches

# Messages, hints for the type checker, and what only guards against slips: no test need see these.
SKIPPED = (ast.Raise, ast.Assert, ast.JoinedStr)
SKIPPED_FIELDS = ("annotation", "returns", "decorator_list")
SKIPPED_KEYWORDS = ("strict",)


@dataclass(frozen=True)
class Mutant:
    """The expression `before` has become `after`; `source` is the whole module with that change."""

    kind: str
    line: int
    column: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module, from its first line to its last."""
    for node in _running(ast.parse(source)):
        for kind, changed in _changes(node):
            before, after = ast.unparse(node), ast.unparse(changed)
            yield Mutant(
                kind, node.lineno, node.col_offset + 1, before, after, _spliced(source, node, after)
            )


def _running(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """The expressions and statements below `node` that run."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if name in SKIPPED_FIELDS or isinstance(child, SKIPPED):
                continue
            if isinstance(child, ast.keyword) and child.arg in SKIPPED_KEYWORDS:
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child
            if isinstance(child, ast.AST):
                yield from _running(child)


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What `node` itself, not what is below it, may become."""
    match node:
        case ast.Constant(value=bool()):
            yield "boolean", ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", ast.Constant(node.value + 1)
        case ast.IfExp():
            yield "branch", _with(node, body=node.orelse, orelse=node.body)
        case ast.Call():
            yield from _changes_of_call(node)
        case _:
            yield from _changes_of_operator(node)


def _changes_of_operator(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.AugAssign(op=ast.BitOr()):
            return  # merges dictionaries
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            kind, other = OPERATORS[type(node.op)]
            yield kind, _with(node, op=other())
        case ast.UnaryOp() if type(node.op) in DROPPED:
            yield DROPPED[type(node.op)], node.operand
        case ast.Compare():
            for i, op in enumerate(node.ops):
                kind, other = OPERATORS[type(op)]
                yield kind, _with(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def _changes_of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    field = "attr" if isinstance(node.func, ast.Attribute) else "id"
    name = getattr(node.func, field, None)
    if name in RENAMED:
        kind, other = RENAMED[name]
        yield kind, _with(node, func=_with(node.func, **{field: other}))
    if name == "logical_not":
        yield "boolean", node.args[0]
    if name in CHOICES and len(node.args) >= 3:
        condition, one, other, *rest = node.args
        yield "branch", _with(node, args=[condition, other, one, *rest])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _spliced(source: str, node: ast.expr | ast.stmt, text: str) -> str:
    """The source with `text` in the place of `node`; columns are counted in bytes."""
    lines = source.encode().splitlines(keepends=True)
    text = text if isinstance(node, ast.stmt) else f"({text})"
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    encoded = source.encode()
    return (encoded[:start] + text.encode() + encoded[end:]).decode()
