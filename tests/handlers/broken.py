"""Never becomes ready."""

raise SystemExit("this handler cannot be loaded")
