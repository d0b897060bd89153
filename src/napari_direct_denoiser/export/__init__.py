"""Models in the formats of other software: ONNX, and packages of bioimage.io for Fiji, ilastik and QuPath."""
