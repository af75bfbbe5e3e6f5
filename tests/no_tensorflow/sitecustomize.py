"""On PYTHONPATH, makes TensorFlow look as if it were not installed, in every process started."""

import importlib.machinery
import sys

HIDDEN = {"tensorflow", "tf_keras", "tensorflow_hub"}


class _Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname.partition(".")[0] in HIDDEN:
            return None
        return super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = _Finder
