"""Builds the optional C loop of the package; everything else is in pyproject.toml.

A shared object that needs no headers of Python, so that a C compiler is enough, and none is needed: an installation
that cannot build it runs the same loop in Python. Must not: fail for want of a compiler.
"""
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildSharedObject(build_ext):
    """A library for ctypes: no init function, and no suffix that binds it to one Python."""

    def get_export_symbols(self, ext):
        return ext.export_symbols

    def get_ext_filename(self, ext_name):
        return ext_name.replace(".", "/") + ".so"


setup(ext_modules=[Extension("tidemark_analysis._free_lists", ["tidemark_analysis/_free_lists.c"],
                             extra_compile_args=["-O2", "-std=c11"], include_dirs=[], optional=True)],
      cmdclass={"build_ext": BuildSharedObject})
