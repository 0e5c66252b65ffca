"""`python -m benchmarks.keep`: says that rows measured with earlier code count for the code as it is, and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.results import MEASURED, Results, Settings, all_settings, read


def main() -> None:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.keep", description=__doc__)
    parse.add_argument("--measured", type=Path, default=MEASURED, help="where repetitions are kept")
    parse.add_argument("--of", required=True, metavar="SETTINGS", help="their key in results.jsonl")
    parse.add_argument("--rows", required=True, nargs="+", metavar="WORKLOAD:FORMAT")
    parse.add_argument("--but", nargs="*", default=[], metavar="SYSTEM", help="of which they do not count")
    parse.add_argument("--why", required=True, help="why what has changed since cannot have changed their figures")
    args = parse.parse_args()
    path = args.measured / "results.jsonl"
    earlier = all_settings(read(path))
    if args.of not in earlier:
        sys.exit(f"{path} has no settings {args.of}")
    rows = [(name, format) for name, _, format in (row.partition(":") for row in args.rows)]
    found = Results(path, earlier[args.of]).rows()
    lacking = [row for row in rows if row not in found]
    if lacking:
        sys.exit(f"{path} has no rounds of {':'.join(lacking[0])} with settings {args.of}")
    try:
        Results(path, Settings.here()).keep(rows, earlier[args.of], args.why, args.but)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
