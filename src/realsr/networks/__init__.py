"""Networks, one file each, independent of data, training and configuration."""
