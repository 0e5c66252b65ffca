"""Starts the classify job: what Dataflow, Flink and schedulers run. Accepts what `beamhub classify` accepts."""

import sys

from beamhub.cli import main

if __name__ == "__main__":
    sys.exit(main(["classify", *sys.argv[1:]]))
