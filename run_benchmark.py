#!/usr/bin/env python
"""Benchmark attention upstreams: ``python run_benchmark.py --upstream fixed_init --downstream speaker``."""

import sys

from s3prl_attention.benchmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
