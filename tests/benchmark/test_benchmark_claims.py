"""Claims hold between processes, not within one; they end with the process that has them."""

import os
import subprocess
import sys

import pytest
from s3prl_attention.benchmark.claims import FILE, claims_of

pytest.importorskip("fcntl", reason="claims are POSIX locks")

HOLDER = """
import sys
from pathlib import Path
from s3prl_attention.benchmark.claims import claims_of
with claims_of(Path(sys.argv[1])).hold(sys.argv[2]) as ours:
    print(ours, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has claimed 'a'."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path), "a"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_what_another_process_claimed_is_taken_and_the_rest_is_free(holder, tmp_path):
    claims = claims_of(tmp_path)
    with claims.hold("a") as a, claims.hold("b") as b:
        assert (a, b) == (False, True)
        assert claims.taken("a")
        assert not claims.taken("b"), "it is ours"
    assert not claims.taken("c")


def test_a_claim_ends_with_its_process_however_that_ends(holder, tmp_path):
    claims, told = claims_of(tmp_path), []
    assert claims.taken("a")

    def say():
        told.append("waiting")
        holder.kill()

    with claims.wait_for("a", say):
        assert holder.wait() == -9
    assert told == ["waiting"]


def test_looking_at_others_claims_does_not_give_up_our_own(tmp_path):
    claims = claims_of(tmp_path)
    with claims.hold("mine"):
        claims.taken("other")
        with claims.hold("another"):
            pass
        words = [sys.executable, "-c", HOLDER, str(tmp_path), "mine"]
        told = subprocess.run(words, input="\n", capture_output=True, text=True, check=True).stdout
        assert told == "False\n"
        with pytest.raises(RuntimeError, match="claimed mine already"), claims.hold("mine"):
            pass
    told = subprocess.run(words, input="\n", capture_output=True, text=True, check=True).stdout
    assert told == "True\n"


def test_no_handle_stays_open_and_one_small_file_is_all(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    claims = claims_of(tmp_path)
    for number in range(50):
        with claims.hold(str(number)):
            pass
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before  # noqa: PTH208
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).stat().st_size == 0
