"""A party's own columns: of what kind each is, and how it becomes features."""

from typing import Literal

Kind = Literal["number", "category", "boolean", "date", "bag", "text", "key"]
"""Of a column, as `data.types` of party.toml says it. text and key take no part."""
Scale = Literal["standard", "quantile", "log"]
"""Of a column of numbers, as `data.scale` says it."""
