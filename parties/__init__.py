"""The deployable party: configuration, identity, the link, the run, the command line."""

import os

# gRPC's core reads this once, when it is loaded. It would log, in its own words, what we report in one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
