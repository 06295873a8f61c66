"""The switch that keeps freed memory: tried in a process of its own, because it cannot be turned back."""

import platform
import subprocess
import sys

import pytest
from s3prl_attention.upstream import allocator

TRY = """
from s3prl_attention.upstream.allocator import keep_freed_memory
agreed = keep_freed_memory()
block = bytearray(1 << 26)  # 64 MB: mapped anew by default
del block
resident = int(open("/proc/self/statm").read().split()[1]) * 4096
print(int(agreed), int(resident > 1 << 26))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has these switches")
def test_memory_stays_with_the_process():
    run = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "1"]


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("no library must be asked"))
    assert allocator.keep_freed_memory() is False
