"""Saving, loading, verifying and removing checkpoints."""

from gancore.checkpoint.format import Checkpoint as Checkpoint
from gancore.checkpoint.store import Found as Found
from gancore.checkpoint.store import Verification as Verification
from gancore.checkpoint.store import best_of as best_of
from gancore.checkpoint.store import find_checkpoints as find_checkpoints
from gancore.checkpoint.store import kept as kept
from gancore.checkpoint.store import load as load
from gancore.checkpoint.store import load_run as load_run
from gancore.checkpoint.store import newest as newest
from gancore.checkpoint.store import newest_valid as newest_valid
from gancore.checkpoint.store import path_of as path_of
from gancore.checkpoint.store import prune as prune
from gancore.checkpoint.store import remove_temporary_files as remove_temporary_files
from gancore.checkpoint.store import save as save
from gancore.checkpoint.store import verify as verify
