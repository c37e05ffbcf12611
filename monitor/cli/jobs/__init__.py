"""What the commands do; imported only when one runs, so that `--help` stays quick."""
