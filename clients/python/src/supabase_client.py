"""``supabase_client``, as document assistants import it."""

from . import config as _config  # noqa: F401 -- reads .env.
from supabase_client import SupabaseClient, SyncReport, supabase_client

__all__ = ["SupabaseClient", "SyncReport", "supabase_client"]
