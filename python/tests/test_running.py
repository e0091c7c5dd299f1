"""While it works: progress, the GIL, interrupts, resuming."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import lewis
import numpy
import pytest
from conftest import DEMO, MODELS, bytes_of, guided_recipe, plain_recipe, write_model
from test_arrays import NAMES, recipe


def large_models(count: int = 24, rows: int = 1024) -> dict[str, dict[str, numpy.ndarray]]:
    """Work for a second or more."""
    random = numpy.random.default_rng(3)
    block = random.normal(size=(rows, 1024)).astype(numpy.float32)
    return {
        name: {f"w{i:02}": block + numpy.float32(n + i) for i in range(count)}
        for n, name in enumerate(NAMES)
    }


# ---- progress ----


def test_progress_grows_to_its_total_on_the_callers_thread(tmp_path):
    seen: list[tuple[str, str, int, int]] = []
    threads = set()

    def progress(p: lewis.Progress) -> None:
        threads.add(threading.get_ident())
        seen.append((p.what, p.unit, p.done, p.total))

    lewis.merge(plain_recipe(), tmp_path / "out", progress=progress)
    assert threads == {threading.get_ident()}
    assert seen[-1][0] == "merging" and seen[-1][1] == "bytes"
    assert seen[-1][2] == seen[-1][3] > 0
    done = [entry[2] for entry in seen if entry[0] == "merging"]
    assert done == sorted(done)


def test_progress_of_every_kind_of_work(tmp_path):
    seen: dict[str, set[bool]] = {}

    def progress(p: lewis.Progress) -> None:
        seen.setdefault(p.what, set()).add(p.done == p.total)

    lewis.merge(guided_recipe(), tmp_path / "out", progress=progress)
    assert {what for what in seen if "calibrat" in what}
    assert all(True in finished for finished in seen.values())


def test_progress_may_be_slow(tmp_path):
    calls = []

    def progress(p: lewis.Progress) -> None:
        calls.append(p.done)
        time.sleep(0.02)

    lewis.merge_state_dict(large_models(count=12, rows=64), recipe(), progress=progress)
    assert 1 <= len(calls) <= 12


class Stop(Exception):
    pass


def test_an_exception_of_progress_ends_the_work_and_reaches_the_caller(tmp_path):
    def progress(p: lewis.Progress) -> None:
        raise Stop(p.what)

    with pytest.raises(Stop):
        lewis.merge_state_dict(large_models(count=4), recipe(), progress=progress)


@pytest.mark.parametrize("wrong", [1.5, "bar"])
def test_progress_of_another_type(tmp_path, wrong):
    with pytest.raises(TypeError, match="progress"):
        lewis.merge(plain_recipe(), tmp_path / "out", progress=wrong)


def test_bars_of_tqdm(tmp_path, capsys):
    lewis.merge(plain_recipe(), tmp_path / "out", progress=True)
    assert "merging: 100%" in capsys.readouterr().err


def test_no_bar_where_nobody_looks(tmp_path, capsys):
    lewis.merge(plain_recipe(), tmp_path / "out")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_bars_without_tqdm(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    lewis.merge(plain_recipe(), tmp_path / "out", progress=True)
    assert "tqdm" in caplog.text


def test_warnings_go_to_the_logger(tmp_path, caplog):
    lewis.merge(plain_recipe(unknown_key=1), tmp_path / "out", lenient=True)
    assert any(r.name == "lewis" and "unknown_key" in r.getMessage() for r in caplog.records)


# ---- threads ----


def test_the_gil_is_free_while_it_works():
    models = large_models()
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    lewis.merge_state_dict(models, recipe(), threads=1)
    seconds = time.monotonic() - begin
    stop.set()
    thread.join()
    assert counted > 50 * seconds  # it would be a few if the GIL were held


def test_verbs_run_at_the_same_time(tmp_path):
    failed = []

    def merge(number: int) -> None:
        try:
            lewis.merge(plain_recipe(), tmp_path / f"out{number}", threads=1)
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=merge, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len({bytes_of(tmp_path / f"out{n}") for n in range(4)}) == 1


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_bytes(threads):
    models = large_models(count=2, rows=200)
    expected = lewis.merge_state_dict(models, recipe(), threads=3)
    for name, array in lewis.merge_state_dict(models, recipe(), threads=threads).items():
        assert array.tobytes() == expected[name].tobytes()


# ---- interrupts ----

# Seconds from Ctrl-C to the end of the interpreter: a quarter on an idle machine, and several
# where other tests keep every core busy.
PATIENCE = 6


def interrupted(code: str, after: str, *arguments: object) -> tuple[float, str]:
    """Runs Python, sends SIGINT when it has printed `after`. Returns the seconds until its end, and
    what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if after in line:
            break
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    return time.monotonic() - begin, "".join(lines) + rest


FOLDERS = """
import lewis, sys, time
def progress(p):
    if p.what == 'merging' and p.done > p.total / 4: print('now')
try:
    lewis.merge(sys.argv[1], sys.argv[2], progress=progress, threads=1, shard_size='2MB')
    print('finished')
except KeyboardInterrupt:
    print('stopped')
"""


def folders(tmp_path: pathlib.Path) -> pathlib.Path:
    method = recipe()
    for name, tensors in large_models(rows=256).items():
        write_model(tmp_path / name, tensors)
    method["base_model"] = str(tmp_path / "base")
    for entry in method["models"]:
        entry["model"] = str(tmp_path / entry["model"])
    file = tmp_path / "recipe.yml"
    file.write_text(lewis.read_recipe(method).yaml)
    return file


def test_ctrl_c_stops_a_merge_which_then_resumes(tmp_path):
    file = folders(tmp_path)
    seconds, printed = interrupted(FOLDERS, "now", file, tmp_path / "out")
    assert printed.endswith("stopped\n"), printed
    assert seconds < PATIENCE
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial").is_dir()
    result = lewis.merge(file, tmp_path / "out", resume=True, shard_size="2MB")
    assert result.tensors.resumed > 0
    assert result.tensors.resumed + result.tensors.merged == 24
    lewis.merge(file, tmp_path / "whole", shard_size="2MB")
    names = sorted(p.name for p in (tmp_path / "whole").glob("*.safetensors"))
    assert len(names) > 1
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_an_exception_of_progress_leaves_what_resuming_needs(tmp_path):
    file = folders(tmp_path)

    def progress(p: lewis.Progress) -> None:
        if p.done > p.total / 3:
            raise Stop

    with pytest.raises(Stop):
        lewis.merge(file, tmp_path / "out", progress=progress, threads=1, shard_size="2MB")
    assert not (tmp_path / "out").exists()
    result = lewis.merge(file, tmp_path / "out", resume=True, shard_size="2MB")
    assert result.tensors.resumed > 0


VERB = """
import lewis, sys, threading
started = []
def progress(p):
    if not started: started.append(print('now'))
try:
    {call}
    print('finished')
except KeyboardInterrupt:
    print('stopped')
"""


@pytest.mark.parametrize(
    "call",
    [
        "lewis.calibrate(sys.argv[1], sys.argv[2], format='gsm8k', cache=False, progress=progress)",
        "lewis.evaluate(sys.argv[1], 'gsm8k:' + sys.argv[2], max_new_tokens=400, progress=progress)",
    ],
)
def test_ctrl_c_stops_other_verbs(call):
    code = VERB.format(call="[" + call + " for _ in range(50)]")
    seconds, printed = interrupted(code, "now", MODELS["math"], DEMO / "data/math_train.jsonl")
    assert printed.endswith("stopped\n"), printed
    assert seconds < PATIENCE


IN_MEMORY = """
import lewis, numpy
block = numpy.ones((2048, 2048), numpy.float32)
models = {n: {f'w{i}': block for i in range(200)} for n in ('base', 'a', 'b')}
recipe = {'merge_method': 'ties', 'base_model': 'base', 'dtype': 'float32',
          'models': [{'model': m, 'parameters': {'weight': 1, 'density': 0.5}} for m in 'ab']}
def progress(p):
    print('now')
try:
    lewis.merge_state_dict(models, recipe, progress=progress)
except KeyboardInterrupt:
    print('stopped')
    print(len(lewis.merge_state_dict({n: {'w0': block[:8]} for n in models}, recipe)))
"""


def test_ctrl_c_stops_a_merge_in_memory_and_the_module_goes_on():
    seconds, printed = interrupted(IN_MEMORY, "now")
    assert printed.endswith("stopped\n1\n"), printed
    assert seconds < PATIENCE


def test_a_handler_of_the_program_runs_while_it_works():
    """A handler that does not raise does not end the work."""
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: called.append(time.monotonic()))
    try:
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        begin = time.monotonic()
        lewis.merge_state_dict(large_models(), recipe(), threads=1)
        end = time.monotonic()
    finally:
        signal.signal(signal.SIGUSR1, before)
    if end - begin > 0.5:
        assert called and called[0] - begin < 0.5


def test_resume_where_another_merge_was_begun(tmp_path):
    with pytest.raises(lewis.Error):
        (tmp_path / "out.partial").mkdir()
        (tmp_path / "out.partial/manifest.jsonl").write_text("{}\n")
        lewis.merge(plain_recipe(), tmp_path / "out", resume=True)
