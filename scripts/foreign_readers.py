"""Reads a cold object with three foreign readers and compares what they see."""

import json
import sys

import duckdb
import polars
import pyarrow.parquet

path = sys.argv[1]
table = pyarrow.parquet.read_table(path)
rows = table.to_pylist()
assert rows, "the object has no rows"
for column in ("id", "id_kind", "vector", "lsn", "metadata"):
    assert column in table.column_names, f"no column {column}"
for row in rows:
    assert isinstance(row["id"], str) and row["lsn"] > 0
    assert all(isinstance(x, float) for x in row["vector"])
    assert isinstance(json.loads(row["metadata"]), dict)

columns = ", ".join(f'"{name}"' for name in table.column_names if name != "vector")
seen = duckdb.sql(f"select {columns} from '{path}'").fetchall()
expected = [tuple(v for k, v in row.items() if k != "vector") for row in rows]
assert len(seen) == len(expected)
assert [row[0] for row in seen] == [row[0] for row in expected], "DuckDB sees other ids"
lengths = duckdb.sql(f"select len(vector) from '{path}'").fetchall()
assert [n for (n,) in lengths] == [len(row["vector"]) for row in rows]

frame = polars.read_parquet(path)
assert frame["id"].to_list() == [row["id"] for row in rows], "Polars sees other ids"
assert frame["vector"].to_list() == [row["vector"] for row in rows]
assert frame["lsn"].to_list() == [row["lsn"] for row in rows]
print(f"{path}: pyarrow, DuckDB and Polars agree on {len(rows)} rows, "
      f"columns {', '.join(table.column_names)}")
