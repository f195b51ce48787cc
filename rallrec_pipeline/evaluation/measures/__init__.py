"""What is measured, and how sure it is: arrays in, numbers out."""
