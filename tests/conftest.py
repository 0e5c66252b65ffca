from __future__ import annotations

import os

from beamhub.importing import switch_onednn_on

# Before TensorFlow is imported by any test: its start-up chatter hides what a failing test says.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# And with the operations that a job's own processes have, or the last bits would differ.
switch_onednn_on()
