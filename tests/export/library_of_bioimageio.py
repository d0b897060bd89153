"""What the library of bioimage.io says about a package: ``python library_of_bioimageio.py PACKAGE IMAGE RESULT``.

In a process of its own, because it changes the settings of torch. IMAGE is a plane, which is denoised in tiles into
RESULT (npy). The last line of standard output is JSON: status of the test and names of its parts, side of the tiles.
"""

import json
import sys

import numpy as np
from bioimageio.core import predict, test_model
from bioimageio.spec import load_model_description

_, package, image, result = sys.argv
tested = test_model(package)
model = load_model_description(package)
size = 13  # of the tiles: so many steps above the smallest
denoised = predict(model=model, inputs=np.load(image)[None, None], blocksize_parameter=size)
np.save(result, np.asarray(denoised.members["denoised"].data)[0, 0])
errors = [f"{part.name}: {error.msg}" for part in tested.details for error in part.errors]
side = model.inputs[0].axes[2].size.get_size(size)
parts = [part.name for part in tested.details]
print(json.dumps({"status": tested.status, "parts": parts, "errors": errors, "tile": side}))
