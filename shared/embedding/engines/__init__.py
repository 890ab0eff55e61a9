"""Engines that run networks: OpenVINO or TensorFlow, and the conversion from one to the other."""
