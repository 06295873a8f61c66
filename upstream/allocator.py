"""Keep freed memory for the next tensor: page faults cost a CPU run more than much of its arithmetic."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to serve large tensors from memory that it keeps; True when it agreed.

    By default glibc maps every block over 32 MB anew and unmaps it when freed, so each large tensor pays for its pages
    again. This concerns the whole process, so commands call it, never a library; without glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
