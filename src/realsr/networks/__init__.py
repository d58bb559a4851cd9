"""The networks: one readable file each, without knowledge of data, training or configuration."""
