"""What protects a bundle: hashes, signature, archive, names of files, strict JSON, and weights kept outside a file."""
