"""Installs the package rnn-codec and its commands."""

import re

import setuptools

with open("rnn_codec/version.py", encoding="utf-8") as file:
    version = re.search(r'^__version__ = "(.+)"$', file.read(), re.MULTILINE).group(1)
with open("README.md", encoding="utf-8") as file:
    readme = file.read()

setuptools.setup(
    name="rnn-codec",
    version=version,
    description="A progressive neural image codec for Keras: one network, one file, every rate",
    long_description=readme,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["rnn_codec", "rnn_codec.*"]),
    package_data={"rnn_codec": ["weights/*/*", "evaluation/*.html"]},
    # What only serves to train on; a clone has it.
    exclude_package_data={"rnn_codec": ["weights/*/training.npz"]},
    install_requires=[
        "absl-py",
        "constriction>=0.5,<0.6",
        "google-crc32c",
        "keras>=3.11",
        "numpy",
        "pillow>=12.1",  # 13 refuses more hostile files, but Beam asks for an older one
        "tensorflow>=2.16",
        "tqdm",
    ],
    extras_require={
        "train": ["ssimulacra2>=0.3", "tensorboard>=2.21", "tensorflow-datasets"],
        "eval": [
            "bjontegaard",
            "imagecodecs",
            "matplotlib",
            "psnr-hvsm",
            "scikit-image",
            "ssimulacra2>=0.3",
        ],
        "baselines-gpl": ["pillow-heif"],
        "beam": ["apache-beam>=2.77"],
        "jax": ["jax"],
        "fuzz": ["atheris>=3"],  # wheels for Linux only, for Python 3.11 to 3.14
        "dev": ["hypothesis", "pytest", "pytest-xdist", "ruff"],
    },
    entry_points={
        "console_scripts": [
            "rnnc = rnn_codec.commands.rnnc:main",
        ]
    },
)
