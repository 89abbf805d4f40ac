"""Packaging of shakedrop_det. detectron2 itself is installed apart: see README, "Installation"."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
CONFIGS = "shakedrop_det.model_zoo.configs"

version = re.search(r'__version__ = "(.+)"', (ROOT / "shakedrop_det/__init__.py").read_text())
assert version is not None

setup(
    name="shakedrop_det",
    version=version[1],
    description="ShakeDrop-regularized ResNet and ResNeXt backbones for detectron2",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    # The configs stay at the top of the repository and travel inside the package.
    packages=[*find_packages(include=["shakedrop_det", "shakedrop_det.*"]), CONFIGS],
    package_dir={CONFIGS: "configs"},
    package_data={CONFIGS: ["**/*.yaml", "**/*.py"]},
    install_requires=[
        "torch>=2.3",
        "torchvision>=0.18",
        "fvcore",
        "pycocotools",
        "matplotlib",
        "scikit-learn",
        "scipy",
        "tabulate",
        "tqdm",
    ],
    extras_require={
        "dev": [
            "black",
            "hypothesis",
            "ipykernel",
            "mypy",
            "nbclient",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
        ],
        "export": ["onnx", "onnxruntime", "onnxscript"],
        "timm": ["timm"],
        "safetensors": ["safetensors"],
        "fast-eval": ["faster-coco-eval"],
        "slurm": ["submitit>=1.5"],
    },
)
