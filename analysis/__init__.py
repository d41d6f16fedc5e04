"""From a run folder to verdicts."""

import os

# Figures are files, whatever backend the account has chosen: matplotlib reads this when it is imported.
os.environ["MPLBACKEND"] = "svg"
