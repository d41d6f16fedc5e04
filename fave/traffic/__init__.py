"""When requests arrive: models, named loads, recordings."""
