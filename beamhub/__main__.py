"""`python -m beamhub` is `beamhub`."""

from beamhub.cli import command

if __name__ == "__main__":
    command()
