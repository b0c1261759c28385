"""Training runs as a library user starts them: config, first parameters, files, previews."""
