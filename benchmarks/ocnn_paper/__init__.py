"""The experiments of the OC-NN paper (Chalapathy, Menon & Chawla, arXiv:1802.06360) with the methods that we ship."""
