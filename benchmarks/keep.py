"""`python -m benchmarks.keep`: says that rows measured with earlier code count for the code as it is, and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.results import MEASURED, THE_LIMIT, Results, Settings, all_settings, read


def main() -> None:
    parse = argparse.ArgumentParser(prog="python -m benchmarks.keep", description=__doc__)
    parse.add_argument("--measured", type=Path, default=MEASURED, help="where repetitions are kept")
    parse.add_argument("--searches", action="store_true", help="searches for the limit's settings, not rounds")
    parse.add_argument("--of", required=True, metavar="SETTINGS", help="their key in the file")
    parse.add_argument("--rows", required=True, nargs="+", metavar="WORKLOAD:FORMAT")
    parse.add_argument("--but", nargs="*", default=[], metavar="SYSTEM", help="of which they do not count")
    parse.add_argument("--why", required=True, help="why what has changed since cannot have changed their figures")
    args = parse.parse_args()
    path = args.measured / ("search.jsonl" if args.searches else "results.jsonl")
    earlier = all_settings(read(path))
    if args.of not in earlier:
        sys.exit(f"{path} has no settings {args.of}")
    rows = [(name, format) for name, _, format in (row.partition(":") for row in args.rows)]
    results = Results(path, earlier[args.of])
    lacking = [row for row in rows if not (results.choice(row) if args.searches else results.rounds(row))]
    if lacking:
        sys.exit(f"{path} has nothing of {':'.join(lacking[0])} with settings {args.of}")
    here = Settings.here(THE_LIMIT) if args.searches else Settings.here()
    try:
        Results(path, here).keep(rows, earlier[args.of], args.why, args.but)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
