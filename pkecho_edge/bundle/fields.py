"""Take the fields of a JSON object one by one, each with its type checked."""

from __future__ import annotations

from pkecho_edge.bundle.strict_json import Json

__all__ = ["Fields"]


class Fields:
    """One JSON object whose keys are all taken exactly once.

    Every method raises ValueError, naming the field, when the key is missing or its value has
    another type. True and False are not numbers.

    Args:
        value: the parsed object.
        where: its name in messages, for example "lineage"; "" for the outermost object.
    """

    def __init__(self, value: Json, where: str = "") -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the document'} must be an object")
        self._left = dict(value)
        self._where = where

    def name(self, key: str) -> str:
        """The field's full name, safe to print."""
        key = ascii(key[:60])[1:-1]
        return f"{self._where}.{key}" if self._where else key

    def take(self, key: str) -> Json:
        """Any value."""
        if key not in self._left:
            raise ValueError(f"{self.name(key)} is missing")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str):
            raise ValueError(f"{self.name(key)} must be text")
        return value

    def optional_text(self, key: str) -> str | None:
        if key in self._left and self._left[key] is None:
            self._left.pop(key)
            return None
        return self.text(key)

    def integer(self, key: str) -> int:
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.name(key)} must be an integer")
        return value

    def number(self, key: str) -> float:
        value = self.take(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{self.name(key)} must be a number")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.take(key)
        if not isinstance(value, bool):
            raise ValueError(f"{self.name(key)} must be true or false")
        return value

    def array(self, key: str) -> list[Json]:
        value = self.take(key)
        if not isinstance(value, list):
            raise ValueError(f"{self.name(key)} must be an array")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.array(key)
        texts = tuple(value for value in values if isinstance(value, str))
        if len(texts) != len(values):
            raise ValueError(f"{self.name(key)} must be an array of text")
        return texts

    def integers(self, key: str) -> tuple[int, ...]:
        values = self.array(key)
        integers = tuple(v for v in values if isinstance(v, int) and not isinstance(v, bool))
        if len(integers) != len(values):
            raise ValueError(f"{self.name(key)} must be an array of integers")
        return integers

    def mapping(self, key: str) -> dict[str, Json]:
        value = self.take(key)
        if not isinstance(value, dict):
            raise ValueError(f"{self.name(key)} must be an object")
        return value

    def text_map(self, key: str) -> dict[str, str]:
        values = self.mapping(key)
        texts = {name: value for name, value in values.items() if isinstance(value, str)}
        if len(texts) != len(values):
            raise ValueError(f"{self.name(key)} must map text to text")
        return texts

    def object(self, key: str) -> Fields:
        return Fields(self.take(key), self.name(key))

    def objects(self, key: str) -> list[Fields]:
        where = self.name(key)
        return [Fields(value, f"{where}[{i}]") for i, value in enumerate(self.array(key))]

    def done(self) -> None:
        """Refuse keys that nobody took: a reader that skips them may miss what they mean."""
        if self._left:
            raise ValueError(f"{self.name(min(self._left))} is not a known key")
