"""Saving, loading, verifying and removing checkpoints."""

from gancore.checkpoint.format import Checkpoint as Checkpoint
from gancore.checkpoint.store import load as load
from gancore.checkpoint.store import load_run as load_run
from gancore.checkpoint.store import newest_valid as newest_valid
from gancore.checkpoint.store import remove_temporary_files as remove_temporary_files
