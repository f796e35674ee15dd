-- The models of Google's free tier (requests a minute, input tokens a minute, requests a day). A row that is there already
-- keeps its limits: they are the owner's. What adoption added to it without knowing the model is set right.
insert into public.google_ai_model_limits as m (model, rpm, tpm, rpd, supports_thinking, image_tokens) values
  ('gemma-4-31b-it', 30, 16000, 14400, true, 1120),
  ('gemma-4-26b-a4b-it', 30, 16000, 14400, true, 1120),
  ('gemini-3.5-flash-lite', 15, 250000, 500, true, 1120),
  ('gemini-3.5-flash', 5, 250000, 20, true, 1120),
  ('gemini-2.5-flash', 5, 250000, 20, true, 1120),
  ('gemini-embedding-001', 100, 30000, 1000, false, 1120),
  ('gemma-3-27b', 30, 15000, 14400, false, 256),
  ('gemma-3-27b-it', 30, 15000, 14400, false, 256)
on conflict (model) do update
set supports_thinking = excluded.supports_thinking, image_tokens = excluded.image_tokens
where not m.supports_thinking and m.image_tokens = 1120
  and (excluded.supports_thinking, excluded.image_tokens) is distinct from (m.supports_thinking, m.image_tokens);

-- Gemma 3 has left the Gemini API (404 since May 2026): its name goes on working and is served by its successor. It took no
-- system text, no tools and no JSON mode.
update public.google_ai_model_limits
set replaced_by = 'gemma-4-31b-it', supports_system = false, supports_json = false, supports_tools = false
where model in ('gemma-3-27b', 'gemma-3-27b-it') and replaced_by is null;
