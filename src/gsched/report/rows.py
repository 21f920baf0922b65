"""The rows of a log as a table for pandas, Polars and whatever else reads such files."""

from pathlib import Path
from typing import TYPE_CHECKING

from gsched.files import whole_file
from gsched.log import Log
from gsched.log_files import write_log

if TYPE_CHECKING:
    import pyarrow

TABLES = (".csv", ".parquet", ".arrow", ".feather")


def write_rows(log: Log, path: Path) -> None:
    """Write the rows of a log as the table that the suffix of `path` names, one of `TABLES`.

    A CSV file has the GPUs of a gang as one text, such as `0 1 2`; the others have lists, and the summary in the
    schema's metadata.

    Raises:
        InputError: the file cannot be written.
    """
    if path.suffix == ".parquet":
        write_log(log, path)
        return
    import pyarrow as pa
    import pyarrow.csv

    with whole_file(path) as file:
        table = log.to_arrow()
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(_flat(table), file)
        else:
            with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                writer.write_table(table)


def _flat(table: "pyarrow.Table") -> "pyarrow.Table":
    """Return a table without lists and dictionaries, which CSV does not have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), " ")
        elif pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        columns[name] = column
    return pa.table(columns)
