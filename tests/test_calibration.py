"""The setting that is measured to be the fastest is taken, and nothing is measured where it would not pay."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import tensorflow as tf

from beamhub.corpus.shards import Chunk
from beamhub.engine import calibration
from beamhub.engine.calibration import Calibration, Setting
from beamhub.engine.caller import Caller, Rows
from beamhub.engine.planning import make_plan
from beamhub.engine.pool import acquire_module, bind_caller
from beamhub.engine.tablespec import Call
from beamhub.modules.loaded import AS_GIVEN, FREE, BoundSignature
from beamhub.modules.ragged import Output
from beamhub.modules.signatures import Shape, Signature
from beamhub.spec import ExtractJob
from beamhub.tasks.binding import Binding
from tests.small import flags, identity, sizes_called

CALL = Call("m", "sha256:0", (), "s", (Binding("x", "x", "float32", ()),), {}, None, 4)
SAMPLE = Chunk(pa.record_batch({"x": pa.array([1.0, 2.0], pa.float32())}), np.arange(2))
ROWS = np.arange(2)


class Doubles(BoundSignature):
    """A module that takes any batch."""

    def __init__(self) -> None:
        super().__init__(Signature("s", {}, {}), ("y",), AS_GIVEN)

    def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: Any = FREE) -> dict[str, Output]:
        return {"y": 2 * raw["x"]}

    def keep(self, sizes: Collection[int]) -> None:
        pass

    def output_shapes(self, raw_specs: Mapping[str, tf.TensorSpec]) -> dict[str, Shape]:
        return {"y": (None,)}


class Refuses(Doubles):
    """A module that takes none."""

    def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: Any = FREE) -> dict[str, Output]:
        raise ValueError("no")


def choose(
    rates: Mapping[Setting, float | tuple[float, ...]],
    monkeypatch: pytest.MonkeyPatch,
    records: int = 1_000_000_000,
    freezable: bool = True,
) -> tuple[Setting, list[Setting]]:
    """The choice where settings have these rates, or these one after the other, and what was tried."""
    tried: list[Setting] = []

    def rate(self: Calibration, setting: Setting) -> float:
        tried.append(setting)
        given = rates[setting]
        return given if isinstance(given, float) else given[tried.count(setting) - 1]

    monkeypatch.setattr(Calibration, "_rate", rate)
    sizes = tuple(dict.fromkeys(setting.batch_size for setting in rates))
    found = Calibration(CALL, SAMPLE, ROWS, records, sizes, lambda _: bound(Doubles()), lambda _: freezable).choose()
    return Setting(found.batch_size, found.frozen), tried


def bound(module: BoundSignature) -> Caller:
    return Caller(module, CALL, (ValueError,), TimeoutError)


def test_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {
        Setting(4, False): 100.0,
        Setting(4, True): 150.0,
        Setting(2, True): 200.0,
        Setting(2, False): 300.0,
        Setting(1, True): 50.0,
    }

    found, tried = choose(rates, monkeypatch)

    assert found == Setting(2, True)
    # Plain variables are not tried again where constants were faster.
    kinds, sizes = [Setting(4, False), Setting(4, True), Setting(4, False)], [Setting(2, True), Setting(4, True)]
    assert tried == [*kinds, *sizes, Setting(2, True), Setting(1, True)]


def test_a_difference_that_may_be_noise_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {Setting(4, False): 100.0, Setting(4, True): 104.0, Setting(2, False): 104.0}

    assert choose(rates, monkeypatch)[0] == Setting(4, False)


def test_the_better_of_two_measurements_decides_on_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, frozen = Setting(4, False), Setting(4, True)

    def found(of_plain: tuple[float, ...], of_frozen: tuple[float, ...]) -> tuple[Setting, list[Setting]]:
        return choose({plain: of_plain, frozen: of_frozen}, monkeypatch)

    # The first measurement of the first was held up, by whatever factor.
    assert found((100.0, 112.0), (115.0, 90.0)) == (plain, [plain, frozen, plain, frozen])
    assert found((50.0, 112.0), (115.0, 90.0)) == (plain, [plain, frozen, plain, frozen])
    # That of the other was.
    assert found((100.0, 90.0), (95.0, 115.0)) == (frozen, [plain, frozen, frozen, plain])
    # Neither was, so that what led is not measured again.
    assert found((100.0,), (95.0, 90.0)) == (plain, [plain, frozen, frozen])
    assert found((100.0, 90.0), (115.0,)) == (frozen, [plain, frozen, plain])


def test_smaller_calls_must_lead_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a job's rate may hang on it, and a neighbour's work for a tenth of a second must not decide."""
    larger, smaller = Setting(4, False), Setting(2, False)

    def found(of_larger: tuple[float, ...], of_smaller: tuple[float, ...]) -> tuple[Setting, list[Setting]]:
        return choose({larger: of_larger, smaller: of_smaller}, monkeypatch, freezable=False)

    both = [larger, smaller, larger, smaller]
    assert found((100.0, 102.0), (120.0, 118.0)) == (smaller, both)
    # The larger was held up once, by whatever factor, or twice.
    assert found((50.0, 102.0), (80.0, 80.0)) == (larger, both)
    assert found((100.0, 50.0), (130.0, 80.0)) == (larger, both)
    # The smaller was not ahead again.
    assert found((100.0, 100.0), (130.0, 105.0)) == (larger, both)
    # It was not ahead: large calls stay.
    assert found((100.0,), (105.0,)) == (larger, [larger, smaller])


def test_smaller_calls_are_compared_with_the_faster_kind_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, frozen, smaller = Setting(4, False), Setting(4, True), Setting(2, True)

    assert choose({plain: 100.0, frozen: 130.0, smaller: 135.0}, monkeypatch)[0] == frozen
    assert choose({plain: 100.0, frozen: 130.0, smaller: 145.0}, monkeypatch)[0] == smaller


def test_smaller_calls_must_be_faster_by_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call costs something beside the module too."""
    plain, frozen, smaller = Setting(4, False), Setting(4, True), Setting(2, False)

    assert choose({plain: 100.0, smaller: 108.0}, monkeypatch, freezable=False)[0] == plain
    assert choose({plain: 100.0, smaller: 112.0}, monkeypatch, freezable=False)[0] == smaller
    assert choose({plain: 100.0, frozen: 108.0}, monkeypatch)[0] == frozen


def test_the_first_call_of_a_thread_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It allocates what later calls find; whatever is measured first would seem slow."""
    calls = [5.0]
    monkeypatch.setattr(calibration.time, "monotonic", lambda: sum(calls))

    def work() -> bool:
        calls.append(0.05 if len(calls) > 1 else 10.0)
        return True

    with ThreadPoolExecutor(1) as pool:
        assert calibration.measure(work, 1, pool) == pytest.approx(20.0)


def test_little_work_is_not_worth_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {Setting(4, False): 100.0, Setting(4, True): 1000.0}

    assert choose(rates, monkeypatch, records=100) == (Setting(4, False), [Setting(4, False)])


def test_what_is_known_to_be_little_work_is_not_even_timed() -> None:
    def never(_: Call) -> Any:
        pytest.fail("tried")

    assert Calibration(CALL, SAMPLE, ROWS, 1_000, (4, 8), never, never, rate=600).choose() == CALL


def test_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be spent on batch sizes."""
    monkeypatch.setattr(calibration, "LEAST_SECONDS", -1.0)
    monkeypatch.setattr(calibration, "SHARE", -1.0)
    plain, frozen = Setting(4, False), Setting(4, True)
    rates = {plain: 100.0, frozen: 100.0, Setting(2, False): 1000.0}

    # Frozen variables are tried in any case, and so close a second time.
    assert choose(rates, monkeypatch, records=300) == (plain, [plain, frozen, frozen])


def test_a_module_that_refuses_the_sample_keeps_the_default() -> None:
    found = Calibration(CALL, SAMPLE, ROWS, 10**9, (4, 8), lambda _: bound(Refuses()), lambda _: False).choose()

    assert (found.batch_size, found.frozen) == (4, False)


def test_a_module_that_breaks_down_in_several_threads_at_once_keeps_the_default() -> None:
    """As where memory suffices for one call: no thread waits for one that will not come."""

    class BreaksDown(Doubles):
        def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: Any = FREE) -> dict[str, Output]:
            if threading.current_thread() is not threading.main_thread():
                raise TimeoutError("no memory")
            return super().__call__(raw)

    made = Calibration(CALL, SAMPLE, ROWS, 10**9, (4, 8), lambda _: bound(BreaksDown()), lambda _: True)

    assert made._rate(Setting(4, False)) == 0
    found = made.choose()
    assert (found.batch_size, found.frozen) == (4, False)


def test_an_error_that_nobody_expects_ends_the_measurement() -> None:
    """Also where another thread was there first, and waits."""
    waits = threading.Event()

    def work() -> bool:
        if not waits.is_set():
            waits.set()
            return True
        raise KeyError("a mistake")

    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyError, match="a mistake"):
        calibration.measure(work, 2, pool)


def test_constants_that_cannot_be_called_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try takes all threads to where there is too little memory."""
    plain, frozen = Setting(4, False), Setting(4, True)

    assert choose({plain: 100.0, frozen: 0.0}, monkeypatch) == (plain, [plain, frozen])


def test_what_was_not_chosen_leaves_no_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each graph of frozen variables holds a copy of them."""
    monkeypatch.setattr(calibration, "WORTH_SECONDS", 0.0)
    module = identity(tmp_path / "m", (None, 1))
    corpus = flags(tmp_path, module, pa.table({"x": pa.array([[1.0], [2.0]], pa.list_(pa.float32()))}))[3]
    traced = sizes_called(monkeypatch)
    spec = make_plan(ExtractJob(module=module, corpus=str(corpus), out=str(tmp_path / "out"))).spec
    loaded = acquire_module(spec.call.handle, spec.call.digest, spec.call.tags)
    found = bind_caller(loaded, spec.call, spec.task).bound
    before = found.traces
    # What was measured for texts and numbers: the default and half of it.
    sizes = {32768, 16384} - {spec.call.batch_size}
    assert traced >= sizes

    found({"x": np.zeros((spec.call.batch_size, 1), np.float32)})
    assert found.traces == before >= 3
    for size in sizes:
        found({"x": np.zeros((size, 1), np.float32)})
    assert found.traces == before + len(sizes)


def test_records_that_the_module_does_not_take_are_left_out() -> None:
    """One of the first records is bad: a rate of nothing would be taken for little work."""

    class RefusesOne(Doubles):
        def __call__(self, raw: Mapping[str, npt.NDArray[Any]], turn: Any = FREE) -> dict[str, Output]:
            if 1.0 in raw["x"]:
                raise ValueError("no")
            return super().__call__(raw)

    def made(rows: Rows) -> Calibration:
        return Calibration(CALL, SAMPLE, rows, 10**9, (4,), lambda _: bound(RefusesOne()), lambda _: False)

    assert made(np.array([1]))._rate(Setting(4, False)) > 0
    assert made(ROWS)._rate(Setting(4, False)) == 0


def test_rates_count_records() -> None:
    """A module that does next to nothing: more records a call are more records a second."""
    made = Calibration(CALL, SAMPLE, ROWS, 10**9, (4, 4096), lambda _: bound(Doubles()), lambda _: False)

    assert made._rate(Setting(4096, False)) > made._rate(Setting(4, False)) > 0
