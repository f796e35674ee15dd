// Generated from the migrations by `npm run types`. A test compares it; do not edit it.

export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "public": {
    Tables: {
      "api_keys": {
        Row: {
          "api_key_encrypted": string;
          "entered_at": string;
          "entered_by": string;
          "fingerprint": string;
          "id": number;
          "last_four": string;
          "provider_kind": string;
          "stage_type": string;
          "used_until": string | null;
        };
        ComputedFields: never;
        Insert: {
          "api_key_encrypted": string;
          "entered_at"?: string;
          "entered_by": string;
          "fingerprint": string;
          "id"?: never;
          "last_four": string;
          "provider_kind": string;
          "stage_type": string;
          "used_until"?: string | null;
        };
        Update: {
          "api_key_encrypted"?: string;
          "entered_at"?: string;
          "entered_by"?: string;
          "fingerprint"?: string;
          "id"?: never;
          "last_four"?: string;
          "provider_kind"?: string;
          "stage_type"?: string;
          "used_until"?: string | null;
        };
        Relationships: [];
      };
      "articles": {
        Row: {
          "byline": string | null;
          "created_at": string;
          "excerpt": string | null;
          "id": string;
          "language": string | null;
          "page_id": string;
          "published_at": string | null;
          "site_name": string | null;
          "summary": string | null;
          "summary_model": string | null;
          "summary_prompt": string | null;
          "tenant_id": string;
          "text": string;
          "title": string;
          "trace_id": string | null;
          "updated_at": string;
          "words": number;
        };
        ComputedFields: never;
        Insert: {
          "byline"?: string | null;
          "created_at"?: string;
          "excerpt"?: string | null;
          "id"?: string;
          "language"?: string | null;
          "page_id": string;
          "published_at"?: string | null;
          "site_name"?: string | null;
          "summary"?: string | null;
          "summary_model"?: string | null;
          "summary_prompt"?: string | null;
          "tenant_id"?: string;
          "text"?: string;
          "title"?: string;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "words"?: number;
        };
        Update: {
          "byline"?: string | null;
          "created_at"?: string;
          "excerpt"?: string | null;
          "id"?: string;
          "language"?: string | null;
          "page_id"?: string;
          "published_at"?: string | null;
          "site_name"?: string | null;
          "summary"?: string | null;
          "summary_model"?: string | null;
          "summary_prompt"?: string | null;
          "tenant_id"?: string;
          "text"?: string;
          "title"?: string;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "words"?: number;
        };
        Relationships: [
          {
            foreignKeyName: "articles_page_id_fkey";
            columns: ["page_id"];
            isOneToOne: false;
            referencedRelation: "crawl_pages";
            referencedColumns: ["id"];
          },
        ];
      };
      "chat_shares": {
        Row: {
          "chat_id": string;
          "created_at": string;
          "expires_at": string | null;
          "id": string;
          "snapshot": NonNullable<Json>;
          "token_hash": string;
        };
        ComputedFields: never;
        Insert: {
          "chat_id": string;
          "created_at"?: string;
          "expires_at"?: string | null;
          "id"?: string;
          "snapshot": NonNullable<Json>;
          "token_hash": string;
        };
        Update: {
          "chat_id"?: string;
          "created_at"?: string;
          "expires_at"?: string | null;
          "id"?: string;
          "snapshot"?: NonNullable<Json>;
          "token_hash"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "chat_shares_chat_id_fkey";
            columns: ["chat_id"];
            isOneToOne: false;
            referencedRelation: "chats";
            referencedColumns: ["id"];
          },
        ];
      };
      "chats": {
        Row: {
          "archived_at": string | null;
          "consumer_id": string | null;
          "created_at": string;
          "deleted_at": string | null;
          "description": string | null;
          "expires_at": string | null;
          "id": string;
          "leaf_before": string | null;
          "leaf_id": string | null;
          "messages_count": number;
          "metadata": NonNullable<Json>;
          "owner": string | null;
          "stored_bytes": number;
          "title": string | null;
          "updated_at": string;
          "user_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "archived_at"?: string | null;
          "consumer_id"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "description"?: string | null;
          "expires_at"?: string | null;
          "id"?: string;
          "leaf_before"?: string | null;
          "leaf_id"?: string | null;
          "messages_count"?: number;
          "metadata"?: NonNullable<Json>;
          "owner"?: string | null;
          "stored_bytes"?: number;
          "title"?: string | null;
          "updated_at"?: string;
          "user_id"?: string | null;
        };
        Update: {
          "archived_at"?: string | null;
          "consumer_id"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "description"?: string | null;
          "expires_at"?: string | null;
          "id"?: string;
          "leaf_before"?: string | null;
          "leaf_id"?: string | null;
          "messages_count"?: number;
          "metadata"?: NonNullable<Json>;
          "owner"?: string | null;
          "stored_bytes"?: number;
          "title"?: string | null;
          "updated_at"?: string;
          "user_id"?: string | null;
        };
        Relationships: [];
      };
      "crawl_pages": {
        Row: {
          "cache_policy": Json | null;
          "canonical_rules": number;
          "canonical_url": string;
          "charset": string | null;
          "created_at": string;
          "domain": string;
          "etag": string | null;
          "expires_at": string | null;
          "facts_sha256": string | null;
          "failures": number;
          "fetched_at": string | null;
          "fetches": number;
          "final_url": string | null;
          "held_by": string | null;
          "held_until": string | null;
          "html_sha256": string | null;
          "id": string;
          "job_id": string | null;
          "last_modified": string | null;
          "mime_type": string | null;
          "reason": string | null;
          "size_bytes": number | null;
          "state": string;
          "status": number | null;
          "tenant_id": string;
          "title": string | null;
          "trace_id": string | null;
          "updated_at": string;
          "url": string;
          "used_at": string;
        };
        ComputedFields: never;
        Insert: {
          "cache_policy"?: Json | null;
          "canonical_rules"?: number;
          "canonical_url": string;
          "charset"?: string | null;
          "created_at"?: string;
          "domain"?: string;
          "etag"?: string | null;
          "expires_at"?: string | null;
          "facts_sha256"?: string | null;
          "failures"?: number;
          "fetched_at"?: string | null;
          "fetches"?: number;
          "final_url"?: string | null;
          "held_by"?: string | null;
          "held_until"?: string | null;
          "html_sha256"?: string | null;
          "id"?: string;
          "job_id"?: string | null;
          "last_modified"?: string | null;
          "mime_type"?: string | null;
          "reason"?: string | null;
          "size_bytes"?: number | null;
          "state"?: string;
          "status"?: number | null;
          "tenant_id"?: string;
          "title"?: string | null;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "url": string;
          "used_at"?: string;
        };
        Update: {
          "cache_policy"?: Json | null;
          "canonical_rules"?: number;
          "canonical_url"?: string;
          "charset"?: string | null;
          "created_at"?: string;
          "domain"?: string;
          "etag"?: string | null;
          "expires_at"?: string | null;
          "facts_sha256"?: string | null;
          "failures"?: number;
          "fetched_at"?: string | null;
          "fetches"?: number;
          "final_url"?: string | null;
          "held_by"?: string | null;
          "held_until"?: string | null;
          "html_sha256"?: string | null;
          "id"?: string;
          "job_id"?: string | null;
          "last_modified"?: string | null;
          "mime_type"?: string | null;
          "reason"?: string | null;
          "size_bytes"?: number | null;
          "state"?: string;
          "status"?: number | null;
          "tenant_id"?: string;
          "title"?: string | null;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "url"?: string;
          "used_at"?: string;
        };
        Relationships: [];
      };
      "google_ai_api_keys": {
        Row: {
          "blocked_reason": string | null;
          "blocked_until": string | null;
          "created_at": string | null;
          "env_var_name": string | null;
          "id": string;
          "is_active": boolean | null;
          "key_alias": string | null;
          "notes": string | null;
          "priority": number | null;
          "provider": string | null;
          "quota_key": string | null;
          "quota_project": string | null;
        };
        ComputedFields: never;
        Insert: {
          "blocked_reason"?: string | null;
          "blocked_until"?: string | null;
          "created_at"?: string | null;
          "env_var_name"?: string | null;
          "id"?: string;
          "is_active"?: boolean | null;
          "key_alias"?: string | null;
          "notes"?: string | null;
          "priority"?: number | null;
          "provider"?: string | null;
          "quota_key"?: never;
          "quota_project"?: string | null;
        };
        Update: {
          "blocked_reason"?: string | null;
          "blocked_until"?: string | null;
          "created_at"?: string | null;
          "env_var_name"?: string | null;
          "id"?: string;
          "is_active"?: boolean | null;
          "key_alias"?: string | null;
          "notes"?: string | null;
          "priority"?: number | null;
          "provider"?: string | null;
          "quota_key"?: never;
          "quota_project"?: string | null;
        };
        Relationships: [];
      };
      "google_ai_maintenance_log": {
        Row: {
          "completed_at": string | null;
          "created_at": string | null;
          "deleted_count": number | null;
          "details": Json | null;
          "id": number;
          "operation": string | null;
          "started_at": string | null;
          "status": string | null;
          "tables_affected": (string)[] | null;
        };
        ComputedFields: never;
        Insert: {
          "completed_at"?: string | null;
          "created_at"?: string | null;
          "deleted_count"?: number | null;
          "details"?: Json | null;
          "id"?: number;
          "operation"?: string | null;
          "started_at"?: string | null;
          "status"?: string | null;
          "tables_affected"?: (string)[] | null;
        };
        Update: {
          "completed_at"?: string | null;
          "created_at"?: string | null;
          "deleted_count"?: number | null;
          "details"?: Json | null;
          "id"?: number;
          "operation"?: string | null;
          "started_at"?: string | null;
          "status"?: string | null;
          "tables_affected"?: (string)[] | null;
        };
        Relationships: [];
      };
      "google_ai_model_limits": {
        Row: {
          "batch_floor": number;
          "created_at": string | null;
          "estimate_ceiling": number;
          "estimate_factor": number;
          "id": number;
          "image_tokens": number;
          "interactive_floor": number;
          "interactive_reserve": number;
          "interactive_reserve_day": number;
          "is_active": boolean;
          "max_output_tokens": number | null;
          "model": string;
          "provider": string;
          "replaced_by": string | null;
          "rpd": number | null;
          "rpm": number | null;
          "supports_json": boolean;
          "supports_system": boolean;
          "supports_thinking": boolean;
          "supports_tools": boolean;
          "tpm": number | null;
          "updated_at": string | null;
        };
        ComputedFields: never;
        Insert: {
          "batch_floor"?: number;
          "created_at"?: string | null;
          "estimate_ceiling"?: number;
          "estimate_factor"?: number;
          "id"?: number;
          "image_tokens"?: number;
          "interactive_floor"?: number;
          "interactive_reserve"?: number;
          "interactive_reserve_day"?: number;
          "is_active"?: boolean;
          "max_output_tokens"?: number | null;
          "model": string;
          "provider"?: string;
          "replaced_by"?: string | null;
          "rpd"?: number | null;
          "rpm"?: number | null;
          "supports_json"?: boolean;
          "supports_system"?: boolean;
          "supports_thinking"?: boolean;
          "supports_tools"?: boolean;
          "tpm"?: number | null;
          "updated_at"?: string | null;
        };
        Update: {
          "batch_floor"?: number;
          "created_at"?: string | null;
          "estimate_ceiling"?: number;
          "estimate_factor"?: number;
          "id"?: number;
          "image_tokens"?: number;
          "interactive_floor"?: number;
          "interactive_reserve"?: number;
          "interactive_reserve_day"?: number;
          "is_active"?: boolean;
          "max_output_tokens"?: number | null;
          "model"?: string;
          "provider"?: string;
          "replaced_by"?: string | null;
          "rpd"?: number | null;
          "rpm"?: number | null;
          "supports_json"?: boolean;
          "supports_system"?: boolean;
          "supports_thinking"?: boolean;
          "supports_tools"?: boolean;
          "tpm"?: number | null;
          "updated_at"?: string | null;
        };
        Relationships: [];
      };
      "google_ai_usage_counters": {
        Row: {
          "api_key_id": string | null;
          "day_bucket": string | null;
          "id": number;
          "minute_bucket": string | null;
          "model": string | null;
          "rpd_used": number | null;
          "rpm_used": number | null;
          "tpm_used": number | null;
          "updated_at": string | null;
        };
        ComputedFields: never;
        Insert: {
          "api_key_id"?: string | null;
          "day_bucket"?: string | null;
          "id"?: number;
          "minute_bucket"?: string | null;
          "model"?: string | null;
          "rpd_used"?: number | null;
          "rpm_used"?: number | null;
          "tpm_used"?: number | null;
          "updated_at"?: string | null;
        };
        Update: {
          "api_key_id"?: string | null;
          "day_bucket"?: string | null;
          "id"?: number;
          "minute_bucket"?: string | null;
          "model"?: string | null;
          "rpd_used"?: number | null;
          "rpm_used"?: number | null;
          "tpm_used"?: number | null;
          "updated_at"?: string | null;
        };
        Relationships: [];
      };
      "graph_edges": {
        Row: {
          "at": string;
          "from_id": number;
          "id": number;
          "kind": string;
          "properties": NonNullable<Json>;
          "tenant_id": string;
          "to_id": number;
          "trace_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "at": string;
          "from_id": number;
          "id"?: never;
          "kind": string;
          "properties"?: NonNullable<Json>;
          "tenant_id": string;
          "to_id": number;
          "trace_id"?: string | null;
        };
        Update: {
          "at"?: string;
          "from_id"?: number;
          "id"?: never;
          "kind"?: string;
          "properties"?: NonNullable<Json>;
          "tenant_id"?: string;
          "to_id"?: number;
          "trace_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "graph_edges_from_id_fkey";
            columns: ["from_id"];
            isOneToOne: false;
            referencedRelation: "graph_nodes";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "graph_edges_to_id_fkey";
            columns: ["to_id"];
            isOneToOne: false;
            referencedRelation: "graph_nodes";
            referencedColumns: ["id"];
          },
        ];
      };
      "graph_nodes": {
        Row: {
          "at": string;
          "id": number;
          "key": string;
          "kind": string;
          "properties": NonNullable<Json>;
          "tenant_id": string;
          "trace_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "at": string;
          "id"?: never;
          "key": string;
          "kind": string;
          "properties"?: NonNullable<Json>;
          "tenant_id": string;
          "trace_id"?: string | null;
        };
        Update: {
          "at"?: string;
          "id"?: never;
          "key"?: string;
          "kind"?: string;
          "properties"?: NonNullable<Json>;
          "tenant_id"?: string;
          "trace_id"?: string | null;
        };
        Relationships: [];
      };
      "media_objects": {
        Row: {
          "address_until": string | null;
          "came_through": boolean;
          "content_encoding": string | null;
          "counts_as": string;
          "expires_at": string | null;
          "file_sha256": string;
          "first_seen_at": string | null;
          "kind": string;
          "last_seen_at": string | null;
          "metadata": NonNullable<Json>;
          "mime_type": string | null;
          "missing_since": string | null;
          "proof_at": string | null;
          "proof_tries": number;
          "refs_count": number;
          "s3_key": string | null;
          "size_bytes": number | null;
          "state": string;
          "stored_bytes": number | null;
          "stored_in": string;
          "tenant_id": string;
        };
        ComputedFields: never;
        Insert: {
          "address_until"?: string | null;
          "came_through"?: boolean;
          "content_encoding"?: string | null;
          "counts_as"?: string;
          "expires_at"?: string | null;
          "file_sha256": string;
          "first_seen_at"?: string | null;
          "kind"?: string;
          "last_seen_at"?: string | null;
          "metadata"?: NonNullable<Json>;
          "mime_type"?: string | null;
          "missing_since"?: string | null;
          "proof_at"?: string | null;
          "proof_tries"?: number;
          "refs_count"?: number;
          "s3_key"?: string | null;
          "size_bytes"?: number | null;
          "state"?: string;
          "stored_bytes"?: number | null;
          "stored_in"?: string;
          "tenant_id"?: string;
        };
        Update: {
          "address_until"?: string | null;
          "came_through"?: boolean;
          "content_encoding"?: string | null;
          "counts_as"?: string;
          "expires_at"?: string | null;
          "file_sha256"?: string;
          "first_seen_at"?: string | null;
          "kind"?: string;
          "last_seen_at"?: string | null;
          "metadata"?: NonNullable<Json>;
          "mime_type"?: string | null;
          "missing_since"?: string | null;
          "proof_at"?: string | null;
          "proof_tries"?: number;
          "refs_count"?: number;
          "s3_key"?: string | null;
          "size_bytes"?: number | null;
          "state"?: string;
          "stored_bytes"?: number | null;
          "stored_in"?: string;
          "tenant_id"?: string;
        };
        Relationships: [];
      };
      "message_images": {
        Row: {
          "created_at": string;
          "description": string | null;
          "file_sha256": string | null;
          "file_size": number | null;
          "height": number | null;
          "id": string;
          "image_name": string | null;
          "image_type": string | null;
          "message_id": string;
          "s3_path": string | null;
          "s3_url": string | null;
          "tenant_id": string | null;
          "width": number | null;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "description"?: string | null;
          "file_sha256"?: string | null;
          "file_size"?: number | null;
          "height"?: number | null;
          "id"?: string;
          "image_name"?: string | null;
          "image_type"?: string | null;
          "message_id": string;
          "s3_path"?: string | null;
          "s3_url"?: string | null;
          "tenant_id"?: string | null;
          "width"?: number | null;
        };
        Update: {
          "created_at"?: string;
          "description"?: string | null;
          "file_sha256"?: string | null;
          "file_size"?: number | null;
          "height"?: number | null;
          "id"?: string;
          "image_name"?: string | null;
          "image_type"?: string | null;
          "message_id"?: string;
          "s3_path"?: string | null;
          "s3_url"?: string | null;
          "tenant_id"?: string | null;
          "width"?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "message_images_message_id_fkey";
            columns: ["message_id"];
            isOneToOne: false;
            referencedRelation: "messages";
            referencedColumns: ["id"];
          },
        ];
      };
      "messages": {
        Row: {
          "chat_id": string;
          "client_id": string | null;
          "content": string;
          "created_at": string;
          "feedback": string | null;
          "id": string;
          "message_type": string;
          "parent_id": string | null;
          "parts": Json | null;
          "request_id": string | null;
          "role": string;
          "search": unknown;
          "state": string;
          "usage": Json | null;
        };
        ComputedFields: never;
        Insert: {
          "chat_id": string;
          "client_id"?: string | null;
          "content"?: string;
          "created_at"?: string;
          "feedback"?: string | null;
          "id"?: string;
          "message_type"?: string;
          "parent_id"?: string | null;
          "parts"?: Json | null;
          "request_id"?: string | null;
          "role"?: string;
          "search"?: never;
          "state"?: string;
          "usage"?: Json | null;
        };
        Update: {
          "chat_id"?: string;
          "client_id"?: string | null;
          "content"?: string;
          "created_at"?: string;
          "feedback"?: string | null;
          "id"?: string;
          "message_type"?: string;
          "parent_id"?: string | null;
          "parts"?: Json | null;
          "request_id"?: string | null;
          "role"?: string;
          "search"?: never;
          "state"?: string;
          "usage"?: Json | null;
        };
        Relationships: [
          {
            foreignKeyName: "messages_chat_id_fkey";
            columns: ["chat_id"];
            isOneToOne: false;
            referencedRelation: "chats";
            referencedColumns: ["id"];
          },
        ];
      };
      "post_enrichment": {
        Row: {
          "analyst": string | null;
          "analyzed_at": string | null;
          "confidence": number | null;
          "created_at": string;
          "decision_id": number | null;
          "file_sha256": string | null;
          "from_cache": boolean;
          "id": string;
          "input_tokens": number;
          "is_meme": boolean | null;
          "job_id": string | null;
          "kind": string;
          "labels": (string)[];
          "model": string | null;
          "nsfw": boolean | null;
          "objects": NonNullable<Json>;
          "ocr_text": string | null;
          "output_tokens": number;
          "post_id": string;
          "prompt_version": number | null;
          "provider": string | null;
          "raw_text": string | null;
          "reason": string | null;
          "resolution": string | null;
          "run_no": number;
          "same_as": string | null;
          "scene": string | null;
          "schema_version": number | null;
          "search": unknown;
          "status": string;
          "tenant_id": string;
          "tokens": number;
          "trace_id": string | null;
          "updated_at": string;
          "vision_description": string | null;
        };
        ComputedFields: never;
        Insert: {
          "analyst"?: string | null;
          "analyzed_at"?: string | null;
          "confidence"?: number | null;
          "created_at"?: string;
          "decision_id"?: number | null;
          "file_sha256"?: string | null;
          "from_cache"?: boolean;
          "id"?: string;
          "input_tokens"?: number;
          "is_meme"?: boolean | null;
          "job_id"?: string | null;
          "kind"?: string;
          "labels"?: (string)[];
          "model"?: string | null;
          "nsfw"?: boolean | null;
          "objects"?: NonNullable<Json>;
          "ocr_text"?: string | null;
          "output_tokens"?: number;
          "post_id": string;
          "prompt_version"?: number | null;
          "provider"?: string | null;
          "raw_text"?: string | null;
          "reason"?: string | null;
          "resolution"?: string | null;
          "run_no"?: number;
          "same_as"?: string | null;
          "scene"?: string | null;
          "schema_version"?: number | null;
          "search"?: never;
          "status"?: string;
          "tenant_id"?: string;
          "tokens"?: number;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "vision_description"?: string | null;
        };
        Update: {
          "analyst"?: string | null;
          "analyzed_at"?: string | null;
          "confidence"?: number | null;
          "created_at"?: string;
          "decision_id"?: number | null;
          "file_sha256"?: string | null;
          "from_cache"?: boolean;
          "id"?: string;
          "input_tokens"?: number;
          "is_meme"?: boolean | null;
          "job_id"?: string | null;
          "kind"?: string;
          "labels"?: (string)[];
          "model"?: string | null;
          "nsfw"?: boolean | null;
          "objects"?: NonNullable<Json>;
          "ocr_text"?: string | null;
          "output_tokens"?: number;
          "post_id"?: string;
          "prompt_version"?: number | null;
          "provider"?: string | null;
          "raw_text"?: string | null;
          "reason"?: string | null;
          "resolution"?: string | null;
          "run_no"?: number;
          "same_as"?: string | null;
          "scene"?: string | null;
          "schema_version"?: number | null;
          "search"?: never;
          "status"?: string;
          "tenant_id"?: string;
          "tokens"?: number;
          "trace_id"?: string | null;
          "updated_at"?: string;
          "vision_description"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "post_enrichment_post_id_fkey";
            columns: ["post_id"];
            isOneToOne: false;
            referencedRelation: "posts";
            referencedColumns: ["id"];
          },
        ];
      };
      "post_links": {
        Row: {
          "created_at": string;
          "page_id": string;
          "place": number;
          "post_id": string;
          "tenant_id": string;
          "url": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "page_id": string;
          "place"?: number;
          "post_id": string;
          "tenant_id"?: string;
          "url"?: string;
        };
        Update: {
          "created_at"?: string;
          "page_id"?: string;
          "place"?: number;
          "post_id"?: string;
          "tenant_id"?: string;
          "url"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "post_links_page_id_fkey";
            columns: ["page_id"];
            isOneToOne: false;
            referencedRelation: "crawl_pages";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "post_links_post_id_fkey";
            columns: ["post_id"];
            isOneToOne: false;
            referencedRelation: "posts";
            referencedColumns: ["id"];
          },
        ];
      };
      "post_media_map": {
        Row: {
          "created_at": string;
          "file_sha256": string;
          "place": number;
          "post_id": string;
          "tenant_id": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "file_sha256": string;
          "place"?: number;
          "post_id": string;
          "tenant_id"?: string;
        };
        Update: {
          "created_at"?: string;
          "file_sha256"?: string;
          "place"?: number;
          "post_id"?: string;
          "tenant_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "post_media_map_post_id_fkey";
            columns: ["post_id"];
            isOneToOne: false;
            referencedRelation: "posts";
            referencedColumns: ["id"];
          },
        ];
      };
      "posts": {
        Row: {
          "created_at": string;
          "external_id": string | null;
          "id": string;
          "metadata": NonNullable<Json>;
          "published_at": string | null;
          "source": string;
          "tenant_id": string;
          "text": string;
          "trace_id": string | null;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "external_id"?: string | null;
          "id"?: string;
          "metadata"?: NonNullable<Json>;
          "published_at"?: string | null;
          "source"?: string;
          "tenant_id"?: string;
          "text"?: string;
          "trace_id"?: string | null;
          "updated_at"?: string;
        };
        Update: {
          "created_at"?: string;
          "external_id"?: string | null;
          "id"?: string;
          "metadata"?: NonNullable<Json>;
          "published_at"?: string | null;
          "source"?: string;
          "tenant_id"?: string;
          "text"?: string;
          "trace_id"?: string | null;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "provider_configs": {
        Row: {
          "api_key_encrypted": string | null;
          "checked_at": string | null;
          "key_fingerprint": string | null;
          "key_last_four": string | null;
          "model": string;
          "models_cache": NonNullable<Json>;
          "models_cache_updated_at": string | null;
          "provider_kind": string;
          "quota_project": string | null;
          "settings": NonNullable<Json>;
          "stage_type": string;
          "status": string;
          "status_reason": string | null;
          "updated_at": string;
          "updated_by": string;
        };
        ComputedFields: never;
        Insert: {
          "api_key_encrypted"?: string | null;
          "checked_at"?: string | null;
          "key_fingerprint"?: string | null;
          "key_last_four"?: string | null;
          "model": string;
          "models_cache"?: NonNullable<Json>;
          "models_cache_updated_at"?: string | null;
          "provider_kind": string;
          "quota_project"?: string | null;
          "settings"?: NonNullable<Json>;
          "stage_type": string;
          "status"?: string;
          "status_reason"?: string | null;
          "updated_at"?: string;
          "updated_by"?: string;
        };
        Update: {
          "api_key_encrypted"?: string | null;
          "checked_at"?: string | null;
          "key_fingerprint"?: string | null;
          "key_last_four"?: string | null;
          "model"?: string;
          "models_cache"?: NonNullable<Json>;
          "models_cache_updated_at"?: string | null;
          "provider_kind"?: string;
          "quota_project"?: string | null;
          "settings"?: NonNullable<Json>;
          "stage_type"?: string;
          "status"?: string;
          "status_reason"?: string | null;
          "updated_at"?: string;
          "updated_by"?: string;
        };
        Relationships: [];
      };
      "search_results": {
        Row: {
          "block_id": string | null;
          "block_text": string | null;
          "chat_id": string;
          "coords_norm": Json | null;
          "coords_px": Json | null;
          "created_at": string;
          "id": string;
          "message_id": string | null;
          "page_number": number | null;
        };
        ComputedFields: never;
        Insert: {
          "block_id"?: string | null;
          "block_text"?: string | null;
          "chat_id": string;
          "coords_norm"?: Json | null;
          "coords_px"?: Json | null;
          "created_at"?: string;
          "id"?: string;
          "message_id"?: string | null;
          "page_number"?: number | null;
        };
        Update: {
          "block_id"?: string | null;
          "block_text"?: string | null;
          "chat_id"?: string;
          "coords_norm"?: Json | null;
          "coords_px"?: Json | null;
          "created_at"?: string;
          "id"?: string;
          "message_id"?: string | null;
          "page_number"?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "search_results_chat_id_fkey";
            columns: ["chat_id"];
            isOneToOne: false;
            referencedRelation: "chats";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "search_results_message_id_fkey";
            columns: ["message_id"];
            isOneToOne: false;
            referencedRelation: "messages";
            referencedColumns: ["id"];
          },
        ];
      };
      "token_usage": {
        Row: {
          "completion_tokens": number | null;
          "id": number;
          "meta": Json | null;
          "model": string | null;
          "prompt_tokens": number | null;
          "request_id": string | null;
          "total_tokens": number | null;
          "ts": string | null;
        };
        ComputedFields: never;
        Insert: {
          "completion_tokens"?: number | null;
          "id"?: number;
          "meta"?: Json | null;
          "model"?: string | null;
          "prompt_tokens"?: number | null;
          "request_id"?: string | null;
          "total_tokens"?: number | null;
          "ts"?: string | null;
        };
        Update: {
          "completion_tokens"?: number | null;
          "id"?: number;
          "meta"?: Json | null;
          "model"?: string | null;
          "prompt_tokens"?: number | null;
          "request_id"?: string | null;
          "total_tokens"?: number | null;
          "ts"?: string | null;
        };
        Relationships: [];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      "eve_admin_chat": { Args: { "after"?: Json; "at_most"?: number; "chat_id": string }; Returns: Json };
      "eve_admin_chats": { Args: { "after"?: Json; "at_most"?: number; "by"?: Json }; Returns: Json };
      "eve_administrator": { Args: { "user_id": string }; Returns: Json };
      "eve_alert_acknowledge": { Args: { "actor": string; "id": number }; Returns: Json };
      "eve_alert_claim": { Args: { "channel": string; "lease_ms"?: number }; Returns: Json };
      "eve_alert_close": { Args: { "id": number }; Returns: Json };
      "eve_alert_detail": { Args: { "id": number }; Returns: Json };
      "eve_alert_done": {
        Args: {
          "delivery_id": number;
          "error"?: string;
          "retry_after_ms"?: number;
          "succeeded": boolean;
          "whole_channel"?: boolean;
        };
        Returns: Json;
      };
      "eve_alert_list": {
        Args: { "at_most"?: number; "before"?: number; "kind"?: string; "state"?: string };
        Returns: Json;
      };
      "eve_alert_secrets": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_alerts_evaluate": { Args: { "missing_secrets"?: (string)[] }; Returns: Json };
      "eve_authenticate_consumer": {
        Args: { "address"?: string; "key_id": string; "place"?: string; "proof": string };
        Returns: Json;
      };
      "eve_bad_requests": {
        Args: { "at_most"?: number; "consumer"?: string; "since"?: string; "until"?: string };
        Returns: Json;
      };
      "eve_batch": {
        Args: { "api"?: string; "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_batch_add": {
        Args: { "id": string; "lines": Json; "models": (string)[]; "total": number };
        Returns: Json;
      };
      "eve_batch_cancel": {
        Args: {
          "api"?: string;
          "at_most"?: number;
          "consumer_id"?: string;
          "id": string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_batch_create": {
        Args: {
          "api"?: string;
          "consumer_id"?: string;
          "endpoint": string;
          "id": string;
          "input_file_id": string;
          "is_inline"?: boolean;
          "metadata"?: Json;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_batch_delete": {
        Args: { "api"?: string; "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_batch_file": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_batch_file_delete": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_batch_file_piece": {
        Args: { "consumer_id"?: string; "from_place"?: number; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_batch_file_save": {
        Args: {
          "bytes": number;
          "consumer_id"?: string;
          "filename": string;
          "id": string;
          "is_listed"?: boolean;
          "mime_type"?: string;
          "purpose"?: string;
          "sha256": string;
          "tenant_id": string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_batch_file_tenant": { Args: { "consumer_id"?: string; "token_id"?: string }; Returns: Json };
      "eve_batch_files": {
        Args: {
          "after"?: string;
          "at_most"?: number;
          "consumer_id"?: string;
          "oldest_first"?: boolean;
          "purpose"?: string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_batch_input": { Args: { "id": string }; Returns: Json };
      "eve_batch_reject": { Args: { "errors": Json; "id": string }; Returns: Json };
      "eve_batch_search": { Args: { "at_most"?: number; "before"?: number }; Returns: Json };
      "eve_batches": {
        Args: {
          "after"?: string;
          "api"?: string;
          "at_most"?: number;
          "consumer_id"?: string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_cache_begin": {
        Args: {
          "consumer_id"?: string;
          "endpoint": string;
          "key_hash": string;
          "models": (string)[];
          "request_id"?: string;
          "token_id"?: string;
          "ttl_s"?: number;
          "waited"?: boolean;
        };
        Returns: Json;
      };
      "eve_cache_consumers": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_cache_flush": {
        Args: { "consumer"?: string; "everything"?: boolean; "key"?: string; "model"?: string };
        Returns: Json;
      };
      "eve_cache_keep": {
        Args: {
          "answer"?: string;
          "bytes": number;
          "id": string;
          "input_tokens"?: number;
          "media"?: string;
          "model": string;
          "output_tokens"?: number;
          "requested_model": string;
        };
        Returns: Json;
      };
      "eve_cache_limit": { Args: { "max_bytes": number }; Returns: Json };
      "eve_cache_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_cache_release": { Args: { "id": string }; Returns: Json };
      "eve_cache_renew": { Args: { "id": string }; Returns: Json };
      "eve_cache_set": { Args: { "by_tenant"?: boolean; "name": string; "ttl_s"?: number }; Returns: Json };
      "eve_cache_set_seen": {
        Args: { "by_tenant"?: boolean; "name": string; "seen": Json; "ttl_s"?: number };
        Returns: Json;
      };
      "eve_cache_stats": {
        Args: { "consumer"?: string; "model"?: string; "since"?: string; "until"?: string };
        Returns: Json;
      };
      "eve_cached_content": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_cached_content_change": {
        Args: {
          "consumer_id"?: string;
          "expires_at"?: string;
          "id": string;
          "resource": Json;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_cached_content_store": { Args: { "consumer_id"?: string; "content": Json }; Returns: Json };
      "eve_cached_contents": {
        Args: { "consumer_id"?: string; "page_after"?: string; "page_size"?: number; "token_id"?: string };
        Returns: Json;
      };
      "eve_capture": { Args: { "answer"?: Json; "prompt": Json; "request_no": number }; Returns: Json };
      "eve_chat": { Args: { "actor": Json; "chat_id": string }; Returns: Json };
      "eve_chat_answer_begin": {
        Args: { "actor": Json; "chat_id": string; "payer"?: string; "question": Json; "request_id": string };
        Returns: Json;
      };
      "eve_chat_answer_end": {
        Args: { "content": string; "message_id": string; "parts"?: Json; "state": string; "usage"?: Json };
        Returns: Json;
      };
      "eve_chat_change": { Args: { "actor": Json; "changes": Json; "chat_id": string }; Returns: Json };
      "eve_chat_create": { Args: { "actor": Json; "chat"?: Json }; Returns: Json };
      "eve_chat_erase": { Args: { "actor": Json; "chat_id": string }; Returns: Json };
      "eve_chat_export": {
        Args: { "actor": Json; "after"?: Json; "at_most"?: number; "chat_id": string };
        Returns: Json;
      };
      "eve_chat_files_left": { Args: { "files": Json; "lease_s"?: number }; Returns: Json };
      "eve_chat_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_chat_realtime": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_chat_search": {
        Args: { "actor": Json; "at_most"?: number; "chat_id"?: string; "query": string; "user_id"?: string };
        Returns: Json;
      };
      "eve_chat_share": {
        Args: {
          "actor": Json;
          "chat_id": string;
          "expires_in_s"?: number;
          "snapshot": Json;
          "token_hash": string;
        };
        Returns: Json;
      };
      "eve_chat_shared": { Args: { "token_hash": string }; Returns: Json };
      "eve_chat_shares": { Args: { "actor": Json; "chat_id": string }; Returns: Json };
      "eve_chat_unshare": { Args: { "actor": Json; "chat_id": string; "share_id": string }; Returns: Json };
      "eve_chats": {
        Args: {
          "actor": Json;
          "after"?: Json;
          "archived"?: boolean;
          "at_most"?: number;
          "deleted"?: boolean;
          "user_id"?: string;
        };
        Returns: Json;
      };
      "eve_connect": { Args: { "project_url": string; "secret_key": string }; Returns: Json };
      "eve_consumer_access": {
        Args: { "name": string; "scopes"?: (string)[]; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_consumer_add": {
        Args: {
          "key_id": string;
          "kind": string;
          "max_class"?: string;
          "models"?: (string)[];
          "name": string;
          "proof": string;
          "requests_per_day"?: number;
          "rpm"?: number;
          "token_ttl_s"?: number;
          "tokens_per_day"?: number;
        };
        Returns: Json;
      };
      "eve_consumer_add_with_access": {
        Args: {
          "key_id": string;
          "kind": string;
          "max_class"?: string;
          "models"?: (string)[];
          "name": string;
          "proof": string;
          "requests_per_day"?: number;
          "rpm"?: number;
          "scopes"?: (string)[];
          "tenant_id"?: string;
          "token_ttl_s"?: number;
          "tokens_per_day"?: number;
        };
        Returns: Json;
      };
      "eve_consumer_change": {
        Args: { "changes"?: Json; "name": string; "scopes"?: (string)[]; "seen": Json; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_consumer_enable": { Args: { "enabled": boolean; "name": string }; Returns: Json };
      "eve_consumer_enable_seen": {
        Args: { "enabled": boolean; "name": string; "seen": Json };
        Returns: Json;
      };
      "eve_consumer_page": {
        Args: { "after"?: string; "at_most"?: number; "search"?: string };
        Returns: Json;
      };
      "eve_consumer_remove": { Args: { "name": string }; Returns: Json };
      "eve_consumer_rotate": { Args: { "grace_s"?: number; "name": string; "proof": string }; Returns: Json };
      "eve_consumer_scope": { Args: { "changes": Json; "name": string }; Returns: Json };
      "eve_consumers": { Args: { "name"?: string }; Returns: Json };
      "eve_count_bad_requests": { Args: { "counts": Json }; Returns: Json };
      "eve_crawl_ask": {
        Args: {
          "actor": Json;
          "class"?: string;
          "mode"?: string;
          "page": Json;
          "tenant_id"?: string;
          "trace_id"?: string;
        };
        Returns: Json;
      };
      "eve_crawl_begin": {
        Args: { "job_id": string; "lease_s": number; "mode": string; "page_id": string };
        Returns: Json;
      };
      "eve_crawl_finish": {
        Args: { "job_id": string; "outcome": Json; "page_id": string; "trace_id"?: string };
        Returns: Json;
      };
      "eve_crawl_job": { Args: { "job_id": string }; Returns: Json };
      "eve_crawl_links": { Args: { "links": Json; "post_id": string; "trace_id"?: string }; Returns: Json };
      "eve_crawl_page": { Args: { "actor": Json; "id": string }; Returns: Json };
      "eve_crawl_pages": {
        Args: {
          "actor": Json;
          "at_most"?: number;
          "before"?: string;
          "domain"?: string;
          "state"?: string;
          "tenant_id"?: string;
        };
        Returns: Json;
      };
      "eve_crawl_post": { Args: { "post_id": string }; Returns: Json };
      "eve_crawl_release": {
        Args: { "at_most"?: number; "dry_run"?: boolean; "min_age_s": number; "need_bytes"?: number };
        Returns: Json;
      };
      "eve_crawl_robots": { Args: { "origin": string; "saved"?: Json }; Returns: Json };
      "eve_crawl_summarised": {
        Args: {
          "actor": Json;
          "id": string;
          "model": string;
          "prompt": string;
          "summary": string;
          "text_sha256": string;
        };
        Returns: Json;
      };
      "eve_crawl_turn": {
        Args: { "interval_ms": number; "origin": string; "wait_ms": number };
        Returns: Json;
      };
      "eve_dead_letter": { Args: { "id": number }; Returns: Json };
      "eve_dead_letters": {
        Args: { "at_most"?: number; "before"?: number; "consumer"?: string; "type"?: string };
        Returns: Json;
      };
      "eve_dead_letters_drop": { Args: { "consumer"?: string; "ids"?: (number)[] }; Returns: Json };
      "eve_dead_letters_replay": { Args: { "consumer"?: string; "ids"?: (number)[] }; Returns: Json };
      "eve_doctor": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_event_done": {
        Args: {
          "delivery_id": number;
          "draw"?: number;
          "duration_ms"?: number;
          "error"?: string;
          "lease": string;
          "rests"?: boolean;
          "result": string;
          "retry_after_ms"?: number;
          "status"?: number;
        };
        Returns: Json;
      };
      "eve_event_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_events_claim": {
        Args: { "at_most"?: number; "kinds": (string)[]; "lease_ms"?: number };
        Returns: Json;
      };
      "eve_find": { Args: { "id": string }; Returns: Json };
      "eve_give_back": {
        Args: {
          "attempt"?: number;
          "call_id": string;
          "consumer_id"?: string;
          "deadline": string;
          "request_id": string;
        };
        Returns: Json;
      };
      "eve_graph_deliver": { Args: { "at_most"?: number }; Returns: Json };
      "eve_graph_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_graph_neighbours": {
        Args: {
          "actor": Json;
          "at_most"?: number;
          "depth"?: number;
          "key": string;
          "kind": string;
          "kinds"?: (string)[];
          "tenant_id"?: string;
        };
        Returns: Json;
      };
      "eve_graph_nodes": {
        Args: {
          "actor": Json;
          "at_most"?: number;
          "before"?: number;
          "kind": string;
          "prefix"?: string;
          "tenant_id"?: string;
        };
        Returns: Json;
      };
      "eve_graph_path": {
        Args: {
          "actor": Json;
          "depth"?: number;
          "from_key": string;
          "from_kind": string;
          "tenant_id"?: string;
          "to_key": string;
          "to_kind": string;
        };
        Returns: Json;
      };
      "eve_graph_related": {
        Args: { "actor": Json; "at_most"?: number; "key": string; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_graph_sink_done": {
        Args: {
          "deliveries"?: Json;
          "error"?: string;
          "name": string;
          "rest_ms"?: number;
          "schema_version"?: number;
          "skipped"?: number;
          "sync_after"?: number;
          "sync_ended"?: boolean;
          "token": number;
          "written"?: number;
        };
        Returns: Json;
      };
      "eve_graph_sink_open": { Args: { "is_set_up": boolean; "name": string }; Returns: Json };
      "eve_graph_sink_read": { Args: { "nodes": (string)[] }; Returns: Json };
      "eve_graph_sink_take": {
        Args: { "at_most"?: number; "lease_ms"?: number; "name": string };
        Returns: Json;
      };
      "eve_graph_stats": { Args: { "actor": Json; "tenant_id"?: string }; Returns: Json };
      "eve_graph_sync": {
        Args: { "actor": Json; "after"?: Json; "name": string; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_issue_token": {
        Args: {
          "address"?: string;
          "class"?: string;
          "consumer"?: string;
          "key_id"?: string;
          "models"?: (string)[];
          "proof"?: string;
          "requests_budget"?: number;
          "scopes"?: (string)[];
          "tokens_budget"?: number;
          "ttl_s"?: number;
        };
        Returns: Json;
      };
      "eve_job": { Args: { "consumer_id"?: string; "id": string; "token_id"?: string }; Returns: Json };
      "eve_job_begin": {
        Args: {
          "consumer_id"?: string;
          "id": string;
          "key_name": string;
          "model": string;
          "provider_kind": string;
          "request_id": string;
          "request_no": number;
          "settings"?: Json;
          "stage_type": string;
        };
        Returns: Json;
      };
      "eve_job_content": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_job_detail": { Args: { "id": string }; Returns: Json };
      "eve_job_fail": {
        Args: {
          "code": string;
          "id": string;
          "lease_token": string;
          "message": string;
          "result"?: Json;
          "retry_after_ms"?: number;
          "retryable"?: boolean;
        };
        Returns: Json;
      };
      "eve_job_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_job_note": {
        Args: {
          "content_base64"?: string;
          "error_code"?: string;
          "error_detail"?: string;
          "expires_at"?: string;
          "id": string;
          "mime_type"?: string;
          "result"?: Json;
          "state": string;
          "upstream_id"?: string;
        };
        Returns: Json;
      };
      "eve_job_search": {
        Args: {
          "at_most"?: number;
          "batch_id"?: string;
          "before"?: number;
          "consumer"?: string;
          "kinds"?: (string)[];
          "states"?: (string)[];
        };
        Returns: Json;
      };
      "eve_jobs": {
        Args: {
          "at_most"?: number;
          "batch_id"?: string;
          "before"?: number;
          "consumer_id"?: string;
          "kinds"?: (string)[];
          "states"?: (string)[];
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_jobs_cancel": {
        Args: { "batch_id"?: string; "consumer_id"?: string; "ids"?: (string)[]; "token_id"?: string };
        Returns: Json;
      };
      "eve_jobs_claim": {
        Args: {
          "at_most": number;
          "kinds": (string)[];
          "lease_ms": number;
          "left_ms"?: number;
          "worker_id": string;
        };
        Returns: Json;
      };
      "eve_jobs_complete": { Args: { "results": Json }; Returns: Json };
      "eve_jobs_due": { Args: Record<PropertyKey, never>; Returns: boolean };
      "eve_jobs_of_batch": {
        Args: { "batch_id": string; "consumer_id"?: string; "token_id"?: string };
        Returns: Json;
      };
      "eve_jobs_release": { Args: { "jobs": Json }; Returns: Json };
      "eve_jobs_renew": { Args: { "lease_ms": number; "leases": Json; "worker_id": string }; Returns: Json };
      "eve_jobs_results": {
        Args: {
          "after_place"?: number;
          "at_most"?: number;
          "batch_id": string;
          "consumer_id"?: string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_jobs_submit": {
        Args: { "consumer_id"?: string; "jobs": Json; "token_id"?: string };
        Returns: Json;
      };
      "eve_jobs_sweep": { Args: { "at_most"?: number }; Returns: Json };
      "eve_jobs_tidy": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_jobs_worker_begin": {
        Args: { "lease_ms": number; "place": string; "worker_id": string };
        Returns: Json;
      };
      "eve_jobs_worker_end": { Args: { "worker_id": string }; Returns: Json };
      "eve_key_add": {
        Args: {
          "actor"?: string;
          "alias": string;
          "env_var_name": string;
          "notes"?: string;
          "priority"?: number;
          "quota_project"?: string;
          "secret"?: Json;
        };
        Returns: Json;
      };
      "eve_key_change": {
        Args: { "actor"?: string; "changes": Json; "id": string; "secret"?: Json; "seen": Json };
        Returns: Json;
      };
      "eve_key_checked": {
        Args: {
          "detail"?: string;
          "key_id": string;
          "outcome": string;
          "reason"?: string;
          "secret_hash"?: string;
        };
        Returns: Json;
      };
      "eve_key_checks": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_key_remove": { Args: { "id": string }; Returns: Json };
      "eve_key_secret_changed": { Args: { "key_id": string; "secret_hash": string }; Returns: Json };
      "eve_key_states": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_keys_awaiting_secrets": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_lane_states": { Args: { "model"?: string; "quota_project"?: string }; Returns: Json };
      "eve_limits": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_limits_clear": { Args: { "model"?: string; "quota_project": string }; Returns: Json };
      "eve_limits_clear_seen": {
        Args: { "model": string; "quota_project": string; "seen": Json };
        Returns: Json;
      };
      "eve_limits_set": {
        Args: { "add_models"?: boolean; "changes": Json; "notes"?: string; "quota_project"?: string };
        Returns: Json;
      };
      "eve_log_refused_token": {
        Args: { "address"?: string; "code": string; "place"?: string };
        Returns: Json;
      };
      "eve_maintenance_begin": {
        Args: { "operation": string; "source"?: string; "time_limit_ms"?: number };
        Returns: Json;
      };
      "eve_maintenance_end": {
        Args: {
          "count"?: number;
          "details"?: Json;
          "error"?: string;
          "more"?: boolean;
          "run_id": number;
          "status": string;
          "tables"?: (string)[];
        };
        Returns: Json;
      };
      "eve_maintenance_step": { Args: { "run_id": number }; Returns: Json };
      "eve_media_abilities": { Args: { "store": string }; Returns: Json };
      "eve_media_abilities_save": { Args: { "abilities": Json; "store": string }; Returns: Json };
      "eve_media_alert": { Args: { "kind": string; "message"?: string }; Returns: Json };
      "eve_media_claim": {
        Args: {
          "at_most"?: number;
          "kind"?: string;
          "lease_s"?: number;
          "min_age_s"?: number;
          "need_bytes"?: number;
        };
        Returns: Json;
      };
      "eve_media_claimable": {
        Args: { "kind": string; "min_age_s"?: number; "need_bytes"?: number };
        Returns: Json;
      };
      "eve_media_compare": {
        Args: { "after": string; "listed": Json; "seen_before": string; "until": string };
        Returns: Json;
      };
      "eve_media_comparison": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_media_comparison_save": { Args: { "state"?: Json }; Returns: Json };
      "eve_media_delete": {
        Args: {
          "actor": Json;
          "lease_s"?: number;
          "name": string;
          "ref_id"?: string;
          "ref_kind"?: string;
          "tenant_id": string;
        };
        Returns: Json;
      };
      "eve_media_deleted": { Args: { "items": Json }; Returns: Json };
      "eve_media_failed": {
        Args: { "file_sha256": string; "lease_s"?: number; "reason"?: string; "tenant_id": string };
        Returns: Json;
      };
      "eve_media_find": {
        Args: {
          "actor": Json;
          "name": string;
          "tenant_id": string;
          "unfinished"?: boolean;
          "uses"?: boolean;
        };
        Returns: Json;
      };
      "eve_media_in_s3": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_media_keep_days": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_media_list": {
        Args: {
          "actor": Json;
          "after"?: string;
          "aliases"?: boolean;
          "at_most"?: number;
          "kind"?: string;
          "prefix"?: string;
          "tenant_id": string;
        };
        Returns: Json;
      };
      "eve_media_multipart": {
        Args: {
          "ended"?: string;
          "file_sha256": string;
          "part_bytes": number;
          "tenant_id": string;
          "upload_id": string;
        };
        Returns: Json;
      };
      "eve_media_proof_keep": {
        Args: { "file_sha256": string; "hashed_bytes": number; "state": string; "tenant_id": string };
        Returns: Json;
      };
      "eve_media_recount": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_media_reserve": {
        Args: {
          "actor": Json;
          "address_s"?: number;
          "content_encoding"?: string;
          "file_sha256": string;
          "in_spool"?: boolean;
          "kind": string;
          "links"?: Json;
          "metadata"?: Json;
          "mime_type": string;
          "name": string;
          "size_bytes": number;
          "stored_bytes": number;
          "tenant_id": string;
          "ttl_s"?: number;
        };
        Returns: Json;
      };
      "eve_media_seed": { Args: { "default_tenant"?: string; "limits"?: Json }; Returns: Json };
      "eve_media_spool_delete": { Args: { "keys": (string)[] }; Returns: Json };
      "eve_media_spool_failed": { Args: { "error": string; "key": string; "wait_s": number }; Returns: Json };
      "eve_media_spool_get": { Args: { "key": string; "length"?: number; "start"?: number }; Returns: Json };
      "eve_media_spool_list": {
        Args: { "after"?: string; "at_most"?: number; "prefix"?: string };
        Returns: Json;
      };
      "eve_media_spool_moved": { Args: { "key": string }; Returns: Json };
      "eve_media_spool_moves": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_media_spool_next": { Args: { "lease_s"?: number }; Returns: Json };
      "eve_media_spool_put": {
        Args: {
          "body": string;
          "content_encoding"?: string;
          "content_type": string;
          "key": string;
          "moves"?: boolean;
          "sha256": string;
        };
        Returns: Json;
      };
      "eve_media_stored": {
        Args: {
          "file_sha256": string;
          "links"?: Json;
          "mime_type"?: string;
          "state": string;
          "stored_bytes": number;
          "stored_in"?: string;
          "tenant_id": string;
        };
        Returns: Json;
      };
      "eve_media_unproven": { Args: { "at_most"?: number }; Returns: Json };
      "eve_message_add": { Args: { "actor": Json; "chat_id": string; "message": Json }; Returns: Json };
      "eve_message_feedback": {
        Args: { "actor": Json; "feedback": string; "message_id": string };
        Returns: Json;
      };
      "eve_message_image_add": {
        Args: { "actor": Json; "address": string; "image": Json; "message_id": string };
        Returns: Json;
      };
      "eve_message_images": { Args: { "actor": Json; "message_id": string }; Returns: Json };
      "eve_message_path": {
        Args: { "actor": Json; "at_most"?: number; "chat_id": string; "leaf_id"?: string };
        Returns: Json;
      };
      "eve_messages": {
        Args: { "actor": Json; "after"?: Json; "at_most"?: number; "backwards"?: boolean; "chat_id": string };
        Returns: Json;
      };
      "eve_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_metrics_count": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_model_change": {
        Args: {
          "changes": Json;
          "limits"?: Json;
          "model": string;
          "notes"?: string;
          "quota_project"?: string;
          "seen": Json;
        };
        Returns: Json;
      };
      "eve_model_from_environment": {
        Args: { "env_var_name": string; "model": string; "provider_kind": string };
        Returns: Json;
      };
      "eve_model_rows": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_models": { Args: { "consumer_id"?: string; "token_id"?: string }; Returns: Json };
      "eve_models_compared": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_models_seen": { Args: { "key_id": string; "models": (string)[] }; Returns: Json };
      "eve_now": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_overview": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_post_add": {
        Args: { "actor": Json; "post": Json; "scope"?: string; "trace_id"?: string };
        Returns: Json;
      };
      "eve_post_delete": { Args: { "actor": Json; "post_id": string }; Returns: Json };
      "eve_price_set": {
        Args: {
          "cached_usd"?: number;
          "input_usd"?: number;
          "is_free"?: boolean;
          "model": string;
          "output_usd"?: number;
          "seen"?: Json;
        };
        Returns: Json;
      };
      "eve_prices": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_provider_checked": {
        Args: {
          "actor": string;
          "complete"?: boolean;
          "key_fingerprint": string;
          "models"?: Json;
          "stage_type": string;
          "status"?: string;
          "status_reason"?: string;
        };
        Returns: Json;
      };
      "eve_provider_ciphertexts": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_provider_configs": { Args: { "stage_type"?: string }; Returns: Json };
      "eve_provider_history": {
        Args: { "at_most"?: number; "before_id"?: number; "stage_type"?: string };
        Returns: Json;
      };
      "eve_provider_keys": { Args: { "stage_type"?: string }; Returns: Json };
      "eve_provider_reencrypt": { Args: { "actor": string; "tokens": Json }; Returns: Json };
      "eve_provider_remove": { Args: { "actor": string; "stage_type": string }; Returns: Json };
      "eve_provider_save": {
        Args: {
          "actor": string;
          "api_key_encrypted"?: string;
          "key_fingerprint"?: string;
          "key_last_four"?: string;
          "model": string;
          "models"?: Json;
          "provider_kind": string;
          "quota_project"?: string;
          "remove_key"?: boolean;
          "settings"?: Json;
          "stage_type": string;
          "status"?: string;
          "status_reason"?: string;
        };
        Returns: Json;
      };
      "eve_provider_save_seen": { Args: { "change": Json; "seen": Json }; Returns: Json };
      "eve_provider_seed": { Args: { "configs": Json }; Returns: Json };
      "eve_report": { Args: { "day"?: string }; Returns: Json };
      "eve_request_detail": {
        Args: { "consumer"?: string; "request_id"?: string; "request_no"?: number };
        Returns: Json;
      };
      "eve_request_log": {
        Args: {
          "at_most"?: number;
          "before"?: string;
          "consumer"?: string;
          "error_code"?: string;
          "key"?: string;
          "model"?: string;
          "since"?: string;
          "until"?: string;
        };
        Returns: Json;
      };
      "eve_request_search": {
        Args: {
          "at_most"?: number;
          "before"?: number;
          "consumer"?: string;
          "error_code"?: string;
          "key"?: string;
          "model"?: string;
          "outcome"?: string;
          "request_id"?: string;
          "since"?: string;
          "until"?: string;
        };
        Returns: Json;
      };
      "eve_reserve": {
        Args: {
          "attempt"?: number;
          "avoid_keys"?: (string)[];
          "call_id"?: string;
          "class"?: string;
          "consumer_id"?: string;
          "counted"?: boolean;
          "deadline"?: string;
          "endpoint"?: string;
          "exclude_keys"?: (string)[];
          "lease_ms"?: number;
          "max_output_tokens"?: number;
          "max_wait_ms"?: number;
          "metadata"?: Json;
          "models": (string)[];
          "request_hash"?: string;
          "request_id": string;
          "request_no"?: number;
          "token_id"?: string;
          "tokens": number;
          "trace_id"?: string;
        };
        Returns: Json;
      };
      "eve_reserve_many": { Args: { "calls": Json }; Returns: Json };
      "eve_response": { Args: { "consumer_id"?: string; "id": string; "token_id"?: string }; Returns: Json };
      "eve_response_cancel": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_response_context": {
        Args: {
          "consumer_id"?: string;
          "other_ids"?: (string)[];
          "previous_id": string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_response_create": {
        Args: {
          "consumer_id"?: string;
          "input"?: Json;
          "job": Json;
          "metadata"?: Json;
          "model": string;
          "previous_id"?: string;
          "store": boolean;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_response_delete": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_response_store": {
        Args: { "consumer_id"?: string; "response": Json; "token_id"?: string };
        Returns: Json;
      };
      "eve_rollup": { Args: { "at_most_ms"?: number }; Returns: Json };
      "eve_rollup_rebuild": { Args: { "since"?: string }; Returns: Json };
      "eve_schedule": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_search_results": {
        Args: { "actor": Json; "after"?: Json; "at_most"?: number; "chat_id": string; "message_id"?: string };
        Returns: Json;
      };
      "eve_search_results_add": {
        Args: { "actor": Json; "chat_id": string; "results": Json };
        Returns: Json;
      };
      "eve_settle": {
        Args: {
          "attempt": number;
          "block"?: Json;
          "cached_tokens"?: number;
          "dispatched"?: boolean;
          "error_code"?: string;
          "error_detail"?: string;
          "final"?: boolean;
          "finish_reason"?: string;
          "input_tokens"?: number;
          "latency_ms"?: number;
          "outcome": string;
          "output_tokens"?: number;
          "request_no": number;
          "result"?: Json;
          "thoughts_tokens"?: number;
          "total_tokens"?: number;
          "upstream_status"?: number;
          "usage_estimated"?: boolean;
        };
        Returns: Json;
      };
      "eve_settle_many": { Args: { "settlements": Json }; Returns: Json };
      "eve_stage": { Args: { "stage_type": string }; Returns: Json };
      "eve_stage_credential": { Args: { "name": string }; Returns: Json };
      "eve_stage_from_environment": {
        Args: { "env_var_name"?: string; "model": string; "provider_kind": string; "stage_type": string };
        Returns: Json;
      };
      "eve_stage_keys": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_start_interval": { Args: { "model": string }; Returns: Json };
      "eve_storage_check": {
        Args: {
          "actor": Json;
          "in_spool"?: boolean;
          "kind"?: string;
          "size_bytes": number;
          "tenant_id": string;
        };
        Returns: Json;
      };
      "eve_storage_count": { Args: { "sums": Json }; Returns: Json };
      "eve_storage_growth": { Args: { "actor": Json; "days"?: number }; Returns: Json };
      "eve_storage_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_storage_quota": { Args: { "actor": Json; "tenant_id"?: string }; Returns: Json };
      "eve_storage_stats": { Args: { "actor": Json }; Returns: Json };
      "eve_storage_usage": { Args: { "actor": Json; "tenant_id": string }; Returns: Json };
      "eve_stored_keys": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_sweep": { Args: { "at_most"?: number }; Returns: Json };
      "eve_tail": { Args: { "after"?: Json; "at_most"?: number }; Returns: Json };
      "eve_telegram_apply": {
        Args: {
          "bot_id": number;
          "ends"?: boolean;
          "job_id": string;
          "reason"?: string;
          "said": Json;
          "update_id": number;
        };
        Returns: Json;
      };
      "eve_telegram_begin": {
        Args: { "bot_id": number; "job_id": string; "update_id": number };
        Returns: Json;
      };
      "eve_telegram_connect": {
        Args: {
          "bot_id": number;
          "chats"?: Json;
          "tenant_id"?: string;
          "username"?: string;
          "wanted"?: (string)[];
        };
        Returns: Json;
      };
      "eve_telegram_disconnect": { Args: { "bot_id": number }; Returns: Json };
      "eve_telegram_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_telegram_replay": { Args: { "bot_id": number; "update_ids"?: (number)[] }; Returns: Json };
      "eve_telegram_status": { Args: { "bot_id": number }; Returns: Json };
      "eve_telegram_take": { Args: { "bot_id": number; "updates": Json }; Returns: Json };
      "eve_tenant_add": {
        Args: { "id": string; "is_default"?: boolean; "name"?: string; "storage_limit_bytes"?: number };
        Returns: Json;
      };
      "eve_tenant_change": { Args: { "changes": Json; "id": string }; Returns: Json };
      "eve_tenant_change_seen": { Args: { "changes": Json; "id": string; "seen": Json }; Returns: Json };
      "eve_tenant_member": {
        Args: { "is_member"?: boolean; "tenant_id": string; "user_id": string };
        Returns: Json;
      };
      "eve_tenant_members": { Args: { "at_most"?: number; "tenant_id": string }; Returns: Json };
      "eve_tenant_save": {
        Args: { "id": string; "is_default"?: boolean; "name"?: string; "storage_limit_bytes"?: number };
        Returns: Json;
      };
      "eve_tenants": { Args: { "id"?: string }; Returns: Json };
      "eve_token_revoke": {
        Args: { "consumer"?: string; "reason"?: string; "token_id"?: string };
        Returns: Json;
      };
      "eve_tokens": {
        Args: { "at_most"?: number; "consumer"?: string; "include_ended"?: boolean };
        Returns: Json;
      };
      "eve_traces_done": {
        Args: { "rejected"?: number; "sent": number; "until_at": string; "until_no": number };
        Returns: Json;
      };
      "eve_traces_next": { Args: { "at_most"?: number }; Returns: Json };
      "eve_upload": { Args: { "consumer_id"?: string; "id": string; "token_id"?: string }; Returns: Json };
      "eve_upload_cancel": {
        Args: { "consumer_id"?: string; "id": string; "token_id"?: string };
        Returns: Json;
      };
      "eve_upload_complete": {
        Args: { "consumer_id"?: string; "id": string; "part_ids": (string)[]; "token_id"?: string };
        Returns: Json;
      };
      "eve_upload_create": {
        Args: {
          "bytes": number;
          "consumer_id"?: string;
          "filename": string;
          "id": string;
          "mime_type"?: string;
          "purpose"?: string;
          "tenant_id": string;
          "token_id"?: string;
        };
        Returns: Json;
      };
      "eve_upload_part": {
        Args: {
          "at_byte"?: number;
          "bytes": number;
          "consumer_id"?: string;
          "id": string;
          "sha256": string;
          "token_id"?: string;
          "upload_id": string;
        };
        Returns: Json;
      };
      "eve_usage": {
        Args: {
          "at_most"?: number;
          "by"?: (string)[];
          "consumer"?: string;
          "key"?: string;
          "model"?: string;
          "since"?: string;
          "top"?: number;
          "until"?: string;
        };
        Returns: Json;
      };
      "eve_usage_parts": { Args: { "consumer"?: string; "since": string; "until"?: string }; Returns: Json };
      "eve_vision_begin": {
        Args: {
          "file_sha256": string;
          "job_id": string;
          "lease_s"?: number;
          "post_id": string;
          "tenant_id": string;
        };
        Returns: Json;
      };
      "eve_vision_budgets": { Args: { "actor": Json; "tenant_id"?: string }; Returns: Json };
      "eve_vision_budgets_save": {
        Args: { "actor": Json; "budgets": Json; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_vision_finish": {
        Args: {
          "decision": Json;
          "file_sha256": string;
          "job_id": string;
          "outcome": Json;
          "post_id": string;
          "tenant_id": string;
          "trace_id"?: string;
        };
        Returns: Json;
      };
      "eve_vision_list": {
        Args: { "actor": Json; "at_most"?: number; "tenant_id"?: string; "which"?: string };
        Returns: Json;
      };
      "eve_vision_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_vision_picture": {
        Args: {
          "at_most"?: number;
          "dhash"?: string;
          "fault"?: string;
          "file_sha256": string;
          "height"?: number;
          "mime_type": string;
          "no_dhash"?: string;
          "orientation"?: number;
          "tenant_id": string;
          "width"?: number;
        };
        Returns: Json;
      };
      "eve_vision_policy": { Args: { "actor": Json; "tenant_id"?: string }; Returns: Json };
      "eve_vision_policy_save": {
        Args: { "actor": Json; "policy": Json; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_vision_post": { Args: { "actor": Json; "post_id": string }; Returns: Json };
      "eve_vision_requeue": {
        Args: {
          "actor": Json;
          "class"?: string;
          "file_sha256"?: string;
          "post_id"?: string;
          "tenant_id"?: string;
          "trace_id"?: string;
          "which"?: string;
        };
        Returns: Json;
      };
      "eve_vision_reserve": {
        Args: {
          "call"?: Json;
          "id": string;
          "provider": string;
          "spends_tokens"?: boolean;
          "tenant_id": string;
          "tokens": number;
        };
        Returns: Json;
      };
      "eve_vision_search": {
        Args: { "actor": Json; "at_most"?: number; "label"?: string; "query"?: string; "tenant_id"?: string };
        Returns: Json;
      };
      "eve_vision_settle": { Args: { "id": string; "tokens"?: number }; Returns: Json };
      "eve_vision_stats": { Args: { "actor": Json; "days"?: number; "tenant_id"?: string }; Returns: Json };
      "eve_webhook_add": {
        Args: {
          "consumer"?: string;
          "consumer_id"?: string;
          "description"?: string;
          "id": string;
          "secret": string;
          "secret_last_four": string;
          "types": (string)[];
          "url": string;
        };
        Returns: Json;
      };
      "eve_webhook_change": {
        Args: { "id": string; "is_active"?: boolean; "types"?: (string)[] };
        Returns: Json;
      };
      "eve_webhook_ciphertexts": { Args: Record<PropertyKey, never>; Returns: Json };
      "eve_webhook_deliveries": {
        Args: {
          "at_most"?: number;
          "before"?: number;
          "delivery_id"?: number;
          "id": string;
          "state"?: string;
        };
        Returns: Json;
      };
      "eve_webhook_redeliver": {
        Args: { "delivery_id"?: number; "id": string; "since"?: string };
        Returns: Json;
      };
      "eve_webhook_reencrypt": { Args: { "tokens": Json }; Returns: number };
      "eve_webhook_remove": { Args: { "id": string }; Returns: Json };
      "eve_webhook_rotate": {
        Args: { "grace_s"?: number; "id": string; "secret": string; "secret_last_four": string };
        Returns: Json;
      };
      "eve_webhook_test": { Args: { "id": string }; Returns: Json };
      "eve_webhooks": { Args: { "consumer"?: string }; Returns: Json };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "public": {
    Enums: {},
  },
} as const;
