"""What a model needs and how fast it is: sizes, memory, calibration."""
