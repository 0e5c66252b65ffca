"""Starts the detect job: what Dataflow, Flink and schedulers run. Accepts what `beamhub detect` accepts."""

from beamhub.cli import command

if __name__ == "__main__":
    command("detect")
