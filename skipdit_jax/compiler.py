"""What every compiled program of the library asks of XLA."""

# All adaLN linears share their input; XLA on GPU would merge them and concatenate up to 451 MB of
# weights inside every full step (docs/notes.md, Merged products on GPU). Other platforms ignore it.
COMPILER_OPTIONS = {"xla_gpu_dot_merger_threshold_mb": "0"}
