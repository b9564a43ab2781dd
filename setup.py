"""The compiled modules; everything else is in setup.cfg. Without Cython or a C compiler the project installs without them."""

from __future__ import annotations

from importlib.util import find_spec

from setuptools import Extension, setup

if find_spec("Cython"):
    setup(
        ext_modules=[
            Extension(name, [f"{name.replace('.', '/')}.pyx"], optional=True)
            for name in (
                "schemas.native",
                "pipeline.stages.native_names",
                "pipeline.stages.native_windows",
                "connectors.privacy.native_sealing",
                "connectors.sinks.native_copying",
            )
        ],
        options={"build_ext": {"cython_c_in_temp": True}},  # The generated C is not left beside the source.
    )
else:
    setup()
