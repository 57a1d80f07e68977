"""From a trained network to integers: graphs, passes, quantization, verification."""
