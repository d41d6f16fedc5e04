"""From a run folder to what each run showed."""
