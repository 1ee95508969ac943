#!/usr/bin/env python3
"""Cuts the sample in data/ out of the full WordNet set.

    python3 -m venv venv && venv/bin/pip install pyarrow numpy
    venv/bin/python scripts/make-sample.py ROWS.parquet QUERIES.parquet OUTPUT_DIR

ROWS is the 100,000-row file, QUERIES the 1,000-query file. The cut is deterministic: the first
100 queries whose own row (`gloss_id`) is among ROWS are kept, their rows are kept, and the
sample is filled up to 5,000 with the first other rows, all in the order of the file (which is
shuffled). `neighbours` and `cosine` are recomputed against those 5,000 rows, exactly: float32
arithmetic on the half-float vectors, ties by id.
"""

import argparse
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 5_000
QUERIES = 100
NEIGHBOURS = 100


def matrix(table: pa.Table) -> np.ndarray:
    """The `vector` column as a float32 matrix with rows of unit length."""
    column = table["vector"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = flat.reshape(len(column), column.type.list_size)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cut_rows(rows: pa.Table, wanted: set[str]) -> pa.Table:
    """`wanted` and the first other rows, in file order."""
    ids = rows["id"].to_pylist()
    others = ROWS - sum(1 for row_id in ids if row_id in wanted)
    keep = []
    for position, row_id in enumerate(ids):
        if row_id in wanted:
            keep.append(position)
        elif others > 0:
            keep.append(position)
            others -= 1
    return rows.take(keep)


def cut_queries(queries: pa.Table, known: set[str]) -> pa.Table:
    """The first queries whose own row is known."""
    keep = [i for i, row in enumerate(queries["gloss_id"].to_pylist()) if row in known]
    return queries.take(keep[:QUERIES])


def with_neighbours(queries: pa.Table, rows: pa.Table) -> pa.Table:
    """Replaces the ground truth by that of `rows`."""
    ids = np.array(rows["id"].to_pylist())
    by_id = np.argsort(ids)  # a stable sort by score then breaks ties by id
    scores = matrix(queries) @ matrix(rows)[by_id].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]
    neighbours = [ids[by_id][row].tolist() for row in order]
    cosine = np.take_along_axis(scores, order, axis=1).tolist()
    for name, values, item in (
        ("neighbours", neighbours, pa.string()),
        ("cosine", cosine, pa.float32()),
    ):
        at = queries.schema.get_field_index(name)
        queries = queries.set_column(at, name, pa.array(values, pa.list_(item)))
    return queries


def write(table: pa.Table, path: pathlib.Path) -> None:
    """Vectors do not compress: only the other columns are worth a dictionary."""
    small = [name for name in ("pos", "lexname") if name in table.column_names]
    pq.write_table(
        table.combine_chunks(), path, compression="zstd", compression_level=19, use_dictionary=small
    )
    print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("queries", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()

    rows = pq.read_table(args.rows)
    queries = cut_queries(pq.read_table(args.queries), set(rows["id"].to_pylist()))
    sample = cut_rows(rows, set(queries["gloss_id"].to_pylist()))
    assert sample.num_rows == ROWS and queries.num_rows == QUERIES
    write(sample, args.output / "wordnet-5k.parquet")
    write(with_neighbours(queries, sample), args.output / "wordnet-queries-100.parquet")


if __name__ == "__main__":
    main()
