"""Dense Synthesizer: each frame says by itself which positions it attends to."""
