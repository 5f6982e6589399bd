"""Read weights: circuits of heads, composition, neurons, Fourier spectra."""
