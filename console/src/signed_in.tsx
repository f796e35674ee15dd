import "@mantine/core/styles.layer.css";
import "@mantine/notifications/styles.layer.css";
import { Notifications } from "@mantine/notifications";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense } from "react";
import { Redirect, Route, Router, Switch } from "wouter";
import { useHashLocation } from "wouter/use-hash-location";
import { ApiError } from "./api/api.ts";
import { useConsole } from "./console_context.tsx";
import { SignInAgain } from "./pages/sign_in_again.tsx";
import { NotAdministrator } from "./pages/not_administrator.tsx";
import { PageBoundary } from "./parts/error_boundary.tsx";
import { ErrorState } from "./parts/states.tsx";
import { Waiting } from "./parts/waiting.tsx";
import { Shell } from "./shell.tsx";

const OverviewPage = lazy(() => import("./pages/overview.tsx"));
const KeysPage = lazy(() => import("./pages/keys.tsx"));
const ProvidersPage = lazy(() => import("./pages/providers.tsx"));
const QuotaPage = lazy(() => import("./pages/quota.tsx"));
const RequestsPage = lazy(() => import("./pages/requests.tsx"));
const ConsumersPage = lazy(() => import("./pages/consumers.tsx"));
const ChatsPage = lazy(() => import("./pages/chats.tsx"));
const JobsPage = lazy(() => import("./pages/jobs.tsx"));
const VisionPage = lazy(() => import("./pages/vision.tsx"));
const GraphPage = lazy(() => import("./pages/graph.tsx"));
const UsagePage = lazy(() => import("./pages/usage.tsx"));
const StoragePage = lazy(() => import("./pages/storage.tsx"));
const AlertsPage = lazy(() => import("./pages/alerts.tsx"));
const PlaygroundPage = lazy(() => import("./pages/playground.tsx"));

/** The pages, for who may see them. */
export default function SignedIn() {
  return (
    <>
      <Notifications position="bottom-right" />
      <Pages />
      <SignInAgain />
    </>
  );
}

function Pages() {
  const { api } = useConsole();
  const me = useQuery({
    queryKey: ["me"],
    queryFn: ({ signal }) => api.get("/me", {}, signal),
    staleTime: 60_000,
  });
  const problem = me.error ?? me.failureReason;
  const status = problem instanceof ApiError ? problem.status : undefined;
  if (status === 403) return <NotAdministrator />;
  // Who it is stays known when a later look fails.
  if (me.data === undefined) {
    return problem && status !== 401
      ? <ErrorState error={problem} retry={() => me.refetch()} />
      : <Waiting />;
  }
  return (
    <Router hook={useHashLocation}>
      <Shell me={me.data}>
        <PageBoundary>
          <Suspense fallback={<Waiting />}>
            <Switch>
              <Route path="/overview" component={OverviewPage} />
              <Route path="/keys/:what?/:name?">{(given) => <KeysPage given={given} />}</Route>
              <Route path="/providers" component={ProvidersPage} />
              <Route path="/quota" component={QuotaPage} />
              <Route path="/requests/:no?">{({ no }) => <RequestsPage requestNo={no} />}</Route>
              <Route path="/consumers" component={ConsumersPage} />
              <Route path="/chats/:id?">{({ id }) => <ChatsPage chatId={id} />}</Route>
              <Route path="/jobs/:what?/:name?">{(given) => <JobsPage given={given} />}</Route>
              <Route path="/vision" component={VisionPage} />
              <Route path="/graph/*?">{({ "*": address }) => <GraphPage address={address} />}</Route>
              <Route path="/usage" component={UsagePage} />
              <Route path="/storage" component={StoragePage} />
              <Route path="/alerts" component={AlertsPage} />
              <Route path="/playground" component={PlaygroundPage} />
              <Route>
                <Redirect to="/overview" replace />
              </Route>
            </Switch>
          </Suspense>
        </PageBoundary>
      </Shell>
    </Router>
  );
}
