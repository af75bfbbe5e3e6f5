"""The IDC set: 50x50 patches of breast tissue, with or without invasive ductal carcinoma.

277,524 patches from whole slides scanned at 40x, labelled by pathologists.

Cruz-Roa et al., Automatic detection of invasive ductal carcinoma in whole slide images with
convolutional neural networks, SPIE Medical Imaging 2014. Janowczyk and Madabhushi, Deep learning
for digital pathology image analysis: a comprehensive tutorial with selected use cases, Journal of
Pathology Informatics 2016.
"""

from common.data.histopathology.cache import patch_facts, read_patches
from common.data.histopathology.slides import (
    CLASSES,
    MICROMETRES,
    SIZE,
    pad,
    put_together,
    slide_image,
    slide_map,
)
from common.data.histopathology.source import (
    find_histopathology,
    histopathology_dir,
    load_histopathology,
)
from common.data.histopathology.tree import NESTED, PatchList, list_patches, patch_name, tell_padded
