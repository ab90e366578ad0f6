"""Training and measuring: data, augmentation, losses, one readable loop, evaluation, export, calibration.

Sits on top of every other package and is imported by none. Needs torch, NumPy, OpenCV and ONNX.
"""
