"""Files on their way out of a result store: inputs, restored outputs, results, logs."""
