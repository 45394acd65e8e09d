"""Networks as files for other runtimes: ONNX, torch.export, TorchScript; any height, width and batch."""
