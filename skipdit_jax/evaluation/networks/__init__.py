"""Networks whose features metrics are made of: Inception, I3D, and the trunks of LPIPS."""
