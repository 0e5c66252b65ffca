"""Shows the first rows of feature tables of the same records, and how far their embeddings differ.

python examples/compare.py TABLE TABLE
"""

from __future__ import annotations

import sys

import numpy as np

import beamhub


def main(first: str, second: str) -> None:
    """Prints both tables' first rows and the largest difference; fails where it is above 1e-5."""
    tables = [beamhub.open(first), beamhub.open(second)]
    for table in tables:
        print(f"\n{table.path}: {table.rows:,} rows")
        for row in table.to_table().slice(0, 3).to_pylist():
            vector = ", ".join(f"{value:+.4f}" for value in row["embedding"][:4])
            print(f"  {row['key']}  label {row['label']}  embedding [{vector}, ...] ({len(row['embedding'])})")
    one, other = (table.to_numpy("embedding") for table in tables)
    difference = float(np.abs(one - other).max())
    print(f"\nlargest difference between the two tables: {difference:.2e}")
    if difference > 1e-5:
        sys.exit("the tables differ")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
