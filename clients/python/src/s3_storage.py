"""``s3_storage``, as document assistants import it."""

from . import config as _config  # noqa: F401 -- reads .env.
from s3_storage import S3Storage, SyncReport, s3_storage

__all__ = ["S3Storage", "SyncReport", "s3_storage"]
