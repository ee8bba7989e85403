"""
The compiled part of the package, which setup.cfg cannot declare: a shared library in plain C without Python's headers, so that
one wheel of a platform serves all versions of Python. An installation without a compiler goes on without it.
"""

import sys
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FLAGS = [
    *("-O3", "-std=gnu11", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    # no symbols for a debugger, which Python's own flags ask for; vectors are passed to functions that are inlined only
    *("-g0", "-Wno-psabi"),
]
KERNEL = Extension(
    "sb3_lwm.common._gru_kernel", ["sb3_lwm/common/gru_kernel.c"], extra_compile_args=FLAGS, optional=True, py_limited_api=True
)


class BuildLibrary(build_ext):
    """Builds a library that ctypes loads: its name has no version of Python in it, and it exports no init function."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class PlatformWheel(bdist_wheel):
    """Names the wheel for a platform and any Python."""

    def get_tag(self) -> Any:
        return "py3", "none", super().get_tag()[2]


setup(ext_modules=[KERNEL], cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel})
