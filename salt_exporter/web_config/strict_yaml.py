"""YAML in which no key stands twice. Loaded only where there is a file: most exporters have none, and all are small."""

from __future__ import annotations

from typing import Any

import yaml


def load(text: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """Return the content of a text. Raises ValueError."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:  # the latter: deep nesting
        raise ValueError(str(error)) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: which of the two protects the exporter is not to be guessed."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        names = set()
        for key in (key for key, _value in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in names:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep=deep)
