"""What the library and its commands share, without TensorFlow: sentences, and clients of the serving protocols."""
