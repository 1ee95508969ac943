#!/usr/bin/env bash
# Shows that a cold object is a plain Parquet table: pyarrow, DuckDB and Polars read the golden
# object and agree on every value. Needs python3 with venv and PyPI; installs nothing outside
# target/. Not part of the ordinary tests, which need nothing but Rust.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/foreign-readers
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check pyarrow duckdb polars pytz
"$venv/bin/python" scripts/foreign_readers.py "${1:-engine/tests/golden/cold_v1.parquet}"
