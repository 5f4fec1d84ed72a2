"""What is written for readers is what is there."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import snowskin
from snowskin import _snowskin

STUB = ast.parse((Path(snowskin.__file__).parent / "_snowskin.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef) and hasattr(_snowskin, node.name)}


def methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    """The last of each name: of overloads, the one with the words."""
    return {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}


@pytest.mark.parametrize("name", CLASSES)
def test_the_stub_has_what_the_module_has(name: str) -> None:
    there = {attribute for attribute in vars(getattr(_snowskin, name)) if not attribute.startswith("_")}
    assert there == {method for method in methods(CLASSES[name]) if not method.startswith("_")}


def test_the_words_of_the_stub_are_those_of_the_module() -> None:
    for described in (snowskin.Store, snowskin.Engine):
        node = CLASSES[described.__name__]
        assert inspect.getdoc(described) == ast.get_docstring(node)
        for name, method in methods(node).items():
            words = ast.get_docstring(method)
            assert words or name.startswith("_"), f"{name} is not documented"
            assert not words or inspect.getdoc(getattr(described, name)) == words, name


def test_parameters_are_those_of_the_module() -> None:
    for name in ("get", "get_into", "get_to", "lookup", "match_prefix", "remove", "remove_matching", "register"):
        arguments = methods(CLASSES["Store"])[name].args
        stub = [argument.arg for argument in [*arguments.args, *arguments.kwonlyargs]]
        assert list(inspect.signature(getattr(snowskin.Store, name)).parameters) == stub, name


@pytest.mark.parametrize("name", snowskin.__all__)
def test_everything_public_is_documented(name: str) -> None:
    assert name.startswith("__") or inspect.getdoc(getattr(snowskin, name))


def test_the_asynchronous_store_has_the_verbs_of_the_blocking_one() -> None:
    not_for_loops = {"put_from", "get_to", "register", "unregister", "closed"}
    verbs = {name for name in vars(snowskin.Store) if not name.startswith("_")} - not_for_loops
    assert verbs <= set(vars(snowskin.AsyncStore)), verbs - set(vars(snowskin.AsyncStore))
