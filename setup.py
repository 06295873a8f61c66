"""Packaging: the four folders of this repository become the package ``s3prl_attention``."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
FOLDERS = ("upstream", "downstream", "benchmark", "recipes")


def package_dirs() -> dict[str, str]:
    """Every package below the four folders, as ``s3prl_attention.<package>`` -> folder."""
    found = {}
    for folder in FOLDERS:
        for package in [folder, *(f"{folder}.{name}" for name in find_packages(str(HERE / folder)))]:
            found[f"s3prl_attention.{package}"] = package.replace(".", "/")
    return found


setup(
    name="s3prl-attention",
    version="0.1.0",
    description="Choose, or invent, the attention of a self-supervised speech encoder: an s3prl plug-in and benchmark",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    packages=list(package_dirs()),
    package_dir=package_dirs(),
    package_data={
        "": ["*.yaml", "*.md"],
        "s3prl_attention.recipes": ["presets/*.yaml"],
        "s3prl_attention.benchmark.report": ["templates/*"],
    },
    scripts=["run_benchmark.py"],
    install_requires=[
        "torch>=2.4",
        "torchaudio>=2.4",
        "s3prl>=0.4.18",
        "pyyaml",
        "numpy",
        "tqdm",
        "editdistance",
        "soundfile",
        "safetensors",
        "omegaconf>=2.3",
        "scipy",  # scikit-learn needs it already
        "scikit-learn",
        "matplotlib",
        "jinja2",
        "filelock",  # torch needs it already: the timing lane and the caches lock with it
        "tensorboardX",  # s3prl's run_downstream imports it undeclared; the pre-training log is written with it
    ],
    extras_require={
        "slurm": ["submitit"],
        "synth": ["espeakng-loader"],
        # a test builds a package without a network, some run s3prl's datasets, which import pandas undeclared, and
        # some look at leaderboard.html in Chromium, through selenium, where Chromium and its driver are installed
        "test": ["pytest", "pytest-xdist", "hypothesis", "setuptools>=71", "pandas", "selenium"],
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "mypy",
            "pre-commit",
            "types-PyYAML",
            "types-tqdm",
            "build",
        ],
    },
    entry_points={"s3prl_attention.upstreams": [], "s3prl_attention.downstreams": []},
)
