#!/usr/bin/env python3
"""Writes tests/data/tables: small Parquet files, and the same rows as lines of JSON.

usage: make_parquet_samples.py    (needs pyarrow; run it from the root of the source)

Every file has the rows of rows.jsonl. They differ in compression, version of data pages, number of
row groups and use of dictionaries. chat.parquet is nested deeper, and values.parquet has a column of
every type that lewis turns into JSON.
"""
import datetime
import decimal
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path("tests/data/tables")


def rows():
    words = ["naïve", "two\nlines", 'a "quote"', "日本語", ""]
    for i in range(40):
        yield {
            "question": f"What is {i} + {i}? {words[i % 5]}",
            "answer": None if i % 7 == 3 else f"It is {2 * i}.\n#### {2 * i}",
            "source": "a source that a dictionary holds once",
            "tags": None if i % 5 == 4 else [f"t{k}" for k in range(i % 4)],
            "messages": [
                {"role": "user", "content": f"{i}?"},
                {"role": "assistant", "content": None if i % 6 == 5 else words[i % 5]},
            ],
        }


SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("answer", pa.string()),
        ("source", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ]
)


def write_json(name, values):
    with open(FOLDER / name, "w", encoding="utf-8") as out:
        for value in values:
            out.write(json.dumps(value, ensure_ascii=False) + "\n")


def values_table():
    day = datetime.date(2024, 2, 29)
    return pa.table(
        {
            "bool": pa.array([True, None, False]),
            "int8": pa.array([-128, None, 127], pa.int8()),
            "uint64": pa.array([0, None, 2**64 - 1], pa.uint64()),
            "int64": pa.array([-(2**63), None, 2**63 - 1], pa.int64()),
            "float": pa.array([0.1, None, float("nan")], pa.float32()),
            "double": pa.array([1e300, None, float("inf")], pa.float64()),
            "large": pa.array(["text", None, ""], pa.large_string()),
            "binary": pa.array([b"text", None, b"\xff\x00"], pa.binary()),
            "date": pa.array([day, None, day], pa.date32()),
            "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")]),
            "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
            "struct": pa.array([{"a": {"b": [1, 2]}}, None, {"a": None}]),
        }
    )


VALUES = [
    {"bool": True, "int8": -128, "uint64": 0, "int64": -(2**63), "float": 0.1, "double": 1e300,
     "large": "text", "binary": "text", "date": "2024-02-29", "decimal": "1.50", "map": {"k": 1},
     "struct": {"a": {"b": [1, 2]}}},
    {name: None for name in values_table().column_names},
    {"bool": False, "int8": 127, "uint64": 2**64 - 1, "int64": 2**63 - 1, "float": None,
     "double": None, "large": "", "binary": None, "date": "2024-02-29", "decimal": "-2.25",
     "map": {}, "struct": {"a": None}},
]


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    all_rows = list(rows())
    table = pa.Table.from_pylist(all_rows, SCHEMA)
    write_json("rows.jsonl", all_rows)
    for codec in ["none", "snappy", "gzip", "zstd", "lz4"]:
        for version in ["1.0", "2.0"]:
            pq.write_table(table, FOLDER / f"{codec}_v{version[0]}.parquet", compression=codec,
                           data_page_version=version, row_group_size=16)
    pq.write_table(table, FOLDER / "plain_pages.parquet", use_dictionary=False,
                   data_page_size=200, row_group_size=7)
    pq.write_table(table, FOLDER / "delta.parquet", use_dictionary=False, version="2.6",
                   column_encoding={"question": "DELTA_BYTE_ARRAY",
                                    "source": "DELTA_LENGTH_BYTE_ARRAY"})
    pq.write_table(table.slice(0, 0), FOLDER / "empty.parquet")
    pq.write_table(values_table(), FOLDER / "values.parquet")
    write_json("values.jsonl", VALUES)
    for path in FOLDER.glob("*.parquet"):
        if path.name not in ("empty.parquet", "values.parquet"):
            assert pq.read_table(path).to_pylist() == all_rows, path


if __name__ == "__main__":
    main()
