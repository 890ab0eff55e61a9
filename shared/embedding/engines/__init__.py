"""What runs a network: OpenVINO or TensorFlow, and the conversion from one to the other."""
