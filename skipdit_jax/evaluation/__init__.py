"""How good samples are: fidelity to other samples, distance to real data, recognisability."""
