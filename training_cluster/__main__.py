"""`python -m training_cluster` is the `training-cluster` command."""

import sys

from training_cluster.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
