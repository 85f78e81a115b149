"""Sees to it that tests in which a network is compiled have the marker `network`."""

import sys
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def _no_compilation(request):
    """Makes compiling a network a fault of the test, unless it says that it does."""
    if request.node.get_closest_marker("network") or "keras" not in sys.modules:
        yield
        return
    import keras

    from rnn_codec.backend import compilation

    def fail(*args, **kwargs):
        pytest.fail("a network is compiled: mark the test, its class or file with `network`")

    with (
        mock.patch.object(compilation, "compile_for_inference", fail),
        mock.patch.object(keras.Model, "fit", fail),
        mock.patch.object(keras.Model, "evaluate", fail),
        mock.patch.object(keras.Model, "predict", fail),
    ):
        yield
