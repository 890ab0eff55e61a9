"""How fast is it, against what others would use on the same machine? Every figure beside its peer, in one run."""
