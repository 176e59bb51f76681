"""Arithmetic without `eval`: a syntax tree of numbers and operators, and nothing else, is worked out.

Guarantees: no name, call or attribute is ever evaluated, and no result is larger than `RESULT_BITS`, so that
`9**9**9` is refused in no time.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, Final

EXPRESSION_CHARACTERS: Final = 500
RESULT_BITS: Final = 4096

Number = int | float

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


class NotArithmetic(Exception):
    """This is not arithmetic that can be worked out; the message says why."""


def evaluate(expression: str) -> str:
    """The value as text; raises NotArithmetic in plain words."""
    if len(expression) > EXPRESSION_CHARACTERS:
        raise NotArithmetic(f"The expression is longer than {EXPRESSION_CHARACTERS} characters.")
    try:
        return str(_value(ast.parse(expression.strip(), mode="eval").body))
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise NotArithmetic(f"“{expression}” is not arithmetic.") from None
    except ZeroDivisionError:
        raise NotArithmetic("Division by zero has no answer.") from None
    except OverflowError:
        raise NotArithmetic("The result is too large.") from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=bool()):
            raise NotArithmetic("Only numbers can be calculated with.")
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _number(_UNARY[type(op)](_value(operand)))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _binary(op, _value(left), _value(right))
    raise NotArithmetic("Only numbers, + - * / // % ** and parentheses can be calculated with.")


def _binary(op: ast.operator, left: Number, right: Number) -> Number:
    if isinstance(op, ast.Pow) and isinstance(left, int) and left.bit_length() * abs(right) > RESULT_BITS:
        raise NotArithmetic("The result is too large.")
    return _number(_BINARY[type(op)](left, right))


def _number(value: object) -> Number:
    if isinstance(value, int) and value.bit_length() > RESULT_BITS:
        raise NotArithmetic("The result is too large.")
    if not isinstance(value, int | float):
        raise NotArithmetic("The result is not a real number.")
    return value
