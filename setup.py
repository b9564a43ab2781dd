"""The compiled codec and names; everything else is in setup.cfg. Without Cython or a C compiler the project does without."""

from __future__ import annotations

from importlib.util import find_spec

from setuptools import Extension, setup

if find_spec("Cython"):
    setup(
        ext_modules=[
            Extension("schemas.native", ["schemas/native.pyx"], optional=True),
            Extension("pipeline.stages.native", ["pipeline/stages/native.pyx"], optional=True),
        ],
        options={"build_ext": {"cython_c_in_temp": True}},  # The generated C is not left beside the source.
    )
else:
    setup()
