"""Detection quality: what the monitor finds on labelled data, measured on the path that users run."""
