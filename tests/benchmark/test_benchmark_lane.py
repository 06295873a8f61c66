"""The lock of the timing lane, and what it says about others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3prl_attention.benchmark.lane import OtherLoad, exclusive_lane, working

HOLD = """
import os, sys, threading
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
threading.Timer(60, os._exit, [0]).start()  # if it is not killed: a test that fails must not wait for ever
print("held", flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("s3prl_attention.recipes.corpora.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def test_a_free_lane_is_entered_without_a_word_and_left_after_an_error(cache: Path):
    said: list[str] = []
    with pytest.raises(RuntimeError, match="boom"), exclusive_lane(said.append):
        raise RuntimeError("boom")
    with exclusive_lane(said.append):
        pass
    assert said == []


def test_it_waits_for_another_process_says_so_once_and_enters_when_that_is_killed(cache: Path):
    with exclusive_lane():
        (lock,) = cache.glob("timing-*.lock")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        said: list[str] = []

        def say(message: str) -> None:
            said.append(message)
            holder.kill()

        with exclusive_lane(say):
            assert holder.wait() != 0  # only its end let us in
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    (line,) = said
    assert "waiting" in line
    assert str(lock) in line


WORK = """
import os, sys, threading
from s3prl_attention.benchmark.lane import working
threading.Timer(60, os._exit, [0]).start()
print("ready", flush=True)
with working():
    print("at work", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def worker(tmp_path: Path, cache: Path):
    """Another process of the same user that makes a cell."""
    env = {**os.environ, "S3PRL_ATTENTION_CACHE": str(cache)}
    words = [sys.executable, "-c", WORK]
    process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"ready\n", b"at work\n"]
    yield process
    process.kill()
    process.communicate()


def test_many_work_side_by_side_and_timing_waits_for_all_of_them(worker, cache: Path):
    pytest.importorskip("fcntl", reason="nothing is shared where there are no POSIX locks")
    with working():
        pass  # it does not wait for the other
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        worker.kill()

    with exclusive_lane(say):
        assert worker.wait() != 0
    (line,) = said
    assert "other processes of yours are working" in line


def test_who_wants_to_work_waits_for_timing(cache: Path):
    pytest.importorskip("fcntl", reason="nothing is shared where there are no POSIX locks")
    with exclusive_lane():
        env = {**os.environ, "S3PRL_ATTENTION_CACHE": str(cache)}
        waiting = subprocess.Popen(
            [sys.executable, "-c", WORK], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.0)
    told, _ = waiting.communicate("\n", timeout=60)
    assert told == "at work\n"


class Stat:
    """A /proc/stat of a two-core machine, in seconds, and the seconds that this process took."""

    def __init__(self, path: Path) -> None:
        self.path, self.own_s = path, 0.0
        self.spent = dict.fromkeys(
            ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest"), 0.0
        )
        self.pass_()

    def pass_(self, own_s: float = 0.0, **spent: float) -> None:
        self.own_s += own_s
        for key, seconds in spent.items():
            self.spent[key] += seconds
        ticks = [str(round(s * os.sysconf("SC_CLK_TCK"))) for s in self.spent.values()]
        self.path.write_text(f"cpu  {' '.join(ticks)} 0\ncpu0 1 2 3\nintr 5\n")

    def watch(self) -> OtherLoad:
        return OtherLoad(self.path, lambda: self.own_s)


@pytest.fixture
def stat(tmp_path: Path) -> Stat:
    return Stat(tmp_path / "stat")


def test_our_own_work_is_not_held_against_others(stat: Stat):
    load = stat.watch()
    stat.pass_(own_s=10.0, user=10.0, idle=10.0)
    assert load.share() == 0.0


@pytest.mark.parametrize("kind", ["user", "nice", "system", "irq", "softirq", "steal"])
def test_everything_else_that_was_not_idle_is(stat: Stat, kind: str):
    stat.pass_(user=1000.0, idle=50.0)  # before the watch began: not counted
    load = stat.watch()
    stat.pass_(own_s=5.0, user=5.0, idle=10.0)
    stat.pass_(**{kind: 5.0})
    assert load.share() == pytest.approx(0.25, abs=0.001)


def test_waiting_for_disks_and_guests_counted_twice_are_not(stat: Stat):
    load = stat.watch()
    stat.pass_(own_s=5.0, user=5.0, idle=5.0, iowait=10.0, guest=5.0)
    assert load.share() == 0.0


def test_one_tick_is_within_the_clocks_error(stat: Stat):
    load = stat.watch()
    stat.pass_(own_s=0.02, user=0.03, idle=0.01)
    assert load.share() == 0.0
    assert stat.watch().share() == 0.0  # no time at all


def test_systems_that_do_not_tell(tmp_path: Path, stat: Stat):
    assert OtherLoad(tmp_path / "missing").share() is None
    stat.path.write_text("something else\n")
    assert stat.watch().share() is None


def test_this_machine_tells_a_share_or_nothing():
    share = OtherLoad().share()
    assert share is None or 0.0 <= share <= 1.0
