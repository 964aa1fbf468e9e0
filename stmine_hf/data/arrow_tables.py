"""Parquet, Feather and Arrow files as `datasets` reads them, also of types that it does not know.

pandas writes categories as dictionaries, polars texts as views; both write texts and bytes with long offsets, an image
as a struct of bytes and path, and a column without any value as null. Here every type becomes its plain form, batch by
batch, so that the memory stays bounded and the table is mapped from the cache as any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import table_cast

from .errors import DataFolderError
from .tables import arrow_batches, arrow_schema

ARROW = (".parquet", ".feather", ".arrow")


@dataclass
class ArrowTablesConfig(datasets.BuilderConfig):
    """Options.

    Args:
        files: of each split.
        stamps: sizes and times of the files, so that the cache follows them.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    stamps: str = ""


class ArrowTables(datasets.ArrowBasedBuilder):
    """Reads the files of a set of one's own."""

    BUILDER_CONFIG_CLASS = ArrowTablesConfig

    def _info(self) -> datasets.DatasetInfo:
        schemas = [arrow_schema(Path(file)) for files in self.config.files.values() for file in files]
        features = features_of(schemas[0])
        for file, schema in zip((f for files in self.config.files.values() for f in files), schemas, strict=True):
            if set(schema.names) != set(features):
                raise DataFolderError(
                    f"{file}: columns {', '.join(schema.names)}, but others have {', '.join(features)}"
                )
        return datasets.DatasetInfo(features=features)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": files})
            for split, files in self.config.files.items()
        ]

    def _generate_tables(self, files: list[str]) -> Iterator[tuple[str, pa.Table]]:
        schema = self.info.features.arrow_schema
        for file in files:
            for number, batch in enumerate(arrow_batches(Path(file))):
                columns = {name: plain_array(batch.column(name)) for name in schema.names}
                yield f"{file} {number}", table_cast(pa.table(columns), schema)


def is_plain(file: Path) -> bool:
    """Whether `datasets` knows all types of a file."""
    return all(plain_type(one.type) == one.type for one in arrow_schema(file))


def features_of(schema: pa.Schema) -> datasets.Features:
    """The features of a schema: those that `datasets` wrote into it, or those of its plain types.

    Raises:
        DataFolderError: a type that nothing can be made of.
    """
    plain = pa.schema([pa.field(one.name, plain_type(one.type)) for one in schema], metadata=schema.metadata)
    try:
        features = datasets.Features.from_arrow_schema(plain)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise DataFolderError(f"a type of column that cannot be read: {error}") from None
    for name, feature in features.items():
        if isinstance(feature, dict) and set(feature) == {"bytes", "path"}:
            features[name] = datasets.Image()
    return features


def plain_type(kind: pa.DataType) -> pa.DataType:
    """A type without dictionaries, views and long offsets."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, plain_type(one.type)) for one in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def plain_array(array: pa.Array) -> pa.Array:
    """An array in the plain form of its type."""
    if pa.types.is_dictionary(array.type):
        return plain_array(array.dictionary_decode())
    kind = plain_type(array.type)
    if kind == array.type:
        return array
    try:
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, NotImplementedError):
        return pa.array(array.to_pylist(), kind)  # of the few casts that Arrow does not have
