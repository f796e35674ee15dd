-- Learning from estimates only.
--
-- Upstream's own count is booked as if it were an estimate, and comes true to the token. Taken for an estimate it would teach
-- that estimates need no factor, and where prompts are counted most, the factor would be forgotten.

create or replace function eve.learn_estimate(model text, request_no bigint, estimated integer, counted integer)
returns void
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_one_in constant bigint := (select s.value from eve.settings s where s.name = 'learn_one_in');
begin
  -- Small prompts are mostly overhead that the estimate does not see. What is true to the token was counted, not estimated.
  if v_one_in <= 0 or learn_estimate.request_no % v_one_in <> 0 or learn_estimate.estimated < 20
    or learn_estimate.counted is null or learn_estimate.counted < 20 or learn_estimate.counted = learn_estimate.estimated then
    return;
  end if;
  update public.google_ai_model_limits m
  set estimate_factor = greatest(0.5, least(2,
    m.estimate_factor * exp(
      greatest(-0.02, least(0.02, 0.1 * ln(learn_estimate.counted / (learn_estimate.estimated * m.estimate_factor))))
    )
  ))
  where m.model in (
    select free.model
    from public.google_ai_model_limits free
    where free.model = learn_estimate.model
    for update skip locked
  );
end;
$$;
