import { Center, Loader } from "@mantine/core";
import type { Session } from "@supabase/supabase-js";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Redirect, Route, Router, Switch } from "wouter";
import { useHashLocation } from "wouter/use-hash-location";
import { ApiError } from "./api/api.ts";
import { useConsole } from "./console_context.tsx";
import { NotAdministrator } from "./pages/not_administrator.tsx";
import { ProvidersPage } from "./pages/providers.tsx";
import { SignInPage } from "./pages/sign_in.tsx";
import { ErrorState } from "./parts/states.tsx";
import { Shell } from "./shell.tsx";

const QuotaPage = lazy(() => import("./pages/quota.tsx"));
const RequestsPage = lazy(() => import("./pages/requests.tsx"));
const ConsumersPage = lazy(() => import("./pages/consumers.tsx"));
const ChatsPage = lazy(() => import("./pages/chats.tsx"));
const JobsPage = lazy(() => import("./pages/jobs.tsx"));
const UsagePage = lazy(() => import("./pages/usage.tsx"));
const StoragePage = lazy(() => import("./pages/storage.tsx"));
const AlertsPage = lazy(() => import("./pages/alerts.tsx"));
const PlaygroundPage = lazy(() => import("./pages/playground.tsx"));

/** Undefined until it is known whether somebody is signed in. */
function useSession(): Session | null | undefined {
  const { supabase } = useConsole();
  const [session, setSession] = useState<Session | null>();
  useEffect(() => {
    supabase.auth.getSession().then(({ data }) => setSession(data.session));
    const { data } = supabase.auth.onAuthStateChange((_event, next) => setSession(next));
    return () => data.subscription.unsubscribe();
  }, [supabase]);
  return session;
}

export function App() {
  const session = useSession();
  const queries = useQueryClient();
  const userId = session?.user.id;
  useEffect(() => {
    // What one person saw is not shown to the next one.
    if (session === null) queries.clear();
  }, [session, queries]);
  if (session === undefined) return <Waiting />;
  return session === null ? <SignInPage /> : <SignedIn key={userId} />;
}

function SignedIn() {
  const { api, supabase } = useConsole();
  const me = useQuery({
    queryKey: ["me"],
    queryFn: ({ signal }) => api.get("/me", {}, signal),
    staleTime: 60_000,
  });
  const status = me.error instanceof ApiError ? me.error.status : undefined;
  useEffect(() => {
    // The session is over or was ended elsewhere.
    if (status === 401) supabase.auth.signOut({ scope: "local" });
  }, [status, supabase]);
  if (status === 403) return <NotAdministrator />;
  if (me.isPending || status === 401) return <Waiting />;
  if (me.error) return <ErrorState error={me.error} retry={() => me.refetch()} />;
  return (
    <Router hook={useHashLocation}>
      <Shell me={me.data}>
        <Suspense fallback={<Waiting />}>
          <Switch>
            <Route path="/providers" component={ProvidersPage} />
            <Route path="/quota" component={QuotaPage} />
            <Route path="/requests/:no?">{({ no }) => <RequestsPage requestNo={no} />}</Route>
            <Route path="/consumers" component={ConsumersPage} />
            <Route path="/chats/:id?">{({ id }) => <ChatsPage chatId={id} />}</Route>
            <Route path="/jobs" component={JobsPage} />
            <Route path="/usage" component={UsagePage} />
            <Route path="/storage" component={StoragePage} />
            <Route path="/alerts" component={AlertsPage} />
            <Route path="/playground" component={PlaygroundPage} />
            <Route>
              <Redirect to="/providers" replace />
            </Route>
          </Switch>
        </Suspense>
      </Shell>
    </Router>
  );
}

function Waiting() {
  const { t } = useTranslation();
  return (
    <Center mih="40vh">
      <Loader role="status" aria-label={t("loading")} />
    </Center>
  );
}
