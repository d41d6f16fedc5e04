"""What driver and judge agree on: the folder of a run, its manifest, what makes it valid."""
