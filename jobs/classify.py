"""Starts the classify job: what Dataflow, Flink and schedulers run. Accepts what `beamhub classify` accepts."""

from beamhub.cli import command

if __name__ == "__main__":
    command("classify")
