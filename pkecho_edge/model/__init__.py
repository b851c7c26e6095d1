"""PKEcho-Net (Wu et al., AAAI 2023): encoder, region proxies, kernel-based segmentation."""
