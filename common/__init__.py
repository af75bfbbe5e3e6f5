"""Deep Learning for Image Processing and Captioning: the code that all lessons share."""

import os
import sys

__version__ = "0.1.0"

# TensorFlow reads these once, when it is first imported.
if "tensorflow" not in sys.modules:
    # oneDNN is TensorFlow's own default only on some processors; measured 1.4 times the images per
    # second on AVX2 (benchmarks/throughput.py).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
